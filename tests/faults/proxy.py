"""A TCP proxy that does what networks do: delays, swallows, resets, cuts a reply off. Controlled while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Self

from retrying.reconnect import end

CHUNK = 65536


class _Pair:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        #: What happens to its next reply.
        self.fate = ""
        #: The client was told that no more comes.
        self.half_closed = False

    def reset(self) -> None:
        """End both with RST instead of FIN."""
        for writer in (self.client, self.server):
            sock: socket.socket = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Proxy:
    """Listens on a free loopback port and forwards to ``target``, as the attributes say at that moment."""

    def __init__(self, target: int) -> None:
        """``target``: the server's port on the loopback address; 0: there is none, whoever connects is sent away."""
        self.target = target
        #: Seconds by which a chunk is late, asked for each chunk and direction.
        self.delay: Callable[[], float] = lambda: 0.0
        #: What happens to the reply to this request (raw bytes), which is forwarded in any case: "" nothing,
        #: "cut" an RST instead of it, "truncate" its first half and then FIN.
        self.fate: Callable[[bytes], str] = lambda _: ""
        #: Replies that were cut off or truncated.
        self.hurt = 0
        self._open = threading.Event()
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="fault-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._open.set()
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the proxy did not start within 10 s")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def blackhole(self) -> None:
        """Forward nothing and say nothing: no FIN, no RST."""
        self._open.clear()

    def reopen(self) -> None:
        """End the blackhole. What was sent meanwhile arrives now."""
        self._open.set()

    def reset(self) -> None:
        """RST to everybody who is connected."""
        self._loop.call_soon_threadsafe(lambda: [pair.reset() for pair in list(self._pairs)])

    def half_close(self) -> None:
        """FIN to the clients; what they still send is accepted."""

        def close() -> None:
            for pair in list(self._pairs):
                if pair.client.can_write_eof() and not pair.client.transport.is_closing():
                    pair.half_closed = True
                    with contextlib.suppress(OSError):
                        pair.client.write_eof()

        self._loop.call_soon_threadsafe(close)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        for pair in list(self._pairs):
            pair.reset()
        await end(self._tasks)

    def _accepted(self, client_in: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connect(client_in, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, client_in: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        pair = None
        try:
            server_in, server = await asyncio.open_connection("127.0.0.1", self.target)
            pair = _Pair(client, server)
            self._pairs.add(pair)
            directions = {
                asyncio.create_task(self._forward(client_in, server, pair, up=True)),
                asyncio.create_task(self._forward(server_in, client, pair, up=False)),
            }
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            await end(directions)
        except OSError:
            pass  # the server is down: the client sees its connection closed
        finally:
            if pair is not None:
                self._pairs.discard(pair)
                pair.server.close()
            client.close()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: _Pair, *, up: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                while not self._open.is_set():
                    await asyncio.sleep(0.01)
                if late := self.delay():
                    await asyncio.sleep(late)
                if up:
                    pair.fate = self.fate(data)
                elif pair.half_closed:
                    return
                elif pair.fate:
                    self.hurt += 1
                    if pair.fate == "truncate":
                        writer.write(data[: max(1, len(data) // 2)])
                        await writer.drain()
                    else:
                        pair.reset()
                    return
                writer.write(data)
                await writer.drain()
