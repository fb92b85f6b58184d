"""A pace for what browsers send, and what was refused so far."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

#: What this process refused since it started, by its error code or close code ("too_fast", "4409" ...): for metrics.
refused: Counter[str] = Counter()


class TokenBucket:
    """``per_second`` tokens flow in, up to ``burst``; ``clock`` gives seconds."""

    __slots__ = ("_at", "_burst", "_clock", "_per_second", "_tokens")

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._at = clock()

    def take(self) -> bool:
        """Take a token; False when there is none."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
