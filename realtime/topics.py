"""How the topics of the store reach the many sockets of one process.

The log in the store is the only copy: a bell (pub/sub, without news) says that a topic has grown, the hub of this
event loop reads what is new once, and every socket that follows the topic sends it on from where that socket is. A
socket that is further behind than the hub remembers reads the log itself, at its own pace, so nothing is ever queued
for a slow browser. A lost bell costs at most FLOOR_SECONDS.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from redis.asyncio.client import PubSub

from retrying import StoreUnavailable, topics
from retrying.reconnect import end
from retrying.topics import Position, Slice, TopicEvent

from .protocol import Event, encode

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

#: Seconds between two looks at every followed topic, bell or not ...
FLOOR_SECONDS = 5.0
#: ... and how many topics such a look reads per second at most.
FLOOR_READS_PER_SECOND = 200
#: Seconds of silence after which the pub/sub connection is pinged; after twice as many without an answer it is dropped.
PING_SECONDS = 5.0
#: Bounds of the wait (full jitter, seconds) before the pub/sub connection is made again.
RECONNECT_BASE_SECONDS = 0.1
RECONNECT_CAP_SECONDS = 3.0
#: Events and characters of a topic that the hub remembers for its followers.
TAIL_EVENTS = 64
TAIL_CHARACTERS = 256 * 1024
#: Events in one read of the hub, and of a follower that catches up.
READ_EVENTS = 500
CATCH_UP_EVENTS = 50
#: Reads of the hub at the same time.
CONCURRENT_READS = 16
#: Seconds that a request to the store gets to end when nobody waits for it any more.
FINISH_SECONDS = 1.0


class Feed:
    """One followed topic: where its log ends, and the frames of its last few events, without a gap up to that end."""

    def __init__(self, channel: str, topic: str) -> None:
        self.channel = channel
        self.topic = topic
        self.key = topics.key(channel, topic)
        self.end: Position | None = None  # None: not read yet
        self.followers: set[Follower] = set()
        self.stale = False
        self.refreshing = False
        self.confirmed = False  # the pub/sub subscription stands
        self.asked_at = time.monotonic()
        self._tail: deque[str] = deque()
        self._characters = 0

    def frame(self, event: TopicEvent) -> str:
        return encode(
            Event(
                topic=self.topic,
                epoch=event.epoch,
                offset=event.offset,
                at=event.at,
                job=event.job,
                name=event.name,
                data=event.data,
            )
        )

    def take_in(self, found: Slice) -> None:
        """Move the end of this feed to what a read of the log from that end on has found."""
        events = found.events
        if self.end is None or not found.recovered or not events:
            if found.position != self.end:  # a first look, or another log: followers elsewhere read for themselves
                self._tail.clear()
                self._characters = 0
            self.end = found.position
            return
        for event in events:
            frame = self.frame(event)
            self._tail.append(frame)
            self._characters += len(frame)
        while len(self._tail) > TAIL_EVENTS or self._characters > TAIL_CHARACTERS:
            self._characters -= len(self._tail.popleft())
        self.end = Position(events[-1].epoch, events[-1].offset)
        self.stale = self.stale or self.end != found.position

    def covers(self, place: Position) -> bool:
        """Whether the frames after `place` are all remembered (there may be none)."""
        if self.end is None:
            return False
        remembered_from = self.end.offset - len(self._tail)
        if place.epoch == 0:  # from before the log's first event
            return remembered_from == 0
        return place.epoch == self.end.epoch and remembered_from <= place.offset <= self.end.offset

    def after(self, place: Position, limit: int) -> list[str]:
        """The remembered frames after a covered place."""
        assert self.end is not None
        skip = place.offset - (self.end.offset - len(self._tail))
        return [self._tail[index] for index in range(skip, min(skip + limit, len(self._tail)))]


@dataclass(frozen=True, slots=True)
class Start:
    """Where a follower begins: the log's end, and how many events before it are still to come.

    ``recovered``: they continue what the browser said it had seen (or, when it said nothing, start at the first event).
    """

    end: Position
    replayed: int
    recovered: bool


class Follower:
    """One socket's place in one topic. ``wake`` is called (in the event loop) when there may be news."""

    def __init__(self, hub: TopicHub, feed: Feed, after: Position | None, wake: Callable[[Follower], None]) -> None:
        self.feed = feed
        self.live = False  # its `subscribed` frame is on its way: events may follow
        self.left = False
        self.starved = False  # the store did not answer: woken by the next read that succeeds
        self._hub = hub
        self._after = after
        self._wake = wake
        self._place: Position | None = None  # the last event taken or in the backlog; None: not started
        self._backlog: deque[str] = deque()

    @property
    def topic(self) -> str:
        return self.feed.topic

    @property
    def resumes(self) -> bool:
        return self._after is not None

    @property
    def behind(self) -> bool:
        """Whether `advance` must read the log before `take` can give more."""
        if self.left or self.starved or self._backlog or self.feed.end is None:
            return False
        place, end = self._place, self.feed.end
        if place is None or not self.live:
            return place is None
        ahead = place.epoch == end.epoch and place.offset > end.offset  # the hub will hear of these events soon
        return not ahead and not self.feed.covers(place)

    def wake(self) -> None:
        self._wake(self)

    async def leave(self) -> None:
        """Follow no more."""
        await self._hub.leave(self)

    def take(self, limit: int) -> list[str]:
        """The next frames to send, [] when there are none or `behind` tells why."""
        if not self.live or self.left:
            return []
        if self._backlog:
            return [self._backlog.popleft() for _ in range(min(limit, len(self._backlog)))]
        if self._place is None or self.feed.end is None or not self.feed.covers(self._place):
            return []
        frames = self.feed.after(self._place, limit)
        if frames:
            self._place = Position(self.feed.end.epoch, self._place.offset + len(frames))
        return frames

    async def advance(self) -> Start | None:
        """Read the log from this follower's place on. A Start: its place was set anew, and it is not live.

        StoreUnavailable is not raised: the follower is woken when the store answers again.
        """
        if not self.behind:
            return None
        try:
            return await (self._start() if self._place is None else self._catch_up())
        except StoreUnavailable:
            self.starved = True
            return None

    def skip_to(self, end: Position) -> None:
        """Leave out the history up to `end` (a snapshot takes its place)."""
        self._place = end

    async def _start(self) -> Start | None:
        after, end = self._after, self.feed.end
        if end is None:
            return None
        if after is not None and self.feed.covers(after):
            start, recovered = after.offset, True
        else:
            found = await self._hub.read(self.feed, after, limit=1)
            end = found.position
            recovered = found.recovered and (after is not None or not found.events or found.events[0].offset == 1)
            if after is not None and recovered:
                start = after.offset
            else:
                start = found.events[0].offset - 1 if found.events else end.offset
        self._place = Position(end.epoch, start)
        return Start(end, end.offset - start, recovered)

    async def _catch_up(self) -> Start | None:
        place = self._place
        assert place is not None
        found = await self._hub.read(self.feed, place, limit=CATCH_UP_EVENTS)
        if self._place is not place:  # `take` went on from what the hub remembers meanwhile: these would come twice
            return None
        if not found.recovered:  # trimmed or wiped while this follower was behind
            self.live, self._after, self._place = False, place, None
            return await self._start()
        for event in found.events:
            self._backlog.append(self.feed.frame(event))
            self._place = Position(event.epoch, event.offset)
        return None


