"""What a channel did in a span of time: how often each thing, and how long jobs waited and ran.

The store counts in one string for ever and copies it whenever a minute or an hour begins; a span is the difference of
two copies. See ``tally`` in ``store/lua/common.lua``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, NamedTuple

#: In the order in which common.lua counts them.
COUNTERS = (
    "enqueued", "started", "succeeded", "failed", "retried", "snoozed", "released", "rescued", "dead", "cancelled",
    "expired", "redriven",
)  # fmt: skip
BUCKETS = 24
_FORMAT = struct.Struct(f">{len(COUNTERS)}I2q{2 * BUCKETS}I")
#: A counter that fell: the server lost what it had counted. More than this in one span can't be.
_FELL = 2**31


@dataclass(frozen=True, slots=True)
class Histogram:
    """How long something took, as numbers of times up to each of ``BOUNDS``, and their sum in ``seconds``."""

    counts: tuple[int, ...] = (0,) * BUCKETS
    seconds: float = 0.0

    #: Upper bounds in seconds: 0.001 doubled again and again, the last one infinite (more than 70 minutes).
    BOUNDS: ClassVar[tuple[float, ...]] = (*(2**n / 1000 for n in range(BUCKETS - 1)), math.inf)

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """Seconds; None without any."""
        return self.seconds / self.count if self.count else None

    def percentile(self, share: float) -> float | None:
        """Seconds that a ``share`` (0..1) of the times did not exceed, at most its bucket's half off; None without any.

        Within a bucket times are taken as evenly spread; of those beyond the last bound only that bound is known.
        """
        rank = share * self.count
        if not self.count:
            return None
        before, low = 0, 0.0
        for count, high in zip(self.counts, self.BOUNDS, strict=True):
            if count and before + count >= rank:
                return low if math.isinf(high) else low + (high - low) * max(0.0, rank - before) / count
            before, low = before + count, high
        return low

    def __add__(self, other: Histogram) -> Histogram:
        counts = tuple(mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True))
        return Histogram(counts, self.seconds + other.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What happened to a channel's jobs, how often."""

    #: New jobs stored.
    enqueued: int = 0
    #: Attempts that began.
    started: int = 0
    #: Attempts that ended with success, and with it their jobs.
    succeeded: int = 0
    #: Attempts that failed, charged against the policy.
    failed: int = 0
    #: Failed attempts whose job waits for another one; of the others it is dead or cancelled.
    retried: int = 0
    #: Attempts that ended with ``Snooze``.
    snoozed: int = 0
    #: Attempts given back uncharged.
    released: int = 0
    #: Attempts whose worker vanished.
    rescued: int = 0
    #: Jobs that became dead letters.
    dead: int = 0
    cancelled: int = 0
    expired: int = 0
    #: Dead letters made ready or scheduled again.
    redriven: int = 0
    #: From ready (or its time, if that came later) to the start of an attempt.
    wait: Histogram = field(default_factory=Histogram)
    #: From the start to the end of an attempt that succeeded, failed, snoozed or was discarded.
    run: Histogram = field(default_factory=Histogram)

    @property
    def ended(self) -> int:
        """Jobs that left the channel's work."""
        return self.succeeded + self.dead + self.cancelled + self.expired

    def __add__(self, other: Tally) -> Tally:
        numbers = {name: getattr(self, name) + getattr(other, name) for name in COUNTERS}
        return Tally(**numbers, wait=self.wait + other.wait, run=self.run + other.run)


@dataclass(frozen=True, slots=True)
class Span:
    """What happened in the last ``seconds``."""

    seconds: float
    tally: Tally


@dataclass(frozen=True, slots=True)
class Point:
    """What happened in the minute or hour (``seconds``: 60 or 3600) that began ``at``."""

    at: datetime
    seconds: int
    tally: Tally


class Reading(NamedTuple):
    """A copy of the store's string, decoded."""

    numbers: tuple[int, ...]

    @classmethod
    def of(cls, copy: bytes) -> Reading:
        """The string ends behind the last number that isn't 0."""
        return cls(_FORMAT.unpack(copy[: _FORMAT.size].ljust(_FORMAT.size, b"\0")))

    def since(self, before: Reading) -> Tally:
        """What happened between two readings."""
        # Each counts modulo 2**32.
        moved = [(now - then) % 2**32 for now, then in zip(self.numbers, before.numbers, strict=True)]
        found = [0 if more > _FELL else more for more in moved]
        wait_ms, run_ms = (max(0, self.numbers[i] - before.numbers[i]) for i in (12, 13))
        first, second = found[14 : 14 + BUCKETS], found[14 + BUCKETS :]
        return Tally(
            **dict(zip(COUNTERS, found[: len(COUNTERS)], strict=True)),
            wait=Histogram(tuple(first), wait_ms / 1000),
            run=Histogram(tuple(second), run_ms / 1000),
        )


NOTHING = Reading((0,) * (len(COUNTERS) + 2 + 2 * BUCKETS))


def differences(copies: Sequence[bytes | None], last: bytes) -> list[Tally]:
    """What each span did, from the copies made when the spans began and what stands now.

    A span without a copy did nothing: the string stood as when the next one began.
    """
    found: list[Tally] = []
    after = Reading.of(last)
    for copy in reversed(copies):
        if copy is None:
            found.append(Tally())
        else:
            before = Reading.of(copy)
            found.append(after.since(before))
            after = before
    return found[::-1]


def add(tallies: Sequence[Tally]) -> Tally:
    """All of them together."""
    return sum(tallies, Tally())
