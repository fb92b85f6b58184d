"""Whether the store answers: retried for ever, said in the log once when it stops and once when it is back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.exceptions import RedisError, ResponseError

from . import reconnect
from .exceptions import RetryingError

logger = logging.getLogger("retrying.worker")

T = TypeVar("T")


class Link:
    """A channel's line to the store."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        #: The last request was not answered.
        self.down = False
        self._heard_at = 0.0

    async def until_answered(self, request: Callable[[int], Awaitable[T]]) -> T:
        """The answer to ``request(failures so far)``, sent again, with backoff, until there is one."""
        failures = 0
        while True:
            try:
                answer = await request(failures)
            except (RetryingError, RedisError, OSError) as error:
                if not self.down:
                    self.down = True
                    what = "refuses a request" if isinstance(error, ResponseError) else "does not answer"
                    logger.warning("the job store %s, trying again channel=%s: %s", what, self._channel, error)
                await asyncio.sleep(reconnect.delay(failures))
                failures += 1
            else:
                self._heard_at = time.monotonic()
                if self.down:
                    self.down = False
                    logger.warning("the job store answers again channel=%s", self._channel)
                return answer

    def heard_within(self, seconds: float) -> bool:
        return self._heard_at > 0 and time.monotonic() - self._heard_at < seconds
