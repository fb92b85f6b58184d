"""Receiving on specific channels: one reader for all of a process' consumers, which reconnects and never raises."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from .reconnect import delay, end

if TYPE_CHECKING:
    from .layers import RetryingChannelLayer

logger = logging.getLogger("retrying.layers")


class Inbox:
    """The one reader of an event loop for all specific channels of this process.

    channels_redis lets each receive read for all others; when the one that reads is cancelled (its consumer failed)
    a connection goes with it, and what arrives for it later stays in memory for ever.
    """

    def __init__(self, layer: RetryingChannelLayer, *, forget: Callable[[], object]) -> None:
        """``forget``: called when the loop is about to close."""
        self._layer = layer
        self._forget = forget
        #: channel -> messages that nobody waited for, and when the last came; bounded in number and age.
        self._kept: dict[str, tuple[deque[dict[str, Any]], float]] = {}
        self._waiting: dict[str, deque[asyncio.Future[dict[str, Any]]]] = {}
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._lifetime: AsyncGenerator[None] | None = None

    async def receive(self, channel: str, real_channel: str) -> dict[str, Any]:
        kept = self._kept.get(channel)
        if kept:
            message = kept[0].popleft()
            if not kept[0]:
                del self._kept[channel]
            return message
        reader = self._readers.get(real_channel)
        if reader is None or reader.done():
            if self._lifetime is None:
                self._lifetime = self._close_with_loop()
                await anext(self._lifetime)
            self._readers[real_channel] = asyncio.create_task(self._read(real_channel))
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(channel, deque())
        waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._keep(channel, future.result())
            raise
        finally:
            if future in waiting:
                waiting.remove(future)
            if not waiting:
                self._waiting.pop(channel, None)

    async def close(self) -> None:
        readers = list(self._readers.values())
        self._readers.clear()
        await end(readers)

    async def _close_with_loop(self) -> AsyncGenerator[None]:
        # Finalized by asyncio.run before the loop closes.
        try:
            yield
        finally:
            self._forget()
            await self.close()

    def _keep(self, channel: str, message: dict[str, Any]) -> None:
        messages, _ = self._kept.get(channel) or (deque(maxlen=self._layer.get_capacity(channel)), 0.0)
        messages.append(message)
        self._kept[channel] = (messages, time.monotonic())

    def _deliver(self, channel: str, message: dict[str, Any]) -> None:
        for future in self._waiting.get(channel, ()):
            if not future.done():
                future.set_result(message)
                return
        self._keep(channel, message)

    async def _receive_one(self, real_channel: str) -> tuple[str | list[str], dict[str, Any]]:
        # In a task of its own: asyncio.run cancels once, and the client may lose that (Python 3.11's wait_for) or take
        # it for a closed connection. A reader that went on would hold up the end of its loop for ever.
        receiving = asyncio.create_task(self._layer.receive_single(real_channel))
        receiving.add_done_callback(lambda task: task.cancelled() or task.exception())  # seen, whatever became of us
        try:
            await asyncio.wait([receiving])
        except asyncio.CancelledError:
            await end([receiving])
            raise
        received: tuple[str | list[str], dict[str, Any]] = receiving.result()
        return received

    async def _read(self, real_channel: str) -> None:
        failures = 0
        while True:
            try:
                channels, message = await self._receive_one(real_channel)
            except (RedisError, OSError) as error:
                if failures == 0:
                    logger.warning("channel layer: the server does not answer (%s); trying again", error)
                await asyncio.sleep(delay(failures))
                failures += 1
                continue
            except Exception:
                logger.exception("channel layer: reading %s failed; what can't be decoded is dropped", real_channel)
                await asyncio.sleep(delay(failures))  # whatever it is, not in a busy loop
                failures += 1
                continue
            if failures:
                logger.warning("channel layer: the server answers again")
                failures = 0
            for channel in [channels] if isinstance(channels, str) else channels:
                self._deliver(channel, message)
            oldest = time.monotonic() - self._layer.expiry
            for channel in [name for name, (_, at) in self._kept.items() if at < oldest]:
                del self._kept[channel]
