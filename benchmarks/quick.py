"""Whether jobs have become dearer: `make bench-quick`, in under a minute.

It counts what one job costs the server, in round trips and commands (those inside scripts too), and what it costs the
process that sends or runs it, in processor time: in turns of a fixed work that is done in the same seconds, so that
figures of one machine hold on another. It fails when one of them is above those of `quick.json`; `--write` puts
today's there: counts for every Python, turns for this one.

Each figure is the least of several rounds, and none is of a clock on the wall: what else the machine does can only add.
What looks too dear gets more rounds before it counts as that. Sweeps and renewals are kept out: they come by time, not
by job. Server and jobs share one core: to wake another one takes processor time, for an enqueue as much again, or
nothing when it doesn't sleep.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import django

from benchmarks.measure import Server
from benchmarks.workloads import WORKLOADS, Workload, reference

COMMITTED = Path(__file__).with_suffix(".json")
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
ROUNDS = 6
#: No round is begun after so many seconds, unless there were fewer than these.
SECONDS, LEAST_ROUNDS = 40.0, 3
#: How much may be added to the turns.
TURNS_SLACK = 0.25
#: Round trips of a whole run by which it may differ from another one: connections are made, a worker starts and ends.
CHANCE = 8
#: Commands that a round trip brings with it at most, whatever it carries.
COMMANDS_OF_A_TRIP = 10


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one job."""

    #: Replies that the server wrote; requests that travel together are one.
    trips: float
    #: By the server, those inside scripts too.
    commands: float
    #: Processor seconds, user and system, of all threads of this process.
    cpu: float

    def least(self, other: Cost) -> Cost:
        return Cost(min(self.trips, other.trips), min(self.commands, other.commands), min(self.cpu, other.cpu))


class Measurement:
    """The least that each workload and the reference cost so far."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.costs: dict[str, Cost] = {}
        self.turn = reference()

    def round(self, workload: Workload) -> None:
        self._server.client.execute_command("FLUSHALL", "SYNC")
        run = workload.prepare(workload.jobs)
        gc.collect()
        before = self._server.use()
        began = time.process_time()
        run()
        cpu = time.process_time() - began
        used = self._server.use() - before
        jobs = workload.jobs
        cost = Cost(used.writes / jobs, used.command_count / jobs, cpu / jobs)
        self.costs[workload.name] = cost.least(self.costs.get(workload.name, cost))
        self.turn = min(self.turn, reference())

    def figures(self) -> dict[str, dict[str, Any]]:
        """As in `quick.json`."""
        return {
            name: {
                "round trips": round(cost.trips, 4),
                "commands": round(cost.commands, 3),
                "turns": {PYTHON: round(cost.cpu / self.turn, 1)},
            }
            for name, cost in self.costs.items()
        }


def grown(
    found: Mapping[str, Mapping[str, Any]], committed: Mapping[str, Mapping[str, Any]], workloads: Sequence[Workload]
) -> dict[str, list[str]]:
    """What each workload costs too much, in words; workloads that cost no more than before are not there."""
    problems: dict[str, list[str]] = {}
    for workload in workloads:
        now, before = found[workload.name], committed.get(workload.name)
        if before is None:
            problems[workload.name] = ["has no committed figures"]
            continue
        more_trips = before["round trips"] * workload.trips_vary + CHANCE / workload.jobs
        most: dict[str, tuple[float, float, float]] = {
            "round trips": (now["round trips"], before["round trips"], more_trips),
            "commands": (now["commands"], before["commands"], more_trips * COMMANDS_OF_A_TRIP + 0.01),
        }
        if PYTHON in before["turns"]:
            turns = before["turns"][PYTHON]
            most["turns of processor time"] = (now["turns"][PYTHON], turns, turns * TURNS_SLACK)
        said = [
            f"{what} of a job grew from {was:g} to {is_:g} (allowed: {was + more:.4g})"
            for what, (is_, was, more) in most.items()
            if is_ > was + more
        ]
        if said:
            problems[workload.name] = said
    return problems


def measure(committed: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    began = time.monotonic()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with Server() as server:
        os.environ.update(
            DJANGO_SETTINGS_MODULE="benchmarks.noop.settings", REDIS_URL=server.url,
            SWEEP_SECONDS="600", LEASE_SECONDS="3600",
        )  # fmt: skip
        django.setup()
        logging.getLogger("retrying").addHandler(logging.NullHandler())
        measurement = Measurement(server)
        todo: Sequence[Workload] = WORKLOADS
        rounds = 0
        while todo and (rounds < LEAST_ROUNDS or time.monotonic() - began < SECONDS):
            for workload in todo:
                measurement.round(workload)
            rounds += 1
            if rounds >= ROUNDS:
                dear = grown(measurement.figures(), committed, WORKLOADS)
                todo = [workload for workload in WORKLOADS if workload.name in dear] if committed else ()
        took = time.monotonic() - began
        print(f"{rounds} rounds, {took:.0f} s; a turn of the reference: {measurement.turn * 1e6:.1f} us")
        return measurement.figures()


def table(found: Mapping[str, Mapping[str, Any]], committed: Mapping[str, Mapping[str, Any]]) -> str:
    """Today's figures, and those that are committed behind them."""
    rows = [f"{'of one job':32} {'round trips':>19} {'commands':>19} {'turns':>15}"]
    for name, now in found.items():
        before = committed.get(name, {})
        turns = before.get("turns", {}).get(PYTHON, "-")
        rows.append(
            f"{name:32} {now['round trips']:8g} ({before.get('round trips', '-'):>8}) "
            f"{now['commands']:8g} ({before.get('commands', '-'):>8}) {now['turns'][PYTHON]:6g} ({turns:>6})"
        )
    return "\n".join(rows)


def write(found: Mapping[str, Mapping[str, Any]], committed: Mapping[str, Mapping[str, Any]]) -> None:
    merged = {
        name: {**now, "turns": dict(sorted({**committed.get(name, {}).get("turns", {}), **now["turns"]}.items()))}
        for name, now in found.items()
    }
    COMMITTED.write_text(json.dumps(merged, indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-quick", description="Whether jobs have become dearer.")
    parser.add_argument("--write", action="store_true", help=f"commit to today's figures, in {COMMITTED.name}")
    options = parser.parse_args()
    committed = json.loads(COMMITTED.read_text()) if COMMITTED.exists() else {}
    found = measure({} if options.write else committed)
    print(table(found, committed))
    if options.write:
        write(found, committed)
        return 0
    problems = grown(found, committed, WORKLOADS)
    for name, said in problems.items():
        for line in said:
            print(f"{name}: {line}", file=sys.stderr)
    if problems:
        print(
            "Jobs have become dearer. Find what added it (git bisect run make bench-quick); if it is worth it, type "
            "make bench-quick ARGS=--write, and say in the commit message what it buys.",
            file=sys.stderr,
        )  # fmt: skip
    if not any(PYTHON in figures["turns"] for figures in committed.values()):
        print(f"No processor time was compared: {COMMITTED.name} has none of Python {PYTHON}.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
