"""How the topics of the store reach the many sockets of one event loop.

The log in the store is the only copy: a bell says that a topic has grown, the hub reads what is new once, and every
socket that follows the topic sends it on from where that socket is. A socket that is further behind than the feed
remembers reads the log itself, at its own pace, so nothing is ever queued for a slow browser. A lost bell costs at most
FLOOR_SECONDS.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from retrying import StoreUnavailable, topics
from retrying.reconnect import end
from retrying.topics import Position, Slice

from .bells import Bells, to_its_end
from .feed import Feed
from .follower import Follower

logger = logging.getLogger(__name__)

#: Seconds between two looks at every followed topic, bell or not ...
FLOOR_SECONDS = 5.0
#: ... how many topics are looked at in one request, and seconds between two requests.
LOOK_TOPICS = 200
LOOK_PAUSE = 0.02
#: Events in one read of the hub.
READ_EVENTS = 500
#: Reads of the hub at the same time.
CONCURRENT_READS = 16


class TopicHub:
    """The followed topics of one event loop. It lives while anything is followed."""

    _hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, TopicHub] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._feeds: dict[str, Feed] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reads = asyncio.Semaphore(CONCURRENT_READS)

    @classmethod
    def current(cls) -> TopicHub:
        """The hub of the running event loop."""
        return cls._hubs.setdefault(asyncio.get_running_loop(), cls())

    def follow(self, channel: str, topic: str, after: Position | None, wake: Callable[[Follower], None]) -> Follower:
        """Follow a topic from `after` on (None: from the start of its log).

        The follower is woken once the subscription is confirmed and the log was read: in this order, so that no event
        falls between. With the store away that is when the store is back.
        """
        key = topics.key(channel, topic)
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = Feed(channel, topic)
            if len(self._feeds) == 1:
                self._spawn(self._look_at_all())
            Bells.current().listen(key, partial(self._heard, feed))
        follower = Follower(self, feed, after, wake)
        feed.followers.add(follower)
        if feed.end is not None:
            follower.wake()
        return follower

    async def leave(self, follower: Follower) -> None:
        """Follow no more. The last one to leave takes the hub's tasks with it."""
        follower.left = True
        feed = follower.feed
        feed.followers.discard(follower)
        if feed.followers or self._feeds.get(feed.key) is not feed:
            return
        del self._feeds[feed.key]
        if not self._feeds:
            self._hubs.pop(asyncio.get_running_loop(), None)  # first: who follows from now on gets a hub of their own
        await Bells.current().leave(feed.key)
        if not self._feeds:
            await end(self._tasks)

    async def read(self, feed: Feed, after: Position | None, limit: int) -> Slice:
        """`topics.aread`, which takes epoch 0 (the log was empty when last seen) for what it is: before event 1."""
        if after is None or after.epoch:
            return await topics.aread(feed.channel, feed.topic, after, limit=limit)
        found = await topics.aread(feed.channel, feed.topic, None, limit=limit)
        return replace(found, recovered=not found.events or found.events[0].offset == 1)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _heard(self, feed: Feed, _: str) -> None:
        self._refresh_soon(feed)

    def _refresh_soon(self, feed: Feed) -> None:
        """Read what is new in a topic; bells that ring meanwhile make one more read."""
        feed.stale = True
        if not feed.refreshing:
            feed.refreshing = True
            self._spawn(self._refresh(feed))

    async def _refresh(self, feed: Feed) -> None:
        try:
            while feed.stale and feed.followers:
                feed.stale = False
                before = feed.end
                async with self._reads:
                    found = await to_its_end(self.read(feed, before, READ_EVENTS if before else 1))
                feed.take_in(found)
                for follower in list(feed.followers):
                    if feed.end != before or follower.starved:
                        follower.starved = False
                        follower.wake()
        except StoreUnavailable as error:
            logger.debug("Topic %s was not read (%s); the next look reads it.", feed.topic, error)
        except Exception:
            logger.exception("Topic %s was not read; the next look tries again.", feed.topic)
        finally:
            feed.refreshing = False

    async def _look_at_all(self) -> None:
        while True:
            await asyncio.sleep(FLOOR_SECONDS)
            by_channel: dict[str, list[Feed]] = {}
            for feed in self._feeds.values():
                by_channel.setdefault(feed.channel, []).append(feed)
            for channel, feeds in by_channel.items():
                for start in range(0, len(feeds), LOOK_TOPICS):
                    await self._look(channel, feeds[start : start + LOOK_TOPICS])
                    await asyncio.sleep(LOOK_PAUSE)

    async def _look(self, channel: str, feeds: list[Feed]) -> None:
        """Read the topics that are not where they are thought to be, or whose last read failed."""
        try:
            ends = await to_its_end(topics.aends(channel, [feed.topic for feed in feeds]))
        except StoreUnavailable as error:
            logger.debug("Topics were not looked at (%s); the next look does.", error)
            return
        except Exception:
            logger.exception("Topics were not looked at; the next look tries again.")
            return
        for feed, found in zip(feeds, ends, strict=True):
            if feed.end != found or any(follower.starved for follower in feed.followers):
                self._refresh_soon(feed)
