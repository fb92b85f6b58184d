"""What was measured, as kept in docs/performance.json: every round of every cell, and the machine of each run.

A later run of some cells replaces just those; the report says which figures are of another run than the others.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from .measure import Figure, Server


class Key(NamedTuple):
    """Which cell."""

    peer: str
    variant: str
    measure: str
    persistence: str = "off"


@dataclass(slots=True)
class Measured:
    """The rounds of a cell in one run: values by name, or why there are none."""

    run: str
    rounds: list[dict[str, float]] = field(default_factory=list)
    failed: str = ""

    def figure(self, name: str) -> Figure | None:
        """Of the rounds that have this value; None when none has."""
        values = [each[name] for each in self.rounds if name in each]
        return Figure.of(values) if values else None


class Results:
    """All cells by key; `runs` says when and on what each run was. Without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.runs: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, str]] = {}
        self.cells: dict[Key, Measured] = {}
        self._run = ""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Those of the file; empty when there is none."""
        results = cls(path)
        if path.exists():
            kept = json.loads(path.read_text())
            results.runs, results.versions = kept["runs"], kept["versions"]
            for cell in kept["cells"]:
                key = Key(*cell.pop("key"))
                results.cells[key] = Measured(**cell)
        return results

    def begin(self, facts: dict[str, Any]) -> None:
        """What is added from now on belongs to a new run."""
        self._run = facts["date"]
        self.runs[self._run] = facts

    @property
    def newest(self) -> str:
        """The run that most cells are of."""
        runs = [measured.run for measured in self.cells.values()]
        return max(sorted(self.runs), key=runs.count)

    def add(self, key: Key, values: dict[str, float]) -> None:
        self._of_this_run(key).rounds.append(values)

    def fail(self, key: Key, reason: str) -> None:
        self._of_this_run(key).failed = reason

    def _of_this_run(self, key: Key) -> Measured:
        if key not in self.cells or self.cells[key].run != self._run:
            self.cells[key] = Measured(self._run)
        return self.cells[key]

    def figure(self, key: Key, name: str) -> Figure | None:
        return self.cells[key].figure(name) if key in self.cells else None

    def save(self) -> None:
        """One line a cell, so that a changed figure is a changed line."""
        if self.path is None:
            return
        used = {measured.run for measured in self.cells.values()} | {self._run}
        self.runs = {run: facts for run, facts in self.runs.items() if run in used}
        cells = ",\n".join(
            "  " + json.dumps({"key": list(key), **_rounded(asdict(measured))})
            for key, measured in sorted(self.cells.items())
        )
        head = json.dumps({"runs": self.runs, "versions": self.versions}, indent=1).removesuffix("\n}")
        self.path.write_text(f'{head},\n "cells": [\n{cells}\n ]\n}}\n')


def _rounded(measured: dict[str, Any]) -> dict[str, Any]:
    rounds = [{name: float(f"{value:.5g}") for name, value in each.items()} for each in measured["rounds"]]
    return {**measured, "rounds": rounds}


def machine(python: str) -> dict[str, Any]:
    """Of this run: when, on what, with which server. `load`: how busy the machine was before."""
    with Server() as server:
        valkey = server.version
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": f"CPython {python}",
        "server": valkey,
        "load": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
