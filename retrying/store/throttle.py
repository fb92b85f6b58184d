"""Limits of a channel over all its workers: rates (a token bucket each), and what one key's jobs may do at a time."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Self

SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
MAX_PER_SECOND = 1_000_000
#: A bucket holds what comes in this time unless told otherwise: enough for workers that look ten times a second.
BURST_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``burst + per_second * t`` jobs begin in any ``t`` seconds."""

    per_second: float
    burst: int

    @classmethod
    def parse(cls, rate: object, burst: object = None, *, name: str = "rate") -> Self:
        """``rate``: "50/s", "100/min", "1000/h", "5/d", or a number, per second. ``burst``: a whole number from 1 on;
        default: what comes in a fifth of a second, at least 1. Raises ValueError naming the option."""
        per_second = _per_second(rate)
        if per_second is None:
            raise ValueError(
                f'{name} takes jobs per time such as "50/s", "100/min", "1000/h" or "5/d", or a number per second, '
                f"got {rate!r}"
            )
        if not 0 < per_second <= MAX_PER_SECOND:
            raise ValueError(f"{name} takes more than 0 and at most {MAX_PER_SECOND} jobs per second, got {rate!r}")
        if burst is None:
            burst = max(1, math.floor(per_second * BURST_SECONDS))
        elif isinstance(burst, bool) or not isinstance(burst, int) or burst < 1:
            raise ValueError(f"{name.replace('rate', 'burst')} must be a whole number >= 1, got {burst!r}")
        return cls(per_second, burst)

    def words(self) -> str:
        """For the scripts: microseconds from one job to the next, and the burst."""
        return f"{1_000_000 / self.per_second!r} {self.burst}"


def _per_second(rate: object) -> float | None:
    if isinstance(rate, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?) ?/ ?(s|min|h|d)", rate)):
        return float(match[1]) / SECONDS[match[2]]
    if isinstance(rate, (int, float)) and not isinstance(rate, bool) and math.isfinite(rate):
        return float(rate)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """What limits the claims of a channel, beside how many jobs may run at once."""

    rate: Rate | None = None
    rate_per_key: Rate | None = None
    #: Jobs of one key that run at a time.
    concurrency_per_key: int | None = None
    #: A job holds its key until it has ended, while it waits for a retry too: later ones don't overtake it.
    ordered_by_key: bool = False

    def words(self) -> str:
        """For the scripts; see claim.lua."""
        rates = (rate.words() if rate else "- -" for rate in (self.rate, self.rate_per_key))
        concurrency = 1 if self.ordered_by_key else self.concurrency_per_key
        return f"{' '.join(rates)} {concurrency or '-'} {'ordered' if self.ordered_by_key else '-'}"
