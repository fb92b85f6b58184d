"""What a job costs as things grow: `make bench-scale` writes the tables and curves of docs/performance-scale.md.

Seven axes: jobs that wait, jobs at a time, channels of a worker, bytes of a message, worker processes, scheduled jobs
that are due at once, and those spread over a time. Each point is a drain that is watched for two seconds once it runs,
from outside: processor time of the workers and of the server, and time, for each job. Each axis is written when it is
done, so that a run that was ended keeps those before. `--rounds 1` takes about a quarter of an hour; `--small` takes
the smaller points, one round, and writes nothing; `--only backlog,channels` some of the axes; `--point 1000` one point
of each, one round, and prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import django

from .curves import curves, short
from .draining import PATIENCE, Drain, channels_of, empty, idle, ready, sending, stock
from .environments import ROOT
from .measure import Server, wait_until
from .tables import markdown

DOCUMENT, IMAGES = ROOT / "docs" / "performance-scale.md", ROOT / "docs" / "images"
#: Jobs that a point needs: what a worker runs while it is watched, and more.
JOBS = 60_000
#: Of scheduled jobs: seconds for a worker to start; so many jobs tell how long storing takes.
START_SECONDS, SAMPLE = 6.0, 5_000
#: So often they are stored, each time with twice as long until they are due.
TRIES = 3
#: What a script may take the server (microseconds).
SCRIPT_US = 5000
#: What is shorter isn't put into the slow log: commands inside scripts are, each for itself, and would take the server
#: more than the jobs do.
LOGGED_US = 300

Point = Mapping[str, float]
#: Title and format of the columns that an axis may have.
COLUMNS: dict[str, tuple[str, str]] = {
    "worker": ("worker, us", ".1f"),
    "server": ("server, us", ".1f"),
    "wall": ("time, us", ".1f"),
    "rate": ("jobs/s", ",.0f"),
    "trips": ("requests", ".3f"),
    "commands": ("commands", ".2f"),
    "sender": ("enqueue: sender, us", ".1f"),
    "sending": ("enqueue: server, us", ".1f"),
    "bytes": ("bytes in the store", ",.0f"),
    "idle_cpu": ("idle: worker, %", ".2f"),
    "idle_server": ("idle: server, %", ".2f"),
    "idle_commands": ("idle: commands/s", ",.0f"),
    "memory": ("idle: MiB", ".0f"),
    "seconds": ("all ready after, s", ".1f"),
    "scripts": ("scripts while they were", ",.0f"),
    "longest": ("longest script, us", ",.0f"),
    "mean": ("mean script, us", ",.0f"),
    "over": ("scripts over 5 ms", ",.0f"),
}


@dataclass(frozen=True, slots=True)
class Axis:
    name: str
    title: str
    across: str
    points: Sequence[int]
    measure: Callable[[Server, int], Point]
    columns: Sequence[str]
    #: Those of the curves, by what they are called there.
    lines: Mapping[str, str]
    #: Points up to this one are measured by `--small`.
    small: int


COSTS = {"worker": "worker processes' CPU", "server": "server's CPU", "wall": "time"}


def backlog(server: Server, waiting: int) -> Point:
    before = server.memory()
    stock(["noop"], waiting)
    size = (server.memory() - before) / waiting
    sent = sending(server, 2000)
    stock(["noop"], JOBS)
    return {**Drain(server, ["noop"], rest=waiting).cost(100), **sent, "bytes": size}


def concurrency(server: Server, at_once: int) -> Point:
    stock(["noop"], JOBS)
    return Drain(server, ["noop"]).cost(at_once)


def channels(server: Server, number: int) -> Point:
    names = channels_of(number)
    still = idle(server, names)
    empty(server)
    stock(names, JOBS)
    return {**Drain(server, names).cost(max(1, 100 // number)), **still}


def payload(server: Server, size: int) -> Point:
    sent = sending(server, 500, size=size)
    stock(["noop"], min(JOBS, 500_000_000 // size), size=size)
    return {**Drain(server, ["noop"]).cost(100), **sent}


def processes(server: Server, number: int) -> Point:
    stock(["noop"], 2 * JOBS)
    return Drain(server, ["noop"]).cost(100, number)


def due_at_once(server: Server, jobs: int) -> Point:
    return scheduled(server, jobs, spread=0)


def due_over_20_s(server: Server, jobs: int) -> Point:
    return scheduled(server, jobs, spread=20)


def scheduled(server: Server, jobs: int, spread: float) -> Point:
    """`jobs` become due, all at once or evenly over `spread` seconds, while a worker runs what is due. RuntimeError
    when the first of them was due before all were stored and the worker was ready, however long that was given."""
    seconds = START_SECONDS + 2 * jobs * storing()
    for _ in range(TRIES):
        empty(server)
        due = _now(server) + seconds
        schedule(jobs, due, spread)
        if _now(server) + START_SECONDS / 2 < due:
            with server.apart(), server.first(), ready(server, ["noop"], 100):
                if _now(server) < due and server.client.zcard(_scheduled()) == jobs:
                    return promotion(server, due, spread)
        seconds *= 2
    raise RuntimeError(
        f"{jobs} jobs were due before all were stored and a worker ran: half of {seconds:g} s is too short"
    )


def storing() -> float:
    """Seconds for each of many jobs."""
    began = time.monotonic()
    schedule(SAMPLE, datetime.now(UTC).timestamp() + 86_400, 0)
    return (time.monotonic() - began) / SAMPLE


def schedule(jobs: int, due: float, spread: float) -> None:
    from retrying import enqueue_many

    message = {"type": "no.op"}
    run_ats = (datetime.fromtimestamp(due + spread * random.random(), UTC) for _ in range(jobs))
    enqueue_many("noop", ((message, {"run_at": run_at}) for run_at in run_ats))


def promotion(server: Server, due: float, spread: float) -> Point:
    """What the scripts take from `due` on, by the server's slow log, until no job is scheduled. A worker runs."""
    client, key = server.client, _scheduled()
    kept = client.config_get("slowlog-log-slower-than", "slowlog-max-len")
    client.config_set("slowlog-max-len", 1_000_000, "slowlog-log-slower-than", LOGGED_US)
    wait_until(lambda: _now(server) >= due - 0.05, PATIENCE + due - _now(server), every=0.01)
    client.slowlog_reset()
    before, patience = client.info("commandstats")["cmdstat_evalsha"], 300 + spread
    if not wait_until(lambda: client.zcard(key) == 0, patience, every=0.05):
        raise RuntimeError(f"{client.zcard(key)} jobs are scheduled still, {patience} s after they were due")
    took, after = _now(server) - due, client.info("commandstats")["cmdstat_evalsha"]
    client.config_set("slowlog-log-slower-than", -1)
    told = client.slowlog_get(1_000_000)
    for name, value in kept.items():
        client.config_set(str(name), str(value))
    times = [entry["duration"] for entry in told if entry["command"].startswith(b"EVALSHA")]
    scripts = after["calls"] - before["calls"]
    return {
        "seconds": took, "scripts": scripts, "mean": (after["usec"] - before["usec"]) / scripts,
        "longest": max(times, default=LOGGED_US), "over": sum(each > SCRIPT_US for each in times),
    }  # fmt: skip


