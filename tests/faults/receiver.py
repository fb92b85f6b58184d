"""A webhook receiver in a process of its own: `python receiver.py PORT LOG held|open`.

Writes a line `webhook-id` for every call that it received whole. `held`: it answers none of them before SIGUSR1.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys


async def main(port: int, log: str, mode: str) -> None:
    answer = asyncio.Event()
    if mode == "open":
        answer.set()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, answer.set)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                await reader.readexactly(int(headers.get("content-length", "0")))
                os.write(file, f"{headers['webhook-id']}\n".encode())
                await answer.wait()
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=200)
    async with server:
        await server.serve_forever()


asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
