"""The socket of the control room's pages."""

from __future__ import annotations

import asyncio
import json
from typing import ClassVar

import msgspec
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from ..mixins import JobTopicsMixin
from . import (
    live,
    screens,
    urls,  # noqa: F401 -- with it come the pages, which declare the screens: a socket may be a process' first request
)
from .access import Access, access_of
from .screens import Screen


class Look(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="look"):
    """What a page asks: the screen's part, once it is another one than the one seen."""

    screen: str
    query: str
    seen: str


class ControlRoomConsumer(JobTopicsMixin, AsyncWebsocketConsumer):
    """Answers each ``look`` of a page with a ``part``, as soon as there is one that the page has not seen. A page asks
    again when it has been answered, so that none is sent more than it takes. For staff with the permission to view,
    asked again and again as for every socket (see ``realtime.sessions``)."""

    channel = "control-room"  # the protocol's topics are not used: nobody may follow any
    channel_layer_alias = None  # type: ignore[assignment]
    sockets_per_user: ClassVar[int | None] = 50

    _allowed = Access()
    _look: Look | None = None
    _answering: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        await self.accept()  # also who is turned away: a refused handshake would hide the close code from the browser

    async def disconnect(self, code: int) -> None:
        self._stop()

    async def authorize(self) -> bool:
        before, self._allowed = self._allowed, await database_sync_to_async(access_of)(self.user)
        if before != self._allowed:
            self._answer_anew()
        return self._allowed.view

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        try:
            self._look = msgspec.json.decode(text_data or "", type=Look)
        except msgspec.DecodeError:
            return  # no page of ours sends that
        self._answer_anew()

    def _answer_anew(self) -> None:
        self._stop()
        if self._look is not None and self._allowed.view and (screen := screens.find(self._look.screen)) is not None:
            self._answering = asyncio.create_task(self._answer(screen, self._look))

    async def _answer(self, screen: Screen, look: Look) -> None:
        part = await live.watch(screen, look.query, self._allowed).newer_than(look.seen)
        self._look = None
        await self.send(json.dumps({"type": "part", **part.answer(look.seen)}))

    def _stop(self) -> None:
        if self._answering is not None:
            self._answering.cancel()
            self._answering = None