def _now(server: Server) -> float:
    """By the server's clock, which says what is due."""
    seconds, microseconds = server.client.time()
    return float(seconds + microseconds / 1e6)


def _scheduled() -> str:
    from retrying.layers import get_layer

    return str(get_layer().store.keys("noop").all[2])


AXES = {
    axis.name: axis
    for axis in (
        Axis(
            "backlog", "Jobs that wait", "jobs waiting",
            (1, 1000, 10_000, 100_000, 1_000_000, 3_000_000), backlog,
            ("worker", "server", "wall", "sender", "sending", "bytes"),
            {**COSTS, "sending": "server's CPU, to enqueue one"}, small=100_000,
        ),
        Axis(
            "concurrency", "Jobs at a time", "--concurrency",
            (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000), concurrency,
            ("worker", "server", "wall", "trips", "commands"), COSTS, small=1000,
        ),
        Axis(
            "channels", "Channels of one worker", "channels, 100 jobs at a time over all (one each from 100 on)",
            (1, 3, 10, 30, 100, 300, 1000), channels,
            ("worker", "server", "wall", "trips", "idle_cpu", "idle_server", "idle_commands", "memory"), COSTS,
            small=300,
        ),
        Axis(
            "payload", "Bytes of a message", "bytes",
            (100, 1000, 4096, 16_384, 65_536), payload,
            ("worker", "server", "wall", "sender", "sending"),
            {**COSTS, "sender": "sender's CPU, to enqueue one"}, small=65_536,
        ),
        Axis(
            "processes", "Worker processes", "processes on one machine",
            (1, 2, 4, 8), processes, ("worker", "server", "wall", "rate", "trips"), COSTS, small=8,
        ),
        Axis(
            "due", "Scheduled jobs that are due at once", "jobs",
            (10_000, 100_000, 1_000_000), due_at_once, ("seconds", "scripts", "mean", "longest", "over"),
            {"longest": "longest script", "mean": "mean script"}, small=10_000,
        ),
        Axis(
            "spread", "Scheduled jobs that become due over 20 s", "jobs",
            (10_000, 100_000, 1_000_000), due_over_20_s, ("seconds", "scripts", "mean", "longest", "over"),
            {"longest": "longest script", "mean": "mean script"}, small=10_000,
        ),
    )
}  # fmt: skip


