"""A websocket by hand: what no browser and no library would send."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from .browser import PATIENCE
from .daphne import Daphne

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def frame(payload: bytes, opcode: int = TEXT, *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """One frame, as wrong as it is asked for."""
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([bit | len(payload)])
    elif len(payload) < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", len(payload))
    if not masked:
        return head + payload
    return head + bytes(4) + payload  # a mask of zeros is a mask


def handshake(daphne: Daphne, *, user: int | None = 5, **headers: str | None) -> bytes:
    """The request. ``headers``: other values (None: left out), with _ for -."""
    found: dict[str, str | None] = {
        "Host": f"127.0.0.1:{daphne.port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Origin": daphne.origin,
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    query = "" if user is None else f"?user={user}"
    lines = [f"GET /ws/{query} HTTP/1.1", *(f"{name}: {value}" for name, value in found.items() if value is not None)]
    return "\r\n".join([*lines, "", ""]).encode("latin1")


@dataclass
class Raw:
    """An open connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *frames: bytes) -> None:
        """Send; a connection that the server cut meanwhile is no error here."""
        try:
            for data in frames:
                self.writer.write(data)
                await self.writer.drain()
        except OSError:
            pass

    async def say(self, **content: Any) -> None:
        await self.send(frame(json.dumps(content).encode()))

    async def receive(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload. (CLOSE, b"") when the connection was cut without one."""
        try:
            async with asyncio.timeout(PATIENCE):
                first, second = await self.reader.readexactly(2)
                length = second & 0x7F
                if length == 126:
                    (length,) = struct.unpack("!H", await self.reader.readexactly(2))
                elif length == 127:
                    (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
                return first & 0xF, await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return CLOSE, b""

    async def hear(self) -> dict[str, Any]:
        """The next frame of the protocol; {"close": code} at the end, None for a connection that was cut."""
        while True:
            opcode, payload = await self.receive()
            if opcode == CLOSE:
                return {"close": struct.unpack("!H", payload[:2])[0] if payload else None}
            if opcode == TEXT:
                found: dict[str, Any] = json.loads(payload)
                return found

    async def to_its_end(self) -> tuple[list[dict[str, Any]], int | None]:
        """All that comes until the connection ends, and with which code."""
        frames = []
        while "close" not in (found := await self.hear()):
            frames.append(found)
        return frames, found["close"]


@asynccontextmanager
async def connection(daphne: Daphne) -> AsyncIterator[Raw]:
    """A bare connection, without a handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", daphne.port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def raw(daphne: Daphne, user: int | None = 5) -> AsyncIterator[Raw]:
    """An open and welcomed socket."""
    async with connection(daphne) as socket:
        await socket.send(handshake(daphne, user=user))
        answer = await socket.reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in answer, answer
        assert (await socket.hear())["type"] == "welcome"
        yield socket
