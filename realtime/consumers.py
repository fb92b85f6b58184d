"""Generic websocket consumers: declared commands that submit work, and the topics of that work streamed back.

    class DeliveriesConsumer(JobConsumer):
        channel = "deliveries"

        async def may_follow(self, topic):
            return topic == f"user.{self.user.pk}"

        @command
        async def deliver(self, args: Deliver, command_id: str) -> dict:
            ...

What a browser sends is one of the frames of `realtime.protocol`. It never chooses a method or a channel by itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from channels.db import aclose_old_connections
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import InterfaceError, OperationalError
from msgspec import UNSET, UnsetType

from retrying import StoreFull, StoreUnavailable
from retrying.reconnect import end
from retrying.topics import Position

from . import protocol, sessions
from .commands import CommandDeclarationError, CommandError, Declared, command, declared_commands
from .limits import TokenBucket
from .outgoing import Outgoing, TooSlow
from .protocol import Close, Code
from .topics import Follower, Start, TopicHub

__all__ = ["Close", "Code", "CommandDeclarationError", "CommandError", "JobConsumer", "command"]

logger = logging.getLogger(__name__)

#: Seconds that a command which is running when its socket goes away gets to finish.
FINISH_SECONDS = 5.0

_RECHECK = object()
_STOP = object()


class JobConsumer(AsyncWebsocketConsumer):
    """Commands in, events of the topics of one channel out. Subclasses set `channel` and declare what is allowed.

    Commands and subscriptions of one socket are handled one after the other, in the order in which they came.
    """

    #: The topics of this channel can be followed.
    channel: ClassVar[str] = ""
    #: Bytes of UTF-8 in one frame from the browser.
    max_frame_bytes: ClassVar[int] = protocol.FRAME_BYTES
    #: No channel layer: topics need none, and a socket must not end because the layer's Redis went away.
    channel_layer_alias = None  # type: ignore[assignment]

    commands: ClassVar[Mapping[str, Declared]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.commands = declared_commands(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.channel:
            raise TypeError(f"{type(self).__qualname__}.channel must name the channel whose topics are followed")
        self._open = False
        self._bucket = TokenBucket(protocol.FRAMES_PER_SECOND, protocol.FRAMES_BURST)
        self._strikes = TokenBucket(protocol.STRIKES_FORGIVEN_PER_SECOND, protocol.STRIKES)
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()
        self._out = Outgoing(self.send, self._advance_soon)
        self._followers: dict[str, Follower] = {}
        self._advancing: set[Follower] = set()
        self._worker: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None
        self._recheck_timer: asyncio.TimerHandle | None = None

    # What a subclass says.

    @property
    def user(self) -> Any:
        """The user of this socket."""
        return self.scope.get("user")

    async def authorize(self) -> bool:
        """Whether this socket may be open at all; asked when it opens and every RECHECK_SECONDS."""
        return bool(self.user is not None and self.user.is_authenticated)

    async def may_follow(self, topic: str) -> bool:
        """Whether this socket may follow a topic; asked on every subscribe and every RECHECK_SECONDS."""
        return False

    async def snapshot(self, topic: str) -> dict[str, Any] | None:
        """The state that stands for a topic's history, read now; None: the history itself is sent."""
        return None

    # The life of the socket.

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._end()

    async def dispatch(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.receive":  # no visit to the database thread for every frame
            await self.websocket_receive(message)
        else:
            await super().dispatch(message)

    async def connect(self) -> None:
        await self.accept()  # first: a refused handshake would hide the close code from the browser
        try:
            allowed = await self.authorize()
        except Exception as error:
            self._failure(error, "opening a socket")
            await self.close(int(Close.TRY_AGAIN))
            return
        if not allowed:
            await self.close(int(self._refusal()))
            return
        self.loop = asyncio.get_running_loop()
        self._open = True
        self._out.reply(protocol.encode(protocol.Welcome(protocol.VERSION)))
        self._worker = asyncio.create_task(self._guard(self._work()))
        self._writer = asyncio.create_task(self._guard(self._out.run()))
        # Not all at the same time after a restart of the server.
        self._recheck_in(protocol.RECHECK_SECONDS * random.uniform(0.5, 1.0))
        if key := sessions.session_key(self.scope):
            sessions.register(key, self)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if not self._open:
            return
        fast_enough = self._bucket.take()
        if text_data is None:
            self._refuse(Code.BAD_FRAME, "Frames are JSON text; this one is binary.")
            return
        size = len(text_data.encode("utf-8", "surrogatepass"))
        if size > self.max_frame_bytes:
            sentence = f"This frame has {size} bytes; at most {self.max_frame_bytes} are allowed."
            self._refuse(Code.BAD_FRAME, sentence, protocol.command_id(text_data))
            return
        try:
            frame = protocol.decode(text_data)
        except protocol.BadFrame as error:
            self._refuse(Code.BAD_FRAME, str(error), protocol.command_id(text_data))
            return
        if isinstance(frame, protocol.Checked):  # as many as were asked for: not counted
            self._out.confirm(frame.n)
        elif not fast_enough or self._inbox.qsize() >= protocol.WAITING_FRAMES:
            id = frame.id if isinstance(frame, protocol.Command) else UNSET
            topic = frame.topic if isinstance(frame, protocol.Subscribe | protocol.Unsubscribe) else UNSET
            sentence = f"Slow down: {protocol.FRAMES_PER_SECOND:g} frames per second are allowed. Nothing was done."
            self._refuse(Code.TOO_FAST, sentence, id, topic)
        elif isinstance(frame, protocol.Ping):
            self._out.reply(protocol.encode(protocol.Pong()))
        else:
            self._inbox.put_nowait(frame)

    def signed_out(self) -> None:
        """The session of this socket has ended (called in the socket's event loop)."""
        self._shut(Close.NOT_SIGNED_IN)

    # One thing after the other: what the browser asks for, and what its topics need.

    async def _work(self) -> None:
        while (item := await self._inbox.get()) is not _STOP:
            if not self._open:
                continue
            await aclose_old_connections()
            match item:
                case protocol.Command():
                    await self._run(item)
                case protocol.Subscribe():
                    await self._subscribe(item)
                case protocol.Unsubscribe(topic=topic):
                    await self._leave(topic)
                case Follower():
                    await self._advance(item)
                case _:
                    await self._recheck()

    async def _run(self, sent: protocol.Command) -> None:
        try:
            declared = self.commands.get(sent.name)
            if declared is None:
                raise CommandError(Code.UNKNOWN_COMMAND, f"There is no command {sent.name!r}.")
            result = await getattr(self, declared.method)(declared.arguments(sent.args), sent.id)
            frame = protocol.encode(protocol.Ack(sent.id, result))
        except Exception as error:
            frame = protocol.encode(self._failure(error, f"command {sent.name!r} {sent.id}", id=sent.id))
        self._out.reply(frame)

    async def _subscribe(self, sent: protocol.Subscribe) -> None:
        try:
            if len(self._followers) >= protocol.SUBSCRIPTIONS and sent.topic not in self._followers:
                raise CommandError(Code.TOO_MANY, f"A socket follows at most {protocol.SUBSCRIPTIONS} topics.")
            if not await self.may_follow(sent.topic):
                raise CommandError(Code.FORBIDDEN, "You may not follow this topic.")
        except Exception as error:
            await self._leave(sent.topic)
            self._out.reply(protocol.encode(self._failure(error, f"topic {sent.topic}", topic=sent.topic)))
            return
        after = None if sent.epoch is None or sent.offset is None else Position(sent.epoch, sent.offset)
        before = self._followers.get(sent.topic)
        # The hub keeps its connection when the new follower comes before the old one goes.
        self._followers[sent.topic] = TopicHub.current().follow(self.channel, sent.topic, after, self._wake)
        if before is not None:
            await before.leave()

    async def _leave(self, topic: str) -> None:
        if (follower := self._followers.pop(topic, None)) is not None:
            await follower.leave()

    def _wake(self, follower: Follower) -> None:
        self._out.wake(follower)

    def _advance_soon(self, follower: Follower) -> None:
        if follower not in self._advancing:
            self._advancing.add(follower)
            self._inbox.put_nowait(follower)

    async def _advance(self, follower: Follower) -> None:
        try:
            start = await follower.advance()
            if start is not None:
                await self._begin(follower, start)
        except Exception as error:
            await self._leave(follower.topic)
            self._out.reply(protocol.encode(self._failure(error, f"topic {follower.topic}", topic=follower.topic)))
        finally:
            self._advancing.discard(follower)
        self._out.wake(follower)

    async def _begin(self, follower: Follower, start: Start) -> None:
        state = None if start.recovered and follower.resumes else await self.snapshot(follower.topic)
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

    async def _recheck(self) -> None:
        self._recheck_in(protocol.RECHECK_SECONDS)
        try:
            self.scope["user"] = await sessions.reload_user(self.scope)
            if not await self.authorize():
                self._shut(self._refusal())
                return
            for topic in list(self._followers):
                if not await self.may_follow(topic):
                    self._shut(Close.FORBIDDEN)
                    return
        except Exception as error:  # not known: the next check tells
            self._failure(error, "checking whether a user is still signed in")

    def _recheck_in(self, seconds: float) -> None:
        self._recheck_timer = self.loop.call_later(seconds, self._inbox.put_nowait, _RECHECK)

    # What goes wrong.

    def _refuse(self, code: Code, sentence: str, id: str | UnsetType = UNSET, topic: str | UnsetType = UNSET) -> None:
        """Answer a frame that was not looked at; too many of them end the socket."""
        self._out.reply(protocol.encode(protocol.Error(code, sentence, id, topic)))
        if not self._strikes.take():
            logger.warning("Closing a socket of user %s: too many refused frames, the last: %s", self._who(), sentence)
            self._shut(Close.ABUSE)

    def _failure(
        self, error: Exception, doing: str, id: str | UnsetType = UNSET, topic: str | UnsetType = UNSET
    ) -> protocol.Error:
        """The error frame for an exception; what the browser need not know is in the log only."""
        match error:
            case CommandError():
                return protocol.Error(error.code, error.message, id, topic, error.fields or UNSET)
            case StoreFull():
                logger.error("The store is full; %s was refused.", doing)
                return protocol.Error(Code.UNAVAILABLE, "The store is full: try again later.", id, topic)
            case StoreUnavailable():
                logger.warning("The store did not answer: %s (%s)", doing, error)
                return protocol.Error(Code.UNAVAILABLE, "The store can't be reached: try again.", id, topic)
            case OperationalError() | InterfaceError():
                logger.error("The database did not answer: %s", doing, exc_info=error)
                return protocol.Error(Code.UNAVAILABLE, "The database can't be reached: try again.", id, topic)
        reference = secrets.token_hex(4)
        logger.error("Reference %s: %s failed", reference, doing, exc_info=error)
        return protocol.Error(Code.INTERNAL, f"Something went wrong here (reference {reference}).", id, topic)

    def _refusal(self) -> Close:
        signed_in = self.user is not None and self.user.is_authenticated
        return Close.FORBIDDEN if signed_in else Close.NOT_SIGNED_IN

    def _who(self) -> Any:
        return getattr(self.user, "pk", None)

    async def _guard(self, task: Coroutine[Any, Any, None]) -> None:
        """Run a task of this socket; when it fails, the socket ends, not the task alone."""
        try:
            await task
        except TooSlow as error:
            logger.info("Closing a socket of user %s: %s", self._who(), error)
            self._shut(Close.TRY_AGAIN)
        except OSError as error:  # the server says so when it sends to a browser that has gone
            logger.debug("A socket of user %s is gone: %s", self._who(), error)
        except Exception:
            logger.exception("A socket of user %s failed", self._who())
            self._shut(Close.INTERNAL)

    # The end.

    def _shut(self, code: Close) -> None:
        """Close the socket from this side, once; nothing is sent after."""
        if self._open:
            self._open = False
            self._closer = asyncio.create_task(self._close_with(code))

    async def _close_with(self, code: Close) -> None:
        if self._writer is not None:
            await end([self._writer])
        try:
            await self.close(int(code))  # a plain int: autobahn takes no subclass
        except Exception:
            logger.exception("Closing a socket of user %s with %s failed", self._who(), code)
        for topic in list(self._followers):
            await self._leave(topic)

    async def _end(self) -> None:
        """Leave nothing behind. A command that is running may finish, those behind it are dropped (and sent again)."""
        self._open = False
        if key := sessions.session_key(getattr(self, "scope", {})):
            sessions.unregister(key, self)
        try:
            if self._worker is not None and not self._worker.done():
                while not self._inbox.empty():
                    self._inbox.get_nowait()
                self._inbox.put_nowait(_STOP)
                await asyncio.wait([self._worker], timeout=FINISH_SECONDS)
        finally:
            await end(task for task in (self._worker, self._writer, self._closer) if task is not None)
            if self._recheck_timer is not None:
                self._recheck_timer.cancel()
            for topic in list(self._followers):
                await self._leave(topic)
