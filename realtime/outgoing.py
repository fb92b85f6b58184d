"""What waits to be sent to one socket, within bounds.

The server of the socket (daphne, say) takes every frame at once and keeps it in memory until the browser reads it. So
whether the browser keeps up is asked of the browser: after CHECK_BYTES comes a `check` frame, and no more than
WINDOW_BYTES are on their way unconfirmed. Events beyond that are not queued anywhere: they are in the log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from . import protocol
from .follower import Follower

#: Events that one topic may send before the next topic's turn.
TURN_EVENTS = 32


class TooSlow(Exception):
    """The browser does not read what it is sent."""


class Gone(Exception):
    """The server of the socket takes no frames for it any more."""


class Outgoing:
    """Replies in order, before the events of the followed topics in turns.

    ``send`` sends one text frame; ``ask`` is called with a follower that must read the log before it has more.
    """

    def __init__(self, send: Callable[[str], Awaitable[None]], ask: Callable[[Follower], None]) -> None:
        self._send_text = send
        self._ask = ask
        self._replies: deque[str] = deque()
        self._overflow = False
        self._news: dict[Follower, None] = {}  # an ordered set: who may have events
        self._something = asyncio.Event()
        self._sent = 0  # characters, near enough to bytes
        self._confirmed = 0
        self._checks: deque[tuple[int, int]] = deque()  # (number, sent until then) of the unanswered ones
        self._number = 0
        self._room = asyncio.Event()

    def reply(self, frame: str) -> None:
        """Send this frame before any further event."""
        if len(self._replies) >= protocol.WAITING_REPLIES:
            self._overflow = True
        else:
            self._replies.append(frame)
        self._something.set()

    def wake(self, follower: Follower) -> None:
        """A follower may have events to send."""
        self._news[follower] = None
        self._something.set()

    def confirm(self, number: int) -> bool:
        """The browser has read everything up to this check. False: there is no such check unanswered."""
        known = bool(self._checks) and self._checks[0][0] <= number <= self._number
        while known and self._checks and self._checks[0][0] <= number:
            self._confirmed = self._checks.popleft()[1]
            self._room.set()
        return known

    async def run(self) -> None:
        """Send, for ever. Raises TooSlow, Gone."""
        while True:
            await self._something.wait()
            self._something.clear()
            while self._replies or self._news:
                await self._flush_replies()
                if self._news:
                    await self._turn(next(iter(self._news)))

    async def _turn(self, follower: Follower) -> None:
        del self._news[follower]
        frames = follower.take(TURN_EVENTS)
        for frame in frames:
            if follower.left:  # unsubscribed while the frames before were sent
                return
            await self._send(frame)
        if frames:
            self._news[follower] = None  # to the end of the queue
        elif follower.behind:
            self._ask(follower)

    async def _flush_replies(self) -> None:
        while self._replies:
            await self._send(self._replies.popleft())
        if self._overflow:
            raise TooSlow(f"{protocol.WAITING_REPLIES} replies wait to be read")

    async def _send(self, frame: str) -> None:
        if self._sent - self._confirmed > protocol.WINDOW_BYTES:
            await self._wait_for_room()
        await self._hand_over(frame)
        self._sent += len(frame)
        asked = self._checks[-1][1] if self._checks else self._confirmed
        if self._sent - asked >= protocol.CHECK_BYTES:
            self._number += 1
            self._checks.append((self._number, self._sent))
            await self._hand_over(protocol.encode(protocol.Check(self._number)))

    async def _hand_over(self, frame: str) -> None:
        try:
            await self._send_text(frame)
        except (OSError, RuntimeError) as error:  # RuntimeError: daphne's, between a socket's end and the word of it
            raise Gone(str(error)) from error

    async def _wait_for_room(self) -> None:
        try:
            async with asyncio.timeout(protocol.SLOW_SECONDS):
                while self._sent - self._confirmed > protocol.WINDOW_BYTES:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            raise TooSlow(f"{self._sent - self._confirmed} bytes unread for {protocol.SLOW_SECONDS:g} s") from None
