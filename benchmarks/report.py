"""Writes what was measured: the JSON file, the tables of docs/performance.md, its charts, the README's table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .catalogue import OURS, PORTION, Peer
from .claims import claims
from .environments import ROOT
from .plots import Bar, bars
from .results import Key, Results
from .tables import (
    CRASH,
    LATENCY,
    PERSISTENCE,
    PORTIONS,
    PROCESSES,
    SENDING,
    SPEED,
    WORKING,
    Column,
    markdown,
    milliseconds,
    ordered,
    settings,
    short,
    shown,
    table,
    whole,
)

DOCUMENT, README, IMAGES = ROOT / "docs" / "performance.md", ROOT / "README.md", ROOT / "docs" / "images"
#: What stands between these lines is written here; the rest of the files is written by hand.
BEGIN, END = "<!-- figures: written by `make bench` -->", "<!-- end of figures -->"

CHARTS = {
    "drain": ("No-op jobs run per second, one worker process", "jobs/s", SPEED[0]),
    "cpu": ("Processor time of the worker per 1,000 no-op jobs", "ms; less is better", SPEED[2]),
    "enqueue": ("Jobs sent per second, one after another", "jobs/s", SENDING[0]),
    "bulk": ("Jobs sent per second by the call for many", "jobs/s", SENDING[2]),
    "latency": ("From a send to the job's first line on an idle worker, median", "ms; less is better", SPEED[3]),
}

HOW_TO_READ = """\
Medians of the rounds (up to 3, of sending 5 where figures are close; see the JSON), ± is half the range over the
median. Every line was measured in one run with the others, in another order each round, unless it has a †. Those whose
sending is compared closely send in turns of 0.06 s. Peers run at the best settings that we found, listed below;
[`benchmarks/README.md`](../benchmarks/README.md) says how each figure is taken, and how to repeat one."""

LATENCIES = """\
From just before a send to the first line of its job, on a worker that has nothing else to do: up to 2,000 sends, some
4 ms apart (10 ms where a job alone takes a worker longer than one). `raw pop` is a blocking pop and a push
without any queue, what this machine and redis-py need by themselves."""

TWO_PROCESSES = """\
*Cores busy*: how many of the machine's the workers and Valkey kept busy during the drain, after the slash Valkey alone,
which uses one at most. *Cores waited for*: how many more they could have used, being ready to run while every core was
taken (above 0 with an idle core in the other column: they take turns); after the slash Valkey alone. Jobs of 1 ms of
processor time need little of Valkey: what a second process is worth where there is a core for it. Rates of two count
from when both run jobs to when one has no more."""

PORTIONED = f"""\
No-op jobs once more where the workers and Valkey have a core each, if slow ones: Valkey has one to itself, and each
worker is held to {PORTION:.0%} of another one, so that two of them have what they need, too."""

KILLED = """\
600 jobs of 20 ms at concurrency 10 (1 where a worker takes one at a time). The worker's whole process tree is killed
after 300, and a new one starts at once: the last of all began so many seconds after the kill."""


def write(results: Results, peers: dict[str, Peer]) -> None:
    """All of it. Figures that are missing are left out."""
    results.save()
    IMAGES.mkdir(exist_ok=True)
    for name, (title, unit, column) in CHARTS.items():
        data = chart(results, peers, column)
        if data:
            (IMAGES / f"performance-{name}.svg").write_text(bars(title, unit, data, cut=_cut(data)))
    place(DOCUMENT, document(results, peers), otherwise="# Performance\n\n")
    place(README, summary(results, peers), otherwise=None)


def place(path: Path, text: str, *, otherwise: str | None) -> None:
    """Put `text` between the two lines of the file. Without a file, or without the lines: behind `otherwise`, or (None)
    nowhere."""
    old = path.read_text() if path.exists() else otherwise
    if old is None or (BEGIN not in old and otherwise is None):
        return
    if BEGIN not in old:
        old = f"{old.rstrip()}\n\n{BEGIN}\n{END}\n"
    head, _, rest = old.partition(BEGIN)
    path.write_text(f"{head}{BEGIN}\n\n{text.strip()}\n\n{END}{rest.partition(END)[2]}")


def chart(results: Results, peers: dict[str, Peer], column: Column) -> list[Bar]:
    """A bar for every variant with this figure, the best first; no rate of the floor, which dwarfs every other."""
    data = []
    for peer, variant in ordered(results, peers, column):
        figure = results.figure(Key(peer.name, variant.name, column.measure), column.names[0])
        if figure is not None and (peer.name != "raw" or column.format is not whole):
            kind = "floor" if peer.name == "raw" else "survives" if peer.survives else "loses"
            label = f"{shown(peer.name)} {variant.name}"
            scale = 1000 if column.format is milliseconds else 1
            data.append(Bar(label, figure.median * scale, figure.spread, "ours" if peer.name == OURS else kind))
    return sorted(data, key=lambda bar: bar.value, reverse=column.format is whole)


def _cut(data: Sequence[Bar]) -> float:
    """Where bars end: what is far slower than the rest would make the others too short to compare."""
    values = sorted(bar.value for bar in data if bar.kind != "floor")
    return min(values[-1], 4 * values[len(values) // 2]) * 1.02 if values else 0.0


def document(results: Results, peers: dict[str, Peer]) -> str:
    """The part of docs/performance.md that is figures."""
    parts = [
        "## Measured",
        _when(results),
        HOW_TO_READ,
        "### Running jobs",
        "![Drain](images/performance-drain.svg)",
        table(results, peers, SPEED),
        "![Processor time](images/performance-cpu.svg)",
        "### Sending jobs",
        "![Enqueue](images/performance-enqueue.svg)",
        table(results, peers, SENDING),
        "![Bulk](images/performance-bulk.svg)",
        "### Latency",
        LATENCIES,
        "![Latency](images/performance-latency.svg)",
        table(results, peers, LATENCY),
        "### Two worker processes",
        TWO_PROCESSES,
        table(results, peers, PROCESSES, of="two"),
        PORTIONED,
        table(results, peers, PORTIONS, of="portions"),
        "### What a job and an idle worker cost",
        "For each job of the drain, and for a worker that has nothing to do.",
        table(results, peers, WORKING, by=SPEED[0]),
        "### With persistence",
        table(results, peers, PERSISTENCE),
        "### After kill -9",
        KILLED + _killed(results),
        table(results, peers, CRASH),
        _after_kill(peers),
        "### What these figures are held to",
        claims(results, peers),
        "### Versions and settings",
        settings(results, peers),
        _failures(results),
    ]
    return "\n\n".join(part for part in parts if part)


def _when(results: Results) -> str:
    facts = results.runs[results.newest]
    return (
        f"{facts['date']}: {facts['cores']} cores ({facts['processor']}), {facts['memory']}, {facts['system']}, "
        f"{facts['python']}, {facts['server']} on loopback without persistence unless a column names it; "
        f"load average {facts['load']} when it began. Commit {facts.get('commit') or 'unknown'}."
    )


def _killed(results: Results) -> str:
    others = any(key.measure == "crash" and key.peer != OURS for key in results.cells)
    return "" if others else " Peers are killed only by `make bench ARGS=--crash`, which takes them minutes each."


def _after_kill(peers: dict[str, Peer]) -> str:
    """What is known of each peer's defaults, measured or by its documentation and source."""
    rows = [[shown(peer.name), peer.after_kill] for peer in peers.values() if peer.name != "raw"]
    return "What follows at the defaults, as measured before or as documented:\n\n" + (
        "\n".join(f"- {name}: {text}" for name, text in rows)
    )


