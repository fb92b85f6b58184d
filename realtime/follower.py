"""One socket's place in one topic."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrying import StoreUnavailable
from retrying.topics import Position

from .feed import Feed, Told, thinned

if TYPE_CHECKING:
    from .hub import TopicHub

#: Events in one read of the log by a follower that catches up.
CATCH_UP_EVENTS = 50


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
        self._backlog: deque[Told] = deque()

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
        """The frames of the next events, at most `limit`; [] when there are none or `behind` tells why."""
        if not self.live or self.left:
            return []
        if self._backlog:
            return thinned(self._backlog.popleft() for _ in range(min(limit, len(self._backlog))))
        if self._place is None or self.feed.end is None or not self.feed.covers(self._place):
            return []
        told = self.feed.after(self._place, limit)
        if told:
            self._place = Position(self.feed.end.epoch, told[-1].offset)
        return thinned(told)

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
            found = self.feed.first_look if after is None else None
            if found is None:
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
            self._backlog.append(self.feed.told(event))
            self._place = Position(event.epoch, event.offset)
        return None
