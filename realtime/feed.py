"""One followed topic of an event loop: where its log ends, and its last few events as frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from retrying import topics
from retrying.topics import Position, Slice, TopicEvent

from .protocol import Event, encode

if TYPE_CHECKING:
    from .follower import Follower

#: Events and characters of a topic that are remembered for its followers.
TAIL_EVENTS = 64
TAIL_CHARACTERS = 256 * 1024


class Told(NamedTuple):
    """An event as it is sent. ``progress_of``: the job whose progress it tells, "" for every other event."""

    offset: int
    frame: str
    progress_of: str


def thinned(told: Iterable[Told]) -> list[str]:
    """The frames of events that follow each other, without progress that newer progress of the same job replaces.

    The frame after a gap says where it begins (``first``), so that the browser knows that nothing is missing.
    """
    events = list(told)
    newest = {event.progress_of: event.offset for event in events if event.progress_of}
    frames: list[str] = []
    first: int | None = None
    for event in events:
        if event.progress_of and newest[event.progress_of] != event.offset:
            first = first or event.offset
        else:
            frames.append(event.frame if first is None else f'{event.frame[:-1]},"first":{first}}}')
            first = None
    return frames


class Feed:
    """A followed topic. What it remembers has no gap up to its end."""

    def __init__(self, channel: str, topic: str) -> None:
        self.channel = channel
        self.topic = topic
        self.key = topics.key(channel, topic)
        self.end: Position | None = None  # None: not read yet
        self.first_look: Slice | None = None  # of the log's first event, as long as nothing has come since
        self.followers: set[Follower] = set()
        self.stale = False
        self.refreshing = False
        self._tail: deque[Told] = deque()
        self._characters = 0

    def told(self, event: TopicEvent) -> Told:
        frame = encode(
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
        return Told(event.offset, frame, event.job if event.name == "progress" else "")

    def take_in(self, found: Slice) -> None:
        """Move the end of this feed to what a read of the log from that end on has found."""
        events = found.events
        if self.end is None or not found.recovered or not events:
            if found.position != self.end:  # a first look, or another log: followers elsewhere read for themselves
                self._tail.clear()
                self._characters = 0
            self.first_look = found if self.end is None else None
            self.end = found.position
            return
        self.first_look = None
        for event in events:
            told = self.told(event)
            self._tail.append(told)
            self._characters += len(told.frame)
        while len(self._tail) > TAIL_EVENTS or self._characters > TAIL_CHARACTERS:
            self._characters -= len(self._tail.popleft().frame)
        self.end = Position(events[-1].epoch, events[-1].offset)
        self.stale = self.stale or self.end != found.position

    def covers(self, place: Position) -> bool:
        """Whether the events after `place` are all remembered (there may be none)."""
        if self.end is None:
            return False
        remembered_from = self.end.offset - len(self._tail)
        if place.epoch == 0:  # from before the log's first event
            return remembered_from == 0
        return place.epoch == self.end.epoch and remembered_from <= place.offset <= self.end.offset

    def after(self, place: Position, limit: int) -> list[Told]:
        """The remembered events after a covered place."""
        assert self.end is not None
        skip = place.offset - (self.end.offset - len(self._tail))
        return [self._tail[index] for index in range(skip, min(skip + limit, len(self._tail)))]
