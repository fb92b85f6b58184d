"""Ending tasks for sure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

#: Seconds until a task that is still there is cancelled once more.
AGAIN_AFTER = 0.1


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel ``tasks`` and wait until they have ended, whatever they raise.

    Cancels again and again: until Python 3.12 ``asyncio.wait_for``, through which redis-py sends, swallows a
    cancellation that comes in the moment in which it is done. https://github.com/python/cpython/issues/86296
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_AFTER)
