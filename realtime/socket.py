"""What one websocket needs to take commands and to follow topics, whatever else its consumer does."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from channels.db import aclose_old_connections
from msgspec import UNSET, UnsetType

from retrying.conf import get_settings
from retrying.reconnect import end

from . import limits, protocol, sessions
from .commands import CommandError
from .failures import error_frame
from .follower import Follower
from .limits import TokenBucket
from .outgoing import Gone, Outgoing, TooSlow
from .protocol import Close, Code
from .seats import Seats
from .subscriptions import Subscriptions

if TYPE_CHECKING:
    from .mixins import JobTopicsMixin

logger = logging.getLogger(__name__)

#: Seconds that a command which is running when its socket goes away gets to finish.
FINISH_SECONDS = 5.0

_RECHECK = object()
_STOP = object()


class JobSocket:
    """One socket. Commands and subscriptions are handled one after the other, in the order in which they came."""

    loop: asyncio.AbstractEventLoop
    #: Sockets that its user may have open.
    most: int

    def __init__(self, consumer: JobTopicsMixin) -> None:
        #: It was welcomed, and nobody has closed it.
        self.is_open = False
        self._consumer = consumer
        self._bucket = TokenBucket(protocol.FRAMES_PER_SECOND, protocol.FRAMES_BURST)
        self._strikes = TokenBucket(protocol.STRIKES_FORGIVEN_PER_SECOND, protocol.STRIKES)
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()
        self._out = Outgoing(consumer.send, self._advance_soon)
        self._topics = Subscriptions(consumer, self._out)
        self._advancing: set[Follower] = set()
        self._worker: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None
        self._recheck_timer: asyncio.TimerHandle | None = None
        self._marks: tuple[str, ...] | None = None
        self._seat: tuple[str, str] | None = None

    # From the browser.

    async def open(self) -> None:
        """Welcome the browser on a socket that was accepted, or close it."""
        try:
            allowed = await self._consumer.authorize()
        except Exception as error:
            error_frame(error, "opening a socket")
            await self._close(Close.TRY_AGAIN)
            return
        if not allowed:
            await self._close(self._refusal())
            return
        self.loop = asyncio.get_running_loop()
        self.is_open = True
        user = self._who()
        self._out.reply(
            protocol.encode(
                protocol.Welcome(
                    v=protocol.VERSION,
                    now=round(time.time() * 1000),
                    dedup=get_settings().DEDUP_SECONDS,
                    user=UNSET if user is None else str(user),
                )
            )
        )
        self._worker = asyncio.create_task(self._guard(self._work()))
        self._writer = asyncio.create_task(self._guard(self._out.run()))
        # Not all at the same time after a restart of the server.
        self._recheck_in(protocol.RECHECK_SECONDS * random.uniform(0.5, 1.0))
        self._marks = sessions.marks_of(self._consumer.scope)
        sessions.register(self, self._marks)
        if user is not None and self._consumer.sockets_per_user is not None:
            self.most = self._consumer.sockets_per_user
            self._seat = (str(user), Seats.current().take(str(user), self))

    def takes(self, text: str | None, data: bytes | None) -> bool:
        """Take a frame. False: it is not of this protocol and within the limits, the consumer's own matter."""
        if not self.is_open:
            return True
        fast_enough = self._bucket.take()
        size = len(data or b"") if text is None else len(text.encode("utf-8", "surrogatepass"))
        if size > self._consumer.max_frame_bytes:
            sentence = f"This frame has {size} bytes; at most {self._consumer.max_frame_bytes} are allowed."
            self._refuse(Code.BAD_FRAME, sentence, UNSET if text is None else protocol.command_id(text))
        elif self._consumer.takes_other_frames and (text is None or not protocol.is_ours(text)):
            if fast_enough:
                return False
            self._refuse_pace()
        elif text is None:
            self._refuse(Code.BAD_FRAME, "Frames are JSON text; this one is binary.")
        else:
            self._take(text, fast_enough)
        return True

    def _take(self, text: str, fast_enough: bool) -> None:
        try:
            frame = protocol.decode(text)
        except protocol.BadFrame as error:
            self._refuse(Code.BAD_FRAME, str(error), protocol.command_id(text))
            return
        if isinstance(frame, protocol.Checked):  # as many as were asked for: not counted
            if not self._out.confirm(frame.n):
                self._refuse(Code.BAD_FRAME, f"There is no check {frame.n} that waits for its answer.")
        elif not fast_enough or self._inbox.qsize() >= protocol.WAITING_FRAMES:
            id = frame.id if isinstance(frame, protocol.Command) else UNSET
            topic = frame.topic if isinstance(frame, protocol.Subscribe | protocol.Unsubscribe) else UNSET
            self._refuse_pace(id, topic)
        elif isinstance(frame, protocol.Ping):
            self._out.reply(protocol.encode(protocol.Pong()))
        elif isinstance(frame, protocol.Hello):
            self._greet(frame.v)
        else:
            self._inbox.put_nowait(frame)

    def _greet(self, version: int) -> None:
        if version != protocol.VERSION:
            sentence = f"This server speaks version {protocol.VERSION}, this page version {version}: reload the page."
            self._out.reply(protocol.encode(protocol.Error(Code.WRONG_VERSION, sentence)))
            self.shut(Close.WRONG_VERSION)

    # From elsewhere; called in the socket's event loop.

    def signed_out(self) -> None:
        """The session of this socket has ended."""
        self.shut(Close.NOT_SIGNED_IN)

    def recheck_soon(self) -> None:
        """Something has changed about what the user may do."""
        if self.is_open:
            self._inbox.put_nowait(_RECHECK)

    def give_way(self) -> None:
        """The user has too many sockets, and this is the oldest."""
        self.shut(Close.GAVE_WAY)

    # One thing after the other: what the browser asks for, and what its topics need.

    async def _work(self) -> None:
        while (item := await self._inbox.get()) is not _STOP:
            if not self.is_open:
                continue
            await aclose_old_connections()
            match item:
                case protocol.Command():
                    await self._run(item)
                case protocol.Subscribe():
                    await self._topics.subscribe(item)
                case protocol.Unsubscribe(topic=topic):
                    await self._topics.leave(topic)
                case Follower():
                    await self._topics.advance(item, self._advancing.discard)
                case _:
                    await self._recheck()

    async def _run(self, sent: protocol.Command) -> None:
        try:
            declared = self._consumer.commands.get(sent.name)
            if declared is None:
                raise CommandError(Code.UNKNOWN_COMMAND, f"There is no command {sent.name!r}.")
            result = await getattr(self._consumer, declared.method)(declared.arguments(sent.args), sent.id)
            frame = protocol.encode(protocol.Ack(sent.id, result))
        except Exception as error:
            frame = protocol.encode(error_frame(error, f"command {sent.name!r} {sent.id}", id=sent.id))
        self._out.reply(frame)

    def _advance_soon(self, follower: Follower) -> None:
        if follower not in self._advancing:
            self._advancing.add(follower)
            self._inbox.put_nowait(follower)

    async def _recheck(self) -> None:
        self._recheck_in(protocol.RECHECK_SECONDS)
        try:
            self._consumer.scope["user"] = await sessions.reload_user(self._consumer.scope)
            if not await self._consumer.authorize():
                self.shut(self._refusal())
            elif not await self._topics.all_allowed():
                self.shut(Close.FORBIDDEN)
        except Exception as error:  # not known: the next check tells
            error_frame(error, "checking whether a user is still signed in")

    def _recheck_in(self, seconds: float) -> None:
        if self._recheck_timer is not None:
            self._recheck_timer.cancel()
        self._recheck_timer = self.loop.call_later(seconds, self.recheck_soon)

    # What goes wrong.

    def _refuse(self, code: Code, sentence: str, id: str | UnsetType = UNSET, topic: str | UnsetType = UNSET) -> None:
        """Answer a frame that was not looked at; too many of them end the socket."""
        limits.refused[code] += 1
        self._out.reply(protocol.encode(protocol.Error(code, sentence, id, topic)))
        if not self._strikes.take():
            logger.warning("Closing a socket of user %s: too many refused frames, the last: %s", self._who(), sentence)
            self.shut(Close.ABUSE)

    def _refuse_pace(self, id: str | UnsetType = UNSET, topic: str | UnsetType = UNSET) -> None:
        sentence = f"Slow down: {protocol.FRAMES_PER_SECOND:g} frames per second are allowed. Nothing was done."
        self._refuse(Code.TOO_FAST, sentence, id, topic)

    def _refusal(self) -> Close:
        user = self._consumer.user
        return Close.FORBIDDEN if user is not None and user.is_authenticated else Close.NOT_SIGNED_IN

    def _who(self) -> Any:
        return getattr(self._consumer.user, "pk", None)

    async def _guard(self, task: Coroutine[Any, Any, None]) -> None:
        """Run a task of this socket; when it fails, the socket ends, not the task alone."""
        try:
            await task
        except TooSlow as error:
            logger.info("Closing a socket of user %s: %s", self._who(), error)
            self.shut(Close.TRY_AGAIN)
        except Gone as error:
            logger.debug("A socket of user %s is gone: %s", self._who(), error)
        except Exception:
            logger.exception("A socket of user %s failed", self._who())
            self.shut(Close.INTERNAL)

    # The end.

    def shut(self, code: Close) -> None:
        """Close the socket from this side, once; nothing is sent after."""
        if self.is_open:
            self.is_open = False
            limits.refused[str(int(code))] += 1
            self._closer = asyncio.create_task(self._close_with(code))

    async def stop(self) -> None:
        """The consumer closes the socket: nothing is sent from here on."""
        self.is_open = False
        if self._writer is not None:
            await end([self._writer])

    async def _close_with(self, code: Close) -> None:
        if self._writer is not None:
            await end([self._writer])
        try:
            await self._close(code)
        except Exception:
            logger.exception("Closing a socket of user %s with %s failed", self._who(), code)
        await self._topics.leave_all()

    async def _close(self, code: Close) -> None:
        sentence = protocol.SENTENCES[code]  # daphne drops the reason of a close frame
        await self._consumer.send(text_data=protocol.encode(protocol.Error(Code.CLOSING, sentence)))
        await self._consumer.close(code=int(code), reason=sentence)  # a plain int: autobahn takes no subclass

    async def end(self) -> None:
        """Leave nothing behind. A command that is running may finish, those behind it are dropped (and sent again)."""
        self.is_open = False
        try:
            if self._seat is not None:
                await Seats.current().leave(*self._seat)
            if self._worker is not None and not self._worker.done():
                while not self._inbox.empty():
                    self._inbox.get_nowait()
                self._inbox.put_nowait(_STOP)
                await asyncio.wait([self._worker], timeout=FINISH_SECONDS)
        finally:
            await end(task for task in (self._worker, self._writer, self._closer) if task is not None)
            if self._recheck_timer is not None:
                self._recheck_timer.cancel()
            await self._topics.leave_all()
            if self._marks is not None:
                await sessions.unregister(self, self._marks)