async def _to_its_end(request: Coroutine[Any, Any, Result]) -> Result:
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


class TopicHub:
    """The followed topics of one event loop, on one pub/sub connection. It lives while anything is followed."""

    _hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, TopicHub] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._feeds: dict[str, Feed] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._pubsub: PubSub | None = None
        self._order = asyncio.Lock()  # SUBSCRIBE and UNSUBSCRIBE of one key reach the server in the order meant
        self._reads = asyncio.Semaphore(CONCURRENT_READS)
        self._failures = 0

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
                self._spawn(self._listen())
                self._spawn(self._look_at_all())
            else:
                self._spawn(self._subscription(key))
        follower = Follower(self, feed, after, wake)
        feed.followers.add(follower)
        if feed.end is not None:
            follower.wake()
        return follower

    async def leave(self, follower: Follower) -> None:
        """Follow no more. The last one to leave takes the hub's connection and tasks with it."""
        follower.left = True
        feed = follower.feed
        feed.followers.discard(follower)
        if feed.followers or self._feeds.get(feed.key) is not feed:
            return
        del self._feeds[feed.key]
        if self._feeds:
            self._spawn(self._subscription(feed.key))
            return
        self._hubs.pop(asyncio.get_running_loop(), None)  # first: who follows from now on gets a hub of their own
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
                    found = await _to_its_end(self.read(feed, before, READ_EVENTS if before else 1))
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
            for feed in list(self._feeds.values()):
                self._refresh_soon(feed)
                await asyncio.sleep(1 / FLOOR_READS_PER_SECOND)
                if not feed.confirmed and time.monotonic() - feed.asked_at > FLOOR_SECONDS:
                    await self._drop(self._pubsub)

    async def _listen(self) -> None:
        """Hear the bells, for ever: whatever happens to the connection, make it again and read every topic."""
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
            for feed in self._feeds.values():
                feed.confirmed, feed.asked_at = False, time.monotonic()
            await _to_its_end(pubsub.connect())
            asked = set(self._feeds)
            await pubsub.subscribe(*asked)
            self._pubsub = pubsub
            if new := self._feeds.keys() - asked:
                await pubsub.subscribe(*new)
            heard_at = time.monotonic()
            while self._pubsub is pubsub:
                message = await pubsub.get_message(timeout=PING_SECONDS)
                if message is not None:
                    heard_at = time.monotonic()
                    self._hear(message["type"], message["channel"])
                elif time.monotonic() - heard_at > 2 * PING_SECONDS:
                    raise ConnectionError(f"silent for {2 * PING_SECONDS:g} s")
                else:
                    await pubsub.ping()
            raise ConnectionError("dropped")
        finally:
            await self._drop(pubsub)

    def _hear(self, kind: str, key: bytes | str | None) -> None:
        feed = self._feeds.get(key.decode() if isinstance(key, bytes) else key or "")
        if feed is None:
            return
        if kind == "subscribe":
            feed.confirmed = True
            if self._failures:
                logger.info("The store's announcements are heard again.")
                self._failures = 0
        if kind in ("subscribe", "message"):
            self._refresh_soon(feed)

    async def _subscription(self, key: str) -> None:
        """Make the pub/sub subscription of a key what it should be now."""
        async with self._order:
            pubsub = self._pubsub
            if pubsub is None:  # whoever connects subscribes to everything
                return
            try:
                await (pubsub.subscribe(key) if key in self._feeds else pubsub.unsubscribe(key))
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
