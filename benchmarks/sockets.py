"""What a websocket costs beside a bare one, in daphne and in uvicorn: `make bench-sockets`.

In one run, on one machine, for each server and consumer, best of some rounds: memory of an idle socket, the time from
an event to the frame in each of a thousand sockets, and the server's processor time for each frame. Ours is a
JobConsumer whose sockets follow a topic of their own (memory) or one topic (fan-out); bare is a consumer of Channels
that does nothing (memory), or one in a group that `group_send` tells something (fan-out). `--write` puts the table into
docs/websockets.md; `--sockets` and `--rounds` make it smaller.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import django

from .environments import ROOT
from .measure import Server, cpu_seconds, percentile
from .tables import markdown

DOCUMENT = ROOT / "docs" / "websockets.md"
BEGIN, END = "<!-- beside bare servers: written by make bench-sockets -->", "<!-- end -->"
EVENTS = 10
PATIENCE = 60.0


async def memory(server: Any, path: str, sockets: int) -> float:
    """KiB of an idle socket."""
    from tests.streams.crowd import sockets_of

    with server:
        async with sockets_of(server, [f"user.{number}" for number in range(sockets)], path) as (_, each):
            return float(each) / 1024


async def fan_out(server: Any, path: str, sockets: int) -> tuple[float, float, float]:
    """Milliseconds, p50 and p99, from an event to a frame; microseconds of the server's processor for a frame."""
    from tests.streams.crowd import crowd

    came: list[float] = []
    told = 0

    def heard(event: dict[str, Any], at: int) -> None:
        if event["name"] == "ready":
            came.append((at - told) / 1e6)

    async def read(socket: Any) -> None:
        async for text in socket:
            heard(json.loads(text), time.time_ns())

    tell = _tell_topic if path == "ws" else _tell_group
    every: list[float] = []
    with server:
        async with crowd(server, ["everybody"] * sockets, path=path, heard=heard) as members:
            reading = [] if path == "ws" else [asyncio.create_task(read(member.socket)) for member in members]
            began = 0.0
            for event in range(EVENTS + 1):
                came.clear()
                told = time.time_ns()
                await tell()
                async with asyncio.timeout(PATIENCE):
                    while len(came) < sockets:
                        await asyncio.sleep(0.01)
                if event == 0:  # the first one opens connections
                    began = cpu_seconds(server.pid)
                else:
                    every += came
            used = cpu_seconds(server.pid) - began
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
    return percentile(every, 0.5), percentile(every, 0.99), used / EVENTS / sockets * 1e6


async def _tell_topic() -> None:
    from retrying import aenqueue

    await aenqueue("streams", {"type": "stream.nothing"}, topic="everybody")


async def _tell_group() -> None:
    from channels.layers import get_channel_layer

    text = json.dumps({"type": "event", "name": "ready", "topic": "everybody", "job": "x" * 32, "at": time.time()})
    await get_channel_layer().group_send("everybody", {"type": "tell", "text": text})


async def measure(directory: Path, make: Callable[[Path], Any], sockets: int, rounds: int) -> dict[str, list[str]]:
    """A row of figures for each consumer."""
    rows = {}
    for name, idle, told in (("bare", "bare", "group"), ("ours", "ws", "ws")):
        kib = min([await memory(make(directory), idle, sockets) for _ in range(rounds)])
        found = [await fan_out(make(directory), told, min(1000, sockets)) for _ in range(rounds)]
        p50, p99 = min(each[0] for each in found), min(each[1] for each in found)
        cpu = min(each[2] for each in found)
        rows[name] = [f"{kib:.1f}", f"{p50:.0f}", f"{p99:.0f}", f"{cpu:.0f}"]
    return rows


def write(text: str) -> None:
    page = DOCUMENT.read_text()
    if BEGIN not in page:
        raise ValueError(f"{DOCUMENT.name} has no line {BEGIN!r}, after which the figures go")
    head, _, rest = page.partition(BEGIN)
    DOCUMENT.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-sockets", description="Websockets beside bare ones.")
    parser.add_argument("--sockets", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with Server() as server, tempfile.TemporaryDirectory(prefix="sockets-") as directory:
        os.environ.update(DJANGO_SETTINGS_MODULE="tests.streams.settings", REDIS_URL=server.url, VAR_DIR=directory)
        django.setup()
        from tests.streams.parts import Daphne, Uvicorn, allow_many_files, make_users

        allow_many_files()
        users = make_users(Path(directory))
        rows = []
        for kind in (Daphne, Uvicorn):
            own = Path(directory, kind.__name__)
            own.mkdir()
            shutil.copy(users, own / users.name)
            program = kind.__name__.lower()
            work = measure(own, kind, options.sockets, options.rounds)
            for name, figures in asyncio.run(work).items():
                rows.append([f"{program} {version(program)}, {name}", *figures])
                print(rows[-1], flush=True)
    head = ["", "KiB of an idle socket", "fan-out p50, ms", "p99, ms", "server's CPU for a frame, us"]
    text = (
        f"{markdown(head, rows)}\n\n{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, "
        f"{os.cpu_count()} processors; {options.sockets:,} idle sockets; one event to {min(1000, options.sockets):,} "
        f"sockets, {EVENTS} times; best of {options.rounds} rounds."
    )
    print(f"\n{text}")
    if options.write:
        write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
