"""``channel``: one channel's figures, what its settings hold it to, and its last minutes or hours."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from typing import Any

from .. import stats
from ..conf import get_settings
from ..stats import ChannelStats
from ..tally import Point
from . import options
from .options import Commands
from .output import Output, plain
from .standing import row

PERCENTILES = (0.5, 0.95, 0.99)


def add(commands: Commands) -> None:
    command = commands.add(channel, "Tell all of a channel: figures, policy, limits; and its last minutes or hours.")
    options.channel(command)
    span = command.add_mutually_exclusive_group()
    span.add_argument("--minutes", type=options.whole, default=0, help="the last so many (up to 1440), one a line")
    span.add_argument("--hours", type=options.whole, default=0, help="the last so many (up to 720)")


def channel(given: Namespace, out: Output) -> None:
    found = stats.channel(given.channel, minutes=given.minutes, hours=given.hours, using=given.layer)
    facts, points = _facts(found), [_line(point) for point in found.points]
    if out.as_json:
        out.json({**facts, "points": [plain(point) for point in points]})
        return
    out.facts(facts)
    if points:
        out.line("")
        out.table(points)


def _facts(found: ChannelStats) -> dict[str, Any]:
    holds, tally = get_settings().channel(found.channel), found.recent.tally
    return {
        **row(found),
        **{f"wait_p{share * 100:.0f}_seconds": tally.wait.percentile(share) for share in PERCENTILES},
        **{f"run_p{share * 100:.0f}_seconds": tally.run.percentile(share) for share in PERCENTILES},
        "policy": _set(asdict(holds.policy)),
        "total_concurrency": holds.total_concurrency,
        "throttle": None if holds.throttle is None else _set(asdict(holds.throttle)),
        "keep_succeeded": holds.keep_succeeded,
    }


def _set(values: dict[str, Any]) -> dict[str, Any]:
    """Without what is not set."""
    return {name: value for name, value in values.items() if value not in (None, False, ())}


def _line(point: Point) -> dict[str, Any]:
    tally = point.tally
    return {
        "at": point.at, "enqueued": tally.enqueued, "succeeded": tally.succeeded, "failed": tally.failed,
        "dead": tally.dead, "wait_p95_seconds": tally.wait.percentile(0.95),
        "run_p95_seconds": tally.run.percentile(0.95),
    }  # fmt: skip
