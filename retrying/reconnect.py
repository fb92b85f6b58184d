"""How long to wait before the server is tried again."""

from __future__ import annotations

import random

#: Seconds: the first wait at most, and the longest.
FIRST, LAST = 0.1, 5.0


def delay(failures: int) -> float:
    """Seconds to wait after ``failures`` (0, 1, ...) tries in a row that failed: doubled each time, with jitter."""
    return random.uniform(FIRST / 2, min(LAST, FIRST * 2 ** min(failures, 10)))
