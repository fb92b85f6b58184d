"""Writes what the runs found into docs/guarantees.md, between markers; the rest of the page is written by hand."""

from __future__ import annotations

import platform
import re
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.catalogue import FAULTS, Fault, tests_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guarantees.md"
NOT_RUN = "not tested"


class Results:
    """Outcomes of tests by id."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, float]] = {}
        #: What tests measured, by id.
        self.figures: dict[str, list[str]] = {}

    def add(self, nodeid: str, outcome: str, seconds: float, figures: list[str]) -> None:
        before = self._found.get(nodeid, ("passed", 0.0))
        self._found[nodeid] = (outcome if before[0] == "passed" else before[0], before[1] + seconds)
        if figures:
            self.figures[nodeid] = figures

    def of(self, fault: Fault) -> str:
        """A sentence; "" when no test of it ran."""
        found = {id: result for id, result in self._found.items() if tests_of(fault, id)}
        if not found:
            return ""
        bad = [id.rsplit("::", 1)[-1] for id, (outcome, _) in found.items() if outcome != "passed"]
        seconds = sum(duration for _, duration in found.values())
        number = f"{len(found)} test{'s' if len(found) > 1 else ''}, {seconds:.1f} s"
        return f"**failed**: {', '.join(bad)} ({number})" if bad else f"passed ({number})"

    def names(self, fault: Fault) -> str:
        """Where its tests are."""
        found = [id for id in self._found if tests_of(fault, id)]
        files = dict.fromkeys(id.split("::")[0] for id in found)
        return ", ".join(f"[{Path(file).name}](../{file})" for file in files)


def between(page: str, name: str, text: str) -> str:
    """``page`` with ``text`` between the markers of this name. Raises ValueError when it has none."""
    pattern = re.compile(rf"(<!-- {name}: [^>]*-->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"{PAGE} has no markers <!-- {name}: ... --> and <!-- /{name} -->")
    return pattern.sub(lambda match: f"{match[1]}{text.strip()}\n{match[2]}", page)


def _rows(page: str) -> dict[int, str]:
    """The rows that the table has now, by number."""
    return {int(match[1]): match[0] for match in re.finditer(r"^\| (\d+) \|.*$", page, re.MULTILINE)}


def write_tables(results: Results) -> None:
    """Replace the rows of the faults whose tests ran, and of what these measured; the others stay as they are."""
    page = PAGE.read_text()
    day = f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}"
    page = between(page, "table", _table(page, results, day))
    PAGE.write_text(between(page, "numbers", _numbers(page, results, day)))


def _table(page: str, results: Results, day: str) -> str:
    rows = _rows(page)
    lines = ["| # | Fault | What must follow | Tests | Result |", "|---|---|---|---|---|"]
    for fault in FAULTS:
        outcome = results.of(fault)
        if outcome:
            tests, outcome = results.names(fault), f"{outcome}; {day}"
        elif fault.number in rows:
            lines.append(rows[fault.number])
            continue
        else:
            tests, outcome = "", NOT_RUN
        lines.append(f"| {fault.number} | {fault.fault} | {fault.expected} | {tests} | {outcome} |")
    return "\n".join(lines)


def _numbers(page: str, results: Results, day: str) -> str:
    """One row a test: what it measured, and when."""
    rows = {match[1]: match[0] for match in re.finditer(r"^\| `([^`]+)` \|.*$", page, re.MULTILINE)}
    for nodeid, figures in results.figures.items():
        name = nodeid.rsplit("::", 1)[-1]
        rows[name] = f"| `{name}` | {'; '.join(figures)} | {day} |"
    return "\n".join(["| Test | Measured | When |", "|---|---|---|", *(rows[name] for name in sorted(rows))])
