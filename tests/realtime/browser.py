"""The browser's side of a socket in tests: over Channels' communicator."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from channels.testing import WebsocketCommunicator

from realtime.bells import Bells
from realtime.hub import TopicHub
from realtime.seats import Seats
from retrying import aenqueue, topics
from retrying.topics import Position

from .app import CHANNEL, websocket

#: Seconds to wait for a frame that must come.
PATIENCE = 10.0


class Browser(WebsocketCommunicator):
    """One socket. It answers the server's checks unless `confirms` is turned off."""

    confirms = True
    #: What the server said before it closed.
    last_words = ""

    async def say(self, **frame: Any) -> None:
        await self.send_json_to(frame)

    async def hear(self) -> dict[str, Any]:
        """The next frame, or {"type": "close", "code": ...}."""
        while True:
            message = await self.receive_output(PATIENCE)
            if message["type"] == "websocket.close":
                return {"type": "close", "code": message["code"]}
            frame = json.loads(message["text"])
            if frame["type"] == "error" and frame["code"] == "closing":
                self.last_words = frame["message"]
                continue
            if frame["type"] != "check":
                return frame
            if self.confirms:
                await self.say(type="checked", n=frame["n"])

    async def hear_only(self, kind: str) -> dict[str, Any]:
        """The next frame, which must be of this type."""
        frame = await self.hear()
        assert frame["type"] == kind, frame
        return frame

    async def offsets(self, count: int) -> list[int]:
        """The offsets of the next events, of which there must be `count`."""
        return [(await self.hear_only("event"))["offset"] for _ in range(count)]

    async def follow(self, topic: str, after: Position | None = None) -> dict[str, Any]:
        """Subscribe, and the answer."""
        place = {} if after is None else {"epoch": after.epoch, "offset": after.offset}
        await self.say(type="subscribe", topic=topic, **place)
        return await self.hear_only("subscribed")


@asynccontextmanager
async def browser(user: int | None = 5, app: Any = websocket, headers: Any = None) -> AsyncIterator[Browser]:
    """An open socket that has been welcomed."""
    query = "" if user is None else f"?user={user}"
    socket = Browser(app, f"/ws/{query}", headers=headers)
    try:
        accepted, _ = await socket.connect(PATIENCE)
        assert accepted
        assert (await socket.hear_only("welcome"))["v"] == 1
        yield socket
    finally:
        if not socket.future.done():
            await socket.disconnect(timeout=PATIENCE)


async def happen(topic: str, times: int = 1) -> None:
    """Let a topic grow by so many events: each is a job that became ready."""
    for _ in range(times):
        await aenqueue(CHANNEL, {"type": "said"}, topic=topic)


async def end_of(topic: str) -> Position:
    """Where a topic's log ends."""
    return (await topics.aread(CHANNEL, topic)).position


async def trim(topic: str, keep: int) -> None:
    """Forget all but the newest events."""
    await topics.client().xtrim(topics.key(CHANNEL, topic), maxlen=keep, approximate=False)


def hubs() -> int:
    """How many event loops follow anything, listen, or have anybody seated."""
    return len(TopicHub._hubs) + len(Bells._all) + len(Seats._all)
