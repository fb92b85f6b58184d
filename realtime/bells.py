"""The store's announcements (pub/sub), heard by one event loop on one connection that comes back by itself.

A bell is a hint: it may be lost. Who listens looks now and then without one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from retrying import topics
from retrying.reconnect import end

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

#: Seconds of silence after which the connection is pinged; after twice as many without an answer it is dropped.
PING_SECONDS = 5.0
#: Bounds of the wait (full jitter, seconds) before the connection is made again.
RECONNECT_BASE_SECONDS = 0.1
RECONNECT_CAP_SECONDS = 3.0
#: Seconds that a request to the store gets to end when nobody waits for it any more.
FINISH_SECONDS = 1.0

#: Called with what was announced, and with "" when the subscription was confirmed: whatever came before may be lost.
Heard = Callable[[str], None]


async def to_its_end(request: Awaitable[Result]) -> Result:
    """Await a request; when cancelled, let it end first: cut while it connects, it would leave its socket open."""
    task = asyncio.ensure_future(request)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        done, _ = await asyncio.wait([task], timeout=FINISH_SECONDS)
        if done:
            task.exception()  # seen: nobody is left to tell
        else:
            task.cancel()
        raise


class Bells:
    """What this event loop listens to. It lives while anything is listened to."""

    _all: WeakKeyDictionary[asyncio.AbstractEventLoop, Bells] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._heard: dict[str, Heard] = {}
        self._unconfirmed: dict[str, float] = {}  # since when, the oldest first
        self._tasks: set[asyncio.Task[None]] = set()
        self._pubsub: PubSub | None = None
        self._order = asyncio.Lock()  # SUBSCRIBE and UNSUBSCRIBE of one key reach the server in the order meant
        self._failures = 0

    @classmethod
    def current(cls) -> Bells:
        """Those of the running event loop."""
        return cls._all.setdefault(asyncio.get_running_loop(), cls())

    def listen(self, key: str, heard: Heard) -> None:
        """Hear a pub/sub channel from now on; with the store away that is when it is back."""
        self._heard[key] = heard
        if len(self._heard) == 1:
            self._spawn(self._listen())
        else:
            self._spawn(self._subscription(key))

    async def leave(self, key: str) -> None:
        """Listen to it no more. The last one takes the connection with it."""
        del self._heard[key]
        self._unconfirmed.pop(key, None)
        if self._heard:
            self._spawn(self._subscription(key))
            return
        self._all.pop(asyncio.get_running_loop(), None)  # first: who listens from now on gets bells of their own
        await end(self._tasks)

    def announce(self, key: str, news: str) -> None:
        """Announce something to whoever listens; it may get lost."""
        self._spawn(self._publish(key, news))

    async def _publish(self, key: str, news: str) -> None:
        try:
            await to_its_end(topics.client().publish(key, news))
        except (RedisError, OSError) as error:
            logger.debug("Not announced: %s (%s)", news, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self) -> None:
        """For ever: whatever happens to the connection, make it again and subscribe to everything."""
        while True:
            try:
                await self._listen_once()
            except Exception as error:  # redis-py raises more than its own errors when a connection goes in mid-use
                if self._failures == 0:
                    name = type(error).__name__
                    logger.warning("The store's announcements are lost (%s: %s); connecting again.", name, error)
            longest = min(RECONNECT_CAP_SECONDS, RECONNECT_BASE_SECONDS * 2 ** min(self._failures, 16))
            self._failures += 1
            await asyncio.sleep(random.uniform(0, longest))

    async def _listen_once(self) -> None:
        pubsub = topics.client().pubsub()
        try:
            await to_its_end(pubsub.connect())
            asked = set(self._heard)
            self._unconfirmed = dict.fromkeys(asked, time.monotonic())
            await pubsub.subscribe(*asked)
            self._pubsub = pubsub
            if new := self._heard.keys() - asked:
                self._unconfirmed.update(dict.fromkeys(new, time.monotonic()))
                await pubsub.subscribe(*new)
            heard_at = time.monotonic()
            while self._pubsub is pubsub:
                message = await pubsub.get_message(timeout=PING_SECONDS)
                if message is not None:
                    heard_at = time.monotonic()
                    self._hear(message["type"], message["channel"], message["data"])
                elif time.monotonic() - heard_at > 2 * PING_SECONDS:
                    raise ConnectionError(f"silent for {2 * PING_SECONDS:g} s")
                else:
                    await pubsub.ping()
                self._expect_confirmations()
            raise ConnectionError("dropped")
        finally:
            await self._drop(pubsub)

    def _expect_confirmations(self) -> None:
        if self._unconfirmed:
            key, asked_at = next(iter(self._unconfirmed.items()))
            if time.monotonic() - asked_at > 2 * PING_SECONDS:
                raise ConnectionError(f"the subscription to {key} is not confirmed")

    def _hear(self, kind: str, key: bytes | str | None, news: bytes | str | int | None) -> None:
        name = key.decode() if isinstance(key, bytes) else key or ""
        heard = self._heard.get(name)
        if heard is None:
            return
        if kind == "subscribe":
            self._unconfirmed.pop(name, None)
            if self._failures:
                logger.info("The store's announcements are heard again.")
                self._failures = 0
            heard("")
        elif kind == "message":
            heard(news.decode("utf-8", "replace") if isinstance(news, bytes) else str(news))

    async def _subscription(self, key: str) -> None:
        """Make the pub/sub subscription of a key what it should be now."""
        async with self._order:
            pubsub = self._pubsub
            if pubsub is None:  # whoever connects subscribes to everything
                return
            try:
                if key in self._heard:
                    self._unconfirmed[key] = time.monotonic()
                    await pubsub.subscribe(key)
                else:
                    await pubsub.unsubscribe(key)
            except Exception as error:
                logger.debug("The pub/sub connection failed on a write (%s); it is made again.", error)
                await self._drop(pubsub)

    async def _drop(self, pubsub: PubSub | None) -> None:
        """Close a pub/sub connection, whatever state it is in; its reader notices and makes another."""
        if pubsub is self._pubsub:
            self._pubsub = None
        if pubsub is not None:
            try:
                await pubsub.aclose()
            except Exception as error:
                logger.debug("Closing the pub/sub connection failed: %s", error)
