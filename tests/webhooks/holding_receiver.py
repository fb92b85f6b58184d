"""A receiver in a process of its own: notes each webhook-id that it got, and answers only once a gate file is there.

Usage: holding_receiver.py NOTES GATE. Prints its port.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path


async def main(notes: Path, gate: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
                headers = dict(line.split(": ", 1) for line in head[1:-2])
                await reader.readexactly(int(headers["content-length"]))
                with notes.open("a", encoding="ascii") as file:
                    file.write(headers["webhook-id"] + "\n")
                if not gate.exists():  # noqa: ASYNC240 - a look-up in memory
                    await reader.read()  # unanswered, until the caller is gone
                    return
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