def _failures(results: Results) -> str:
    lines = [
        f"- {shown(key.peer)} {key.variant}, {key.measure}: {' '.join(measured.failed.split())[:300]}"
        for key, measured in sorted(results.cells.items())
        if measured.failed
    ]
    return "### What failed\n\n" + "\n".join(lines) if lines else ""


#: The README's rows: what it is, whose, and which variant. A peer's best is found, not named.
SHOWN = (
    ("**`BackgroundConsumer`**", OURS, "background"),
    ("**unmodified `AsyncConsumer`**", OURS, "consumer"),
    ("**async task of Django**", OURS, "task-async"),
)


def _floor(results: Results) -> str:
    """What any latency here stands beside."""
    p50, p99 = (results.figure(Key("raw", "pop", "latency"), name) for name in ("p50", "p99"))
    return f"; a bare blocking pop takes {short(p50.median)} / {short(p99.median)} ms" if p50 and p99 else ""


def summary(results: Results, peers: dict[str, Peer]) -> str:
    """The README's table: with the persistence that one would use."""
    kept = "everysec"
    drain = Column("drain/s", "persistence", ("rate",), whole, persistence=kept)
    columns = (
        drain,
        Column("sent/s, one by one", "persistence", ("one",), whole, persistence=kept),
        Column("sent/s, bulk", "persistence", ("many",), whole, persistence=kept),
        Column("idle latency p50 / p99, ms", "latency", ("p50", "p99"), short),
        Column("worker CPU, ms per 1,000", "drain", ("worker_cpu",), SPEED[2].format),
    )
    rows = [(text, peer, variant) for text, peer, variant in SHOWN if Key(peer, variant, "drain") in results.cells]
    for peer, variant in ordered(results, peers, drain):
        if peer.name not in (OURS, "raw") and results.figure(Key(peer.name, variant.name, "persistence", kept), "rate"):
            rows.append((f"{peer.name} {variant.name}", peer.name, variant.name))
    body = markdown(
        ["", *(column.title for column in columns), "after `kill -9`"],
        [
            [text, *(column.text(results, peer, variant) for column in columns), peers[peer].after_kill]
            for text, peer, variant in rows
        ],
    )
    facts = results.runs[results.newest]
    return (
        f"{body}\n\nOne worker process, no-op jobs, `appendfsync everysec` (latency and processor time without), on "
        f"{facts['cores']} cores, {facts['python']}, {facts['server']}, {facts['date'][:10]}; peers at the best "
        f"settings that we found{_floor(results)}. `make bench` repeats it; "
        "[all figures, settings and caveats](docs/performance.md)."
    )
