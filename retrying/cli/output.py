"""What the commands print: words and tables for people, JSON for machines; and what they ask."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import CommandError, OutputWrapper

NOT_CONFIRMED = 3
#: Characters of a table's cell.
CELL = 100


class Output:
    """``as_json``: for a machine."""

    def __init__(self, stdout: OutputWrapper, *, as_json: bool) -> None:
        self._stdout = stdout
        self.as_json = as_json

    def line(self, words: str) -> None:
        self._stdout.write(_visible(words))

    def report(self, values: Mapping[str, Any], words: str) -> None:
        """The same for both."""
        if self.as_json:
            self.json(values)
        else:
            self.line(words)

    def json(self, value: object) -> None:
        self.line(json.dumps(value, indent=2, default=str))

    def table(self, rows: Sequence[Mapping[str, Any]], *, empty: str = "no channels") -> None:
        if self.as_json:
            self.json([plain(row) for row in rows])
        elif not rows:
            self.line(empty)
        else:
            lines = [list(rows[0])] + [[_cell(name, value) for name, value in row.items()] for row in rows]
            widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
            for line in lines:
                cells = (f"{cell:{width}}" for cell, width in zip(line, widths, strict=True))
                self.line("  ".join(cells).rstrip())

    def facts(self, values: Mapping[str, Any]) -> None:
        """One in each line, those that say something."""
        width = max(map(len, values))
        for name, value in values.items():
            if value not in (None, ""):
                self.line(f"{name:{width}}  {_cell(name, value, most=None)}")

    def confirm(self, question: str) -> None:
        """Raises CommandError, with a status of its own, unless the answer is yes."""
        try:
            answer = input(f"{question} [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was done. (--noinput does not ask.)", returncode=NOT_CONFIRMED)


def _visible(words: str) -> str:
    """What jobs and errors say must not steer a terminal: control characters and marks of direction as escapes."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in words)


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """With times as ISO 8601 text."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def _cell(name: str, value: object, *, most: int | None = CELL) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if name.endswith("_rate"):
            return f"{100 * value:.{1 if 0 < value < 0.1 else 0}f} %"
        return f"{value:.1f}"
    if isinstance(value, (list, tuple)):
        value = ", ".join(map(str, value))
    return " ".join(str(value).split())[:most]