def median(rounds: Sequence[Point]) -> Point:
    found = {name: statistics.median(point[name] for point in rounds) for name in rounds[0]}
    return {**found, **({"rate": 1e6 / found["wall"]} if "wall" in found else {})}


def table(axis: Axis, points: Mapping[int, Point]) -> str:
    titles = [COLUMNS[name] for name in axis.columns]
    rows = [
        [f"{x:,}", *(format(point[name], form) for name, (_, form) in zip(axis.columns, titles, strict=True))]
        for x, point in points.items()
    ]
    return markdown([axis.across.partition(",")[0], *(title for title, _ in titles)], rows)


def write(axis: Axis, points: Mapping[int, Point], rounds: int, note: str) -> None:
    """The axis' table in the document, between its two lines, and its curves."""
    IMAGES.mkdir(exist_ok=True)
    data = {said: [(float(x), point[name]) for x, point in points.items()] for name, said in axis.lines.items()}
    unit = "microseconds" if "longest" in axis.lines else "microseconds a job"
    (IMAGES / f"scale-{axis.name}.svg").write_text(curves(axis.title, axis.across, unit, data))
    begin, end = f"<!-- {axis.name}: written by make bench-scale -->", "<!-- end -->"
    text = DOCUMENT.read_text()
    if begin not in text:
        raise ValueError(f"{DOCUMENT.name} has no line {begin!r}, after which the figures go")
    head, _, rest = text.partition(begin)
    when = (
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {os.cpu_count()} processors, "
        f"median of {rounds} round{'s' if rounds > 1 else ''}.{note and ' '}{note}"
    )
    image = f"![{axis.title}](images/scale-{axis.name}.svg)"
    body = f"{table(axis, points)}\n\n{image}\n\n{when}"
    DOCUMENT.write_text(f"{head}{begin}\n\n{body}\n\n{end}{rest.partition(end)[2]}")


def measure(server: Server, axis: Axis, chosen: Sequence[int], rounds: int) -> dict[int, Point]:
    found: dict[int, list[Point]] = {x: [] for x in chosen}
    for number in range(rounds):
        for x in random.Random(number).sample(chosen, len(chosen)):
            empty(server)
            began = time.monotonic()
            try:
                found[x].append(axis.measure(server, x))
            except RuntimeError as error:
                print(f"{axis.name} {short(x)}: {error}", file=sys.stderr)
            took = time.monotonic() - began
            print(f"{axis.name} {short(x)}: round {number + 1}, {took:.0f} s", file=sys.stderr, flush=True)
    return {x: median(points) for x, points in found.items() if points}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-scale", description="What a job costs as things grow.")
    parser.add_argument("--small", action="store_true", help="some minutes; writes nothing")
    parser.add_argument("--only", default=",".join(AXES), help=f"some of {','.join(AXES)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--note", default="", help="what else is to be known of this run, to stand below its tables")
    parser.add_argument("--point", type=int, help="this one only, as JSON")
    options = parser.parse_args()
    unknown = set(options.only.split(",")) - AXES.keys()
    if unknown:
        parser.error(f"--only takes some of {', '.join(AXES)}, not {', '.join(unknown)}")
    kept = not options.small and options.point is None
    rounds = options.rounds if kept else 1
    complete = True
    with Server() as server:
        os.environ.update(DJANGO_SETTINGS_MODULE="benchmarks.noop.settings", REDIS_URL=server.url)
        django.setup()
        for name in options.only.split(","):
            axis = AXES[name]
            chosen = [x for x in axis.points if not options.small or x <= axis.small]
            points = measure(server, axis, [options.point] if options.point else chosen, rounds)
            complete = complete and len(points) == (len(chosen) if options.point is None else 1)
            if options.point:
                print(json.dumps({name: points}))
            elif points:
                print(f"\n{axis.title}\n\n{table(axis, points)}\n", flush=True)
                if kept:
                    write(axis, points, rounds, options.note)
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
