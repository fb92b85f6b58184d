"""The numbers of channels."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from .. import jobs
from ..job import Counts, WorkerInfo, from_ms
from ..layers import get_layer
from ..operations import Steps, ask, awaitable, blocking
from ..store.calls import Seen
from ..tally import NOTHING, Point, Reading, Span, Tally, add, differences

#: Longest series: a day of minutes, 30 days of hours.
MAX_MINUTES, MAX_HOURS = 1440, 720
#: Whole minutes before the present one that ``lately`` and ``recent`` tell of.
LATELY, RECENT = 1, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStats:
    """A channel at one moment (``now``, of the store's clock)."""

    channel: str
    now: datetime
    counts: Counts
    #: For how long it has been paused; None when it isn't.
    paused_seconds: float | None
    #: Those that consume it.
    workers: list[WorkerInfo]
    #: The series that was asked for, the oldest first and without gaps; the last one is not over yet.
    points: list[Point]
    #: All since counting began, each counter modulo 2**32: subtract two readings.
    totals: Tally
    #: The last one to two minutes.
    lately: Span
    #: The last five to six minutes.
    recent: Span

    @property
    def backlog(self) -> int:
        """Jobs that could run now. Scheduled ones are not late."""
        return self.counts.ready

    @property
    def in_per_second(self) -> float:
        return self.lately.tally.enqueued / self.lately.seconds

    @property
    def out_per_second(self) -> float:
        """Jobs that ended, however."""
        return self.lately.tally.ended / self.lately.seconds

    @property
    def failure_rate(self) -> float | None:
        """Share of the attempts of the last minutes that failed; None when none ended."""
        tally = self.recent.tally
        ended = tally.failed + tally.succeeded
        return tally.failed / ended if ended else None

    @property
    def drain_seconds(self) -> float | None:
        """How long the backlog lasts at the rates of now: 0 without one, None when it doesn't shrink."""
        shrinks = self.out_per_second - self.in_per_second
        if not self.backlog:
            return 0.0
        return self.backlog / shrinks if shrinks > 0 else None


@blocking
def channel(name: str, *, minutes: int = 0, hours: int = 0, using: str = "default") -> Steps[ChannelStats]:
    """The channel's numbers, and its last ``minutes`` (up to 1440) or ``hours`` (up to 720), the present one too.

    Raises ValueError: both, or out of range.
    """
    return _channel(name, _wanted(minutes, hours), using)


achannel = awaitable(channel)


@blocking
def channels(*, minutes: int = 0, hours: int = 0, using: str = "default") -> Steps[list[ChannelStats]]:
    """The same of each of ``jobs.channels()``, by name."""
    return _channels(_wanted(minutes, hours), using)


achannels = awaitable(channels)


def _wanted(minutes: int, hours: int) -> tuple[str, int]:
    if minutes and hours:
        raise ValueError("a series is of minutes or of hours: give one of them")
    for name, value, most in (("minutes", minutes, MAX_MINUTES), ("hours", hours, MAX_HOURS)):
        if not 0 <= value <= most:
            raise ValueError(f"{name} takes a number from 0 to {most}, got {value!r}")
    return ("hour", hours) if hours else ("minute", minutes)


def _channels(wanted: tuple[str, int], using: str) -> Steps[list[ChannelStats]]:
    names = yield from ask(get_layer(using).store.channels())
    found = []
    for name in sorted(jobs.named_channels().union(names)):
        one = yield from _channel(name, wanted, using)
        found.append(one)
    return found


def _channel(name: str, wanted: tuple[str, int], using: str) -> Steps[ChannelStats]:
    unit, count = wanted
    seen = yield from ask(get_layer(using).store.stats(name, minutes=RECENT + 1, unit=unit, count=count))
    minutes = differences(seen.minutes, seen.total)
    return ChannelStats(
        channel=name,
        now=from_ms(seen.now),
        counts=seen.counts,
        paused_seconds=None if seen.paused is None else seen.paused / 1000,
        workers=seen.workers,
        points=_points(seen, 3600 if unit == "hour" else 60),
        totals=Reading.of(seen.total).since(NOTHING),
        lately=_span(seen.now, minutes, LATELY),
        recent=_span(seen.now, minutes, RECENT),
    )


def _points(seen: Seen, seconds: int) -> list[Point]:
    last = from_ms(seen.now // (1000 * seconds) * 1000 * seconds)
    tallies = differences(seen.spans, seen.total)
    begin = last - timedelta(seconds=seconds) * (len(tallies) - 1)
    return [Point(begin + timedelta(seconds=seconds) * i, seconds, tally) for i, tally in enumerate(tallies)]


def _span(now: int, minutes: list[Tally], whole: int) -> Span:
    """The last ``whole`` minutes and what has passed of the present one (ms ``now``)."""
    return Span(60.0 * whole + now % 60000 / 1000, add(minutes[-whole - 1 :]))
