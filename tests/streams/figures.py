"""What the rigs measured, and the table of it in docs/websockets.md, which a run of `make faults` writes."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "websockets.md"


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that this share of all is not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def report(row: str, figure: str) -> None:
    """Print a figure; under `make faults` replace the row of that name in the page's table too."""
    print(f"{row}: {figure}")
    if not os.environ.get("WRITE_GUARANTEES"):
        return
    page = PAGE.read_text()
    day = f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, daphne {version('daphne')}"
    pattern = re.compile(rf"^\| {re.escape(row)} \|.*$", re.MULTILINE)
    if not pattern.search(page):
        raise ValueError(f"{PAGE.name} has no row {row!r} for this figure")
    PAGE.write_text(pattern.sub(lambda _: f"| {row} | {figure} | {day} |", page))
