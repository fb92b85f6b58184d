"""A webhook receiver for the demonstration: it writes down every call, and a call can be held until it is let go."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

Answer = Callable[[int], Awaitable[int]]
"""Takes how many calls with this webhook-id there have been (1: the first); the status code to answer with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One HTTP call as it came in."""

    path: str
    webhook_id: str
    at: float
    """`time.monotonic()` when its headers had arrived."""


class Receiver:
    """An HTTP server on a free loopback port: `async with Receiver({"/hook": answer}) as receiver: receiver.origin`."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.calls: list[Call] = []
        self._answers = answers
        self._arrived = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def origin(self) -> str:
        assert self._server is not None, "use it as a context manager"
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def calls_to(self, path: str) -> list[Call]:
        return [call for call in self.calls if call.path == path]

    async def wait_for_calls(self, path: str, count: int) -> list[Call]:
        """The calls to `path`, once there are `count` of them."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.calls_to(path)) >= count)
        return self.calls_to(path)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self._one_call(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the caller hung up, or was killed
        finally:
            writer.close()

    async def _one_call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split(" ")[1]
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        call = Call(path=path, webhook_id=headers["webhook-id"], at=time.monotonic())
        async with self._arrived:
            self.calls.append(call)
            self._arrived.notify_all()
        await reader.readexactly(int(headers.get("content-length", 0)))
        count = sum(earlier.webhook_id == call.webhook_id for earlier in self.calls_to(path))
        status = await self._answers[path](count)
        writer.write(f"HTTP/1.1 {status} Demonstration\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
