"""Many sockets at once, held by this process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.streams.parts import Daphne, resident

#: Handshakes at the same time, while a crowd gathers.
AT_ONCE = 20
Heard = Callable[[dict[str, Any], int], None]


class Member:
    """One socket, the topic that it follows and what it heard: with each event the moment (ns) when it came."""

    socket: ClientConnection

    def __init__(self, daphne: Daphne, user: int, topic: str, heard: Heard) -> None:
        self.topic = topic
        self.subscribed = asyncio.Event()
        self.recovered = False
        self.events = 0
        self.last = 0
        self._epoch = 0
        self._daphne = daphne
        self._user = user
        self._heard = heard

    async def open(self, path: str = "ws") -> None:
        """Connect as client.js does: again after a full-jitter delay (0.5 s doubling up to 20 s) when it failed."""
        for attempt in itertools.count():
            try:
                self.socket = await self._daphne.connect(path, user=self._user)
            except (OSError, InvalidHandshake, TimeoutError):
                await asyncio.sleep(random.uniform(0, min(20, 0.5 * 2**attempt)))
            else:
                return

    async def listen(self) -> None:
        """Follow the topic, from where it was, until the socket ends."""
        place = {"epoch": self._epoch, "offset": self.last} if self._epoch else {}
        with contextlib.suppress(ConnectionClosed):
            await self._send(type="subscribe", topic=self.topic, **place)
            async for text in self.socket:
                await self._take(json.loads(text), time.time_ns())

    async def come_back(self) -> None:
        """Connect again after the socket was lost."""
        self.subscribed.clear()
        await asyncio.sleep(random.uniform(0, 0.5))
        await self.open()

    async def _take(self, frame: dict[str, Any], at: int) -> None:
        match frame["type"]:
            case "event":
                assert frame["offset"] == self.last + 1, f"after {self.last} came {frame}"
                self.last, self._epoch = frame["offset"], frame["epoch"]
                self.events += 1
                self._heard(frame, at)
            case "subscribed":
                self.recovered = frame["recovered"]
                self.last, self._epoch = frame["offset"] - frame["replayed"], frame["epoch"]
                self.subscribed.set()
            case "check":
                await self._send(type="checked", n=frame["n"])

    async def _send(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))


@contextlib.asynccontextmanager
async def crowd(
    daphne: Daphne, topics: list[str], *, path: str = "ws", heard: Heard = lambda event, at: None
) -> AsyncIterator[list[Member]]:
    """A socket for each of ``topics``, which it follows (in the bare consumer nothing is followed)."""
    gate = asyncio.Semaphore(AT_ONCE)
    members = [Member(daphne, number + 1, topic, heard) for number, topic in enumerate(topics)]

    async def join(member: Member) -> None:
        async with gate:
            await member.open(path)
            if path == "ws":
                listening.create_task(member.listen())
                await asyncio.wait_for(member.subscribed.wait(), 240)

    async with asyncio.TaskGroup() as listening:
        try:
            await asyncio.gather(*map(join, members))
            yield members
        finally:
            for member in members:
                if hasattr(member, "socket"):
                    member.socket.transport.abort()


@contextlib.asynccontextmanager
async def sockets_of(daphne: Daphne, topics: list[str], path: str) -> AsyncIterator[tuple[list[Member], float]]:
    """So many sockets, and the bytes of the server's memory that each of them takes."""
    async with crowd(daphne, [f"first.{number}" for number in range(50)], path=path):  # what the first ones bring
        before = resident(daphne.pid)
        async with crowd(daphne, topics, path=path) as members:
            yield members, (resident(daphne.pid) - before) / len(topics)
