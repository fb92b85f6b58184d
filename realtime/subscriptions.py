"""The topics that one socket follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from retrying.topics import Position

from . import limits, protocol
from .commands import CommandError
from .failures import error_frame
from .follower import Follower, Start
from .hub import TopicHub
from .outgoing import Outgoing
from .protocol import Code

if TYPE_CHECKING:
    from .mixins import JobTopicsMixin


class Subscriptions:
    """``consumer`` says what may be followed; ``out`` sends. Its coroutines run one after the other."""

    def __init__(self, consumer: JobTopicsMixin, out: Outgoing) -> None:
        self._consumer = consumer
        self._out = out
        self._followers: dict[str, Follower] = {}

    async def subscribe(self, sent: protocol.Subscribe) -> None:
        """Follow a topic, or say why not."""
        try:
            if len(self._followers) >= protocol.SUBSCRIPTIONS and sent.topic not in self._followers:
                limits.refused[Code.TOO_MANY] += 1
                raise CommandError(Code.TOO_MANY, f"A socket follows at most {protocol.SUBSCRIPTIONS} topics.")
            if not await self._consumer.may_follow(sent.topic):
                raise CommandError(Code.FORBIDDEN, "You may not follow this topic.")
        except Exception as error:
            await self.leave(sent.topic)
            self._out.reply(protocol.encode(error_frame(error, f"topic {sent.topic}", topic=sent.topic)))
            return
        after = None if sent.epoch is None or sent.offset is None else Position(sent.epoch, sent.offset)
        before = self._followers.get(sent.topic)
        # The hub keeps its subscription when the new follower comes before the old one goes.
        hub = TopicHub.current()
        self._followers[sent.topic] = hub.follow(self._consumer.channel, sent.topic, after, self._out.wake)
        if before is not None:
            await before.leave()

    async def leave(self, topic: str) -> None:
        """Follow it no more."""
        if (follower := self._followers.pop(topic, None)) is not None:
            await follower.leave()

    async def leave_all(self) -> None:
        for topic in list(self._followers):
            await self.leave(topic)

    async def all_allowed(self) -> bool:
        """Whether each topic may still be followed."""
        for topic in list(self._followers):
            if not await self._consumer.may_follow(topic):
                return False
        return True

    async def advance(self, follower: Follower, done: Callable[[Follower], None]) -> None:
        """Read the log for a follower that is behind what the hub remembers."""
        try:
            start = await follower.advance()
            if start is not None:
                await self._begin(follower, start)
        except Exception as error:
            await self.leave(follower.topic)
            self._out.reply(protocol.encode(error_frame(error, f"topic {follower.topic}", topic=follower.topic)))
        finally:
            done(follower)
        self._out.wake(follower)

    async def _begin(self, follower: Follower, start: Start) -> None:
        state = None if start.recovered and follower.resumes else await self._consumer.snapshot(follower.topic)
        if state is not None:  # it was read after the log's end: what it does not know yet comes as events
            follower.skip_to(start.end)
            start = replace(start, replayed=0, recovered=False)
        topic, end = follower.topic, start.end
        frames = [protocol.encode(protocol.Subscribed(topic, end.epoch, end.offset, start.recovered, start.replayed))]
        if state is not None:
            frames.append(protocol.encode(protocol.Snapshot(topic, state)))
        for frame in frames:
            self._out.reply(frame)
        follower.live = True
