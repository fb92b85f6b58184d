"""Loops that talk to the server for ever: how long they wait before they try again, and how they are ended."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Iterable
from typing import Any

#: Seconds: the first wait at most, and the longest.
FIRST, LAST = 0.1, 2.0


def delay(failures: int) -> float:
    """Seconds to wait after ``failures`` (0, 1, ...) tries in a row that failed: doubled each time, with jitter."""
    return random.uniform(FIRST / 2, min(LAST, FIRST * 2 ** min(failures, 10)))


async def end(tasks: Iterable[asyncio.Task[Any]], *, patience: float = math.inf) -> None:
    """Cancel ``tasks`` until they have ended: one cancellation that arrives together with a reply may get lost in the
    client (asyncio.wait_for swallows it before Python 3.12), and the loop would go on. Gives up after ``patience``
    seconds."""
    pending = {task for task in tasks if not task.done()}
    deadline = time.monotonic() + patience
    while pending and time.monotonic() < deadline:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=min(0.2, patience))
