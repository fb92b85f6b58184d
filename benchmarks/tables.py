"""The tables: which figures stand in which column, in which words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .catalogue import OURS, Peer, Variant
from .measure import Figure
from .results import Key, Results

NOTHING = "-"
Format = Callable[[float], str]


def whole(value: float) -> str:
    return f"{value:,.0f}"


def short(value: float) -> str:
    """Three digits at least."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def milliseconds(value: float) -> str:
    """Of seconds."""
    return short(value * 1000)


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of each row; several names are shown with a slash between them."""

    title: str
    measure: str
    names: tuple[str, ...]
    format: Format = short
    spread: bool = False
    persistence: str = "off"
    #: Less is better: peers are ordered so.
    low: bool = False

    def text(self, results: Results, peer: str, variant: str) -> str:
        key = Key(peer, variant, self.measure, self.persistence)
        figures = [results.figure(key, name) for name in self.names]
        if all(figure is None for figure in figures):
            return "failed" if key in results.cells and results.cells[key].failed else NOTHING
        shown = " / ".join(NOTHING if figure is None else self.format(figure.median) for figure in figures)
        first = next(figure for figure in figures if figure is not None)
        if self.spread and first.rounds > 1:
            shown += f" ±{first.spread * 100:.0f}%"
        return shown


SPEED = (
    Column("drain/s", "drain", ("rate",), whole, spread=True),
    Column("two processes", "two", ("rate",), whole),
    Column("worker CPU, ms per 1,000", "drain", ("worker_cpu",), milliseconds),
    Column("idle latency p50 / p99, ms", "latency", ("p50", "p99")),
    Column("2,000 x 50 ms, s (ideal: 1)", "sleep", ("wall",)),
    Column("idle worker, MiB", "latency", ("idle_memory",), whole),
)
LATENCY = (
    Column("p50, ms", "latency", ("p50",), low=True),
    Column("p99, ms", "latency", ("p99",)),
    Column("sends", "latency", ("sends",), whole),
)
PROCESSES = (
    Column("one process/s", "drain", ("rate",), whole),
    Column("cores busy", "drain", ("cores", "server_cores")),
    Column("cores waited for", "drain", ("waiting", "server_waiting")),
    Column("two processes/s", "two", ("rate",), whole),
    Column("cores busy", "two", ("cores", "server_cores")),
    Column("cores waited for", "two", ("waiting", "server_waiting")),
    Column("jobs of 1 ms: one process/s", "busy", ("one",), whole),
    Column("cores busy", "busy", ("one_cores",)),
    Column("two processes/s", "busy", ("two",), whole),
    Column("cores busy", "busy", ("two_cores",)),
)
PORTIONS = (
    Column("one process/s", "portions", ("one",), whole, spread=True),
    Column("cores busy", "portions", ("one_cores", "one_server")),
    Column("two processes/s", "portions", ("two",), whole, spread=True),
    Column("cores busy", "portions", ("two_cores", "two_server")),
)
SENDING = (
    Column("one after another/s", "enqueue", ("one",), whole, spread=True),
    Column("100 at once/s", "enqueue", ("gather",), whole),
    Column("bulk/s", "enqueue", ("many",), whole, spread=True),
    Column("producer CPU, ms per 1,000", "enqueue", ("producer_cpu",), milliseconds),
    Column("server CPU, ms per 1,000", "enqueue", ("server_cpu",), milliseconds),
    Column("round trips", "enqueue", ("trips",)),
    Column("commands", "enqueue", ("commands",)),
    Column("bytes kept", "enqueue", ("bytes",), whole),
)
WORKING = (
    Column("round trips", "drain", ("trips",)),
    Column("commands", "drain", ("commands",)),
    Column("server CPU, ms per 1,000", "drain", ("server_cpu",), milliseconds),
    Column("worker MiB: idle", "latency", ("idle_memory",), whole),
    Column("after the drain", "drain", ("memory",), whole),
    Column("run twice", "drain", ("repeats",), whole),
    Column("run twice, two processes", "two", ("repeats",), whole),
    Column("idle: CPU %", "latency", ("idle_cpu",)),
    Column("idle: round trips/s", "latency", ("idle_trips",)),
    Column("idle: commands/s", "latency", ("idle_commands",)),
)
CRASH = (
    Column("under way", "crash", ("orphans",), whole),
    Column("not run", "crash", ("lost",), whole),
    Column("done, run again", "crash", ("doubled",), whole),
    Column("last began after, s", "crash", ("rescue",)),
)
PERSISTENCE = (
    *(Column(f"drain/s, {kept}", "persistence", ("rate",), whole, persistence=kept) for kept in ("everysec", "always")),
    *(
        Column(f"one after another/s, {kept}", "persistence", ("one",), whole, persistence=kept)
        for kept in ("everysec", "always")
    ),
    Column("bulk/s, everysec", "persistence", ("many",), whole, persistence="everysec"),
)


def table(
    results: Results, peers: dict[str, Peer], columns: Sequence[Column], *, by: Column | None = None, of: str = ""
) -> str:
    """Every variant that has a figure in one of the columns (in one of the measurement `of`): ours, the peers by one of
    them, the floor at last."""
    rows = [
        [_name(peer, variant, results, columns), *(column.text(results, peer.name, variant.name) for column in columns)]
        for peer, variant in ordered(results, peers, by or columns[0])
        if any(
            _key(column, peer, variant) in results.cells
            for column in columns
            if column.measure == (of or column.measure)
        )
    ]
    return markdown(["", *(column.title for column in columns)], rows)


def ordered(results: Results, peers: dict[str, Peer], column: Column) -> list[tuple[Peer, Variant]]:
    """All variants in the order of the tables."""

    def place(pair: tuple[Peer, Variant]) -> tuple[int, float]:
        peer, variant = pair
        figure = results.figure(_key(column, peer, variant), column.names[0])
        group = 0 if peer.name == OURS else 2 if peer.name == "raw" else 1
        sign = 1 if column.low else -1
        return group, sign * figure.median if figure and group == 1 else 0.0

    return sorted(((peer, variant) for peer in peers.values() for variant in peer.variants.values()), key=place)


def _key(column: Column, peer: Peer, variant: Variant) -> Key:
    return Key(peer.name, variant.name, column.measure, column.persistence)


def _name(peer: Peer, variant: Variant, results: Results, columns: Iterable[Column]) -> str:
    runs = {results.cells[key].run for column in columns if (key := _key(column, peer, variant)) in results.cells}
    other = " †" if runs - {results.newest} else ""
    name = f"{shown(peer.name)} {variant.name}"
    return f"**{name}**{other}" if peer.name == OURS else f"{name}{other}"


def shown(peer: str) -> str:
    """What readers know it by."""
    return "retrying" if peer == OURS else peer


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column is words, the others are figures."""
    lines = [head, ["---", *("--:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def settings(results: Results, peers: dict[str, Peer]) -> str:
    """How each variant ran."""
    rows = []
    for peer, variant in ordered(results, peers, SPEED[0]):
        if not any(key.peer == peer.name and key.variant == variant.name for key in results.cells):
            continue
        loop = "; uvloop" if variant.uvloop else ""
        versions = ", ".join(f"{name} {version}" for name, version in results.versions.get(peer.name, {}).items())
        first = next(iter(peer.variants)) == variant.name
        rows.append([f"{shown(peer.name)} {variant.name}", f"{variant.settings}{loop}", versions if first else ""])
    lines = [["", "settings", "versions"], ["---", "---", "---"], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def best(
    results: Results, peers: dict[str, Peer], column: Column, *, survivors: bool = False, low: bool = False
) -> tuple[str, Figure] | None:
    """The peer's variant with the highest (or lowest) figure of a column, the floor left out; None without any."""
    found = [
        (f"{peer.name} {variant.name}", figure)
        for peer in peers.values()
        if peer.name not in (OURS, "raw") and (peer.survives or not survivors)
        for variant in peer.variants.values()
        if (figure := results.figure(_key(column, peer, variant), column.names[0])) is not None
    ]
    return (min if low else max)(found, key=lambda pair: pair[1].median) if found else None
