"""Time series for the charts, as JSON: of one channel or of all, for an hour or a day by minutes, a month by hours."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse

from retrying import stats
from retrying.message import CHANNEL_NAME
from retrying.stats import ChannelStats
from retrying.tally import Tally

from .access import page
from .shared import Shared

NOTHING = Tally()
#: A point that has only begun says nothing yet.
BEGUN_SECONDS = 10.0


class Range(NamedTuple):
    """``step``: points of so many of the store's are one of the chart's; ``keep``: seconds that a chart is good for."""

    minutes: int
    hours: int
    step: int
    keep: float


RANGES = {"1h": Range(60, 0, 1, 5.0), "24h": Range(1440, 0, 5, 30.0), "30d": Range(0, 720, 1, 120.0)}

_shared: Shared[dict[str, Any]] = Shared()


@page
def series(request: HttpRequest) -> HttpResponse:
    """``?range=1h|24h|30d&channel=``"""
    name, channel = request.GET.get("range", "1h"), request.GET.get("channel", "")
    if name not in RANGES or (channel and not CHANNEL_NAME.fullmatch(channel)):
        raise Http404("series takes range=1h, 24h or 30d, and the name of a channel.")
    span = RANGES[name]
    return JsonResponse(_shared.get((name, channel), lambda: _read(channel, span), span.keep))


def _read(channel: str, span: Range) -> dict[str, Any]:
    if channel:
        found = [stats.channel(channel, minutes=span.minutes, hours=span.hours)]
    else:
        found = stats.channels(minutes=span.minutes, hours=span.hours)
    return drawn(found, span.step)


def drawn(found: list[ChannelStats], step: int = 1) -> dict[str, Any]:
    """What a chart draws: times in seconds since 1970, and a list of as many values for each line.

    ``in``, ``out``: jobs a second; ``failed``, ``dead``: as many a minute; ``wait_*``, ``run_*``: seconds, None of a
    time without any.
    """
    now = max((item.now for item in found), default=None)
    spans = _together(found, step)
    made: dict[str, Any] = {
        name: [] for name in ("at", "in", "out", "failed", "dead", "wait_p50", "wait_p95", "run_p50", "run_p95")
    }
    for at, (seconds, tally) in sorted(spans.items()):
        passed = min(seconds, (now - at).total_seconds()) if now else seconds
        if passed < BEGUN_SECONDS:
            continue
        made["at"].append(round(at.timestamp()))
        made["in"].append(tally.enqueued / passed)
        made["out"].append(tally.ended / passed)
        made["failed"].append(tally.failed * 60 / passed)
        made["dead"].append(tally.dead * 60 / passed)
        for name, times in (("wait", tally.wait), ("run", tally.run)):
            made[f"{name}_p50"].append(times.percentile(0.5))
            made[f"{name}_p95"].append(times.percentile(0.95))
    return made


def _together(found: list[ChannelStats], step: int) -> dict[datetime, tuple[int, Tally]]:
    """The points of all channels added up, ``step`` of them to one."""
    spans: dict[datetime, tuple[int, Tally]] = {}
    for item in found:
        for first in range(0, len(item.points), step):
            some = item.points[first : first + step]
            seconds, sum_ = spans.get(some[0].at, (sum(point.seconds for point in some), NOTHING))
            for point in some:
                if point.tally != NOTHING:  # most are of most channels, and adding is not for nothing
                    sum_ += point.tally
            spans[some[0].at] = (seconds, sum_)
    return spans
