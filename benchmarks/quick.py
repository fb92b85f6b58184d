"""Whether jobs have become dearer: `make bench-quick`, in under a minute.

It counts what one job costs the server, in round trips and commands (those inside scripts too), and what it costs the
process that sends or runs it, in processor time: in turns of a fixed work that is done in the same seconds, so that
figures of one machine hold on another. It fails when one of them is above those of `quick.json`; `--write` puts
today's there: counts for every Python, turns for this one.

Of several rounds, the counts are the least: what else happens can only add. The processor time is the median, and each
round's is in turns of the moment before and the moment after it: a machine is at times half as fast as it was a second
ago, so that the least of the one and the least of the other are of different machines. No figure is of a clock on the
wall. What looks too dear gets more rounds before it counts as that. Sweeps and renewals are kept out: they come by
time, not by job. Server and jobs share one core: to wake another one takes processor time, for an enqueue as much
again, or nothing when it doesn't sleep.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import django

from benchmarks.measure import Server
from benchmarks.workloads import WORKLOADS, Workload, reference

COMMITTED = Path(__file__).with_suffix(".json")
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
ROUNDS = 6
#: No round is begun after so many seconds, unless there were fewer than these. What has no committed figures, as with
#: `--write`, is measured for all of them.
SECONDS, LEAST_ROUNDS = 40.0, 3
#: How much may be added to the turns.
TURNS_SLACK = 0.25
#: Round trips of a whole run by which it may differ from another one: connections are made, a worker starts and ends.
CHANCE = 8
#: Commands that a round trip brings with it at most, whatever it carries.
COMMANDS_OF_A_TRIP = 10


class Cost:
    """Of one job, in all rounds so far."""

    def __init__(self) -> None:
        #: The least of: replies that the server wrote (requests that travel together are one), and commands by the
        #: server, those inside scripts too.
        self.trips = self.commands = math.inf
        #: Processor seconds, user and system, of all threads of this process, in turns of the reference; of each round.
        self.turns: list[float] = []

    def add(self, trips: float, commands: float, turns: float) -> None:
        self.trips = min(self.trips, trips)
        self.commands = min(self.commands, commands)
        self.turns.append(turns)

    def figures(self) -> dict[str, Any]:
        """As in `quick.json`. Three digits: of 0.25, rounded to 0.2 or 0.3, rounding alone would be a quarter."""
        return {
            "round trips": round(self.trips, 4),
            "commands": round(self.commands, 3),
            "turns": {PYTHON: float(f"{median(self.turns):.3g}")},
        }


class Measurement:
    """What each workload costs."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.costs: dict[str, Cost] = {}

    def round(self, workload: Workload) -> None:
        self._server.client.execute_command("FLUSHALL", "SYNC")
        run = workload.prepare(workload.jobs)
        gc.collect()
        turn = reference()
        before = self._server.use()
        began = time.process_time()
        run()
        cpu = time.process_time() - began
        used = self._server.use() - before
        turn = (turn + reference()) / 2
        cost = self.costs.setdefault(workload.name, Cost())
        jobs = workload.jobs
        cost.add(used.writes / jobs, used.command_count / jobs, cpu / jobs / turn)

    def figures(self) -> dict[str, dict[str, Any]]:
        """As in `quick.json`."""
        return {name: cost.figures() for name, cost in self.costs.items()}


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
        to_measure: Sequence[Workload] = WORKLOADS
        rounds = 0
        while to_measure and (rounds < LEAST_ROUNDS or time.monotonic() - began < SECONDS):
            for workload in to_measure:
                measurement.round(workload)
            rounds += 1
            if rounds >= ROUNDS:
                dear = grown(measurement.figures(), committed, WORKLOADS)
                to_measure = [workload for workload in WORKLOADS if workload.name in dear]
        print(f"{rounds} rounds, {time.monotonic() - began:.0f} s; a turn of the reference: {reference() * 1e6:.1f} us")
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
