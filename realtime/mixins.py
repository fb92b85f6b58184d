"""Topics and commands for any asynchronous websocket consumer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from . import protocol
from .commands import Declared, declared_commands
from .socket import JobSocket

if TYPE_CHECKING:  # what it calls by super() is the consumer that it is put in front of
    from channels.generic.websocket import AsyncWebsocketConsumer as _Base
else:
    _Base = object


class JobTopicsMixin(_Base):
    """Put before ``AsyncWebsocketConsumer`` or ``AsyncJsonWebsocketConsumer``: ``class Room(JobTopicsMixin, ...)``.

    Frames whose ``type`` is one of the protocol's are answered here, all others are the consumer's own, as ever
    (``receive``, ``receive_json``), at the pace and up to the size that the limits allow. The browser is welcomed when
    the consumer accepts the socket, if ``authorize`` allows it; else the socket is closed again.
    """

    #: The topics of this channel can be followed.
    channel: ClassVar[str] = ""
    #: Bytes in one frame from the browser (of UTF-8, when it is text).
    max_frame_bytes: ClassVar[int] = protocol.FRAME_BYTES
    #: Sockets of one user in all processes; the oldest gives way to a new one (4409). None: any number.
    sockets_per_user: ClassVar[int | None] = protocol.SOCKETS_PER_USER
    #: Whether frames that are not of the protocol go to the consumer; else they are refused.
    takes_other_frames: ClassVar[bool] = True

    commands: ClassVar[Mapping[str, Declared]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.commands = declared_commands(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.channel:
            raise TypeError(f"{type(self).__qualname__}.channel must name the channel whose topics are followed")
        self._jobs = JobSocket(self)

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

    # How it hooks into the consumer.

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        async def receive_others() -> dict[str, Any]:
            """The next message that is no frame of the protocol. Those are not dispatched: what comes at once is taken
            at once, so that a flood is over after its first frames."""
            while True:
                message: dict[str, Any] = await receive()
                if message["type"] != "websocket.receive":
                    return message
                if not self._jobs.takes(message.get("text"), message.get("bytes")):
                    return message

        try:
            await super().__call__(scope, receive_others, send)
        finally:
            if hasattr(self, "scope"):
                await self._jobs.end()

    async def accept(self, *args: Any, **kwargs: Any) -> None:
        await super().accept(*args, **kwargs)
        await self._jobs.open()

    async def close(self, code: int | bool | None = None, reason: str | None = None) -> None:
        await self._jobs.stop()
        await super().close(code=code, reason=reason)
