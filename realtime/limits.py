"""Limits on what browsers may do here: a pace, sockets per user, and what was refused so far."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

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


class Seats:
    """The open sockets of each user in this process, the oldest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # a process may have several event loops
        self._taken: dict[str, dict[Any, None]] = {}

    def take(self, user: str, socket: Any, most: int) -> list[Any]:
        """Seat a socket; those that are too many now, the oldest, which have no seat any more."""
        with self._lock:
            seated = self._taken.setdefault(user, {})
            seated[socket] = None
            too_many = list(seated)[: max(0, len(seated) - most)]
            for old in too_many:
                del seated[old]
        return too_many

    def leave(self, user: str, socket: Any) -> None:
        with self._lock:
            seated = self._taken.get(user, {})
            seated.pop(socket, None)
            if not seated:
                self._taken.pop(user, None)


seats = Seats()
