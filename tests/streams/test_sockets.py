"""Thousands of sockets on one daphne process: their memory, an event that all of them get, one that does not read."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from retrying import aenqueue
from tests.conftest import await_for
from tests.streams.crowd import Member, crowd, sockets_of
from tests.streams.figures import percentile, report
from tests.streams.parts import Daphne, open_files, resident, worker
from tests.streams.site import CHANNEL

KIB = 1024
#: What a socket of ours may take above one that does nothing.
EXTRA = 40 * KIB
FAN_OUT_SECONDS = 1.0


async def happen(topic: str, times: int = 1) -> None:
    """Let a topic grow by so many events: jobs that became ready."""
    for _ in range(times):
        await aenqueue(CHANNEL, {"type": "stream.nothing"}, topic=topic)


@pytest.mark.timeout(600)
@pytest.mark.long
@pytest.mark.parametrize("idle", [200, 5000])
async def test_what_an_idle_socket_takes(daphne: Daphne, idle: int) -> None:
    """Each follows a topic of its own. Beside it: a consumer of Channels that does nothing."""
    own = [f"user.{number}" for number in range(idle)]
    with daphne:
        async with sockets_of(daphne, own, "bare") as (_, bare):
            pass
    with daphne:
        async with sockets_of(daphne, own, "ws") as (_, ours):
            files = open_files(daphne.pid)
    assert ours - bare < EXTRA, f"{(ours - bare) / KIB:.1f} KiB a socket"
    assert files < idle + 200, "a connection to the store is not a socket's own"
    if idle >= 5000:
        report(
            "memory of an idle socket", f"{ours / KIB:.1f} KiB, of which daphne's and Channels' own {bare / KIB:.1f}"
        )


async def test_more_sockets_than_files(daphne: Daphne) -> None:
    """Those that are in notice nothing; those that find no room come in when there is some."""
    with daphne:
        resource.prlimit(daphne.pid, resource.RLIMIT_NOFILE, (200, 200))
        async with crowd(daphne, ["everybody"] * 140) as members:
            late = [Member(daphne, 1000 + number, "everybody", lambda event, at: None) for number in range(100)]
            opening = [asyncio.create_task(member.open()) for member in late]
            await await_for(lambda: open_files(daphne.pid) == 200, "no file is left")
            await happen("everybody")
            await await_for(lambda: all(member.events for member in members), "the event came to all that are in")
            assert not all(task.done() for task in opening)
            for member in members[:120]:
                member.socket.transport.abort()
            await await_for(lambda: all(task.done() for task in opening), "the late ones come in")
            for member in late:
                member.socket.transport.abort()
    assert " ERROR " not in daphne.text()


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.timeout(600)
async def test_one_event_to_a_thousand_sockets(daphne: Daphne, tmp_path: Path) -> None:
    """4,000 idle sockets, 1,000 idle ones that follow one topic, 500 that 200 events a second keep busy."""
    quiet = [f"user.{number}" for number in range(4000)] + ["everybody"] * 1000
    busy = [f"busy.{number % 50}" for number in range(500)]
    rounds: list[list[float]] = []
    came: list[float] = []
    told = 0

    def heard(event: dict[str, Any], at: int) -> None:
        if event["topic"] == "everybody" and event["name"] == "ready":
            came.append((at - told) / 1e9)

    with daphne, worker(tmp_path) as process:
        process.ready()
        async with crowd(daphne, quiet, heard=heard), crowd(daphne, busy) as active:
            for topic in set(busy):
                await aenqueue(
                    CHANNEL, {"type": "stream.run", "events": 400, "per_second": 4, "bytes": 200}, topic=topic
                )
            await await_for(lambda: all(member.events > 4 for member in active), "the busy ones are")
            seconds = _processor_seconds(daphne.pid), time.monotonic()
            for _ in range(10):
                came.clear()
                told = time.time_ns()
                await happen("everybody")
                await await_for(lambda: len(came) == 1000, "it came to each of 1,000")
                rounds.append(came.copy())
            used = (_processor_seconds(daphne.pid) - seconds[0]) / (time.monotonic() - seconds[1])
            assert all(member.events < 400 for member in active), "they were busy all the time"
            memory = resident(daphne.pid)
    every = [late for one in rounds for late in one]
    p50, p99 = percentile(every, 50), percentile(every, 99)
    assert p99 < FAN_OUT_SECONDS
    report("one event to 1,000 sockets", f"p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, 5,500 sockets open")
    report("memory of daphne with 5,500 sockets", f"{memory / KIB / KIB:.0f} MiB")
    print(f"{used:.0%} of a processor")


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_storm_of_reconnects(daphne: Daphne) -> None:
    """Daphne is killed under 2,000 sockets, half of which miss something meanwhile. All resume."""
    count, meanwhile = 2000, 100
    back: list[float] = []
    with daphne:
        async with crowd(
            daphne, [f"user.{number}" for number in range(count // 2)] + ["everybody"] * (count // 2)
        ) as members:
            daphne.kill()
            await happen("everybody", meanwhile)
            daphne.__enter__()
            began = time.monotonic()

            async def resume(member: Member) -> None:
                await member.come_back()
                listening.create_task(member.listen())
                await asyncio.wait_for(member.subscribed.wait(), 240)
                back.append(time.monotonic() - began)
                assert member.recovered, member.topic

            async with asyncio.TaskGroup() as listening:
                await asyncio.gather(*map(resume, members))
                missed = [member for member in members if member.topic == "everybody"]
                await await_for(
                    lambda: all(member.events == meanwhile for member in missed), "what they missed has come"
                )
                for member in members:
                    member.socket.transport.abort()
            assert " ERROR " not in daphne.text()
            assert max(back) < 60
            report(
                "2,000 sockets come back after a SIGKILL of daphne",
                f"half within {percentile(back, 50):.1f} s, all within {max(back):.1f} s of its start, all by replay",
            )


class Snail:
    """A browser that follows a topic and reads a byte a second, on a bare socket with as little room as it can have."""

    def __init__(self, daphne: Daphne, topic: str) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self._socket.settimeout(10)
        self._socket.connect(("127.0.0.1", daphne.port))
        self._socket.sendall(
            (
                f"GET /ws/?user=2 HTTP/1.1\r\nHost: 127.0.0.1:{daphne.port}\r\nOrigin: {daphne.origin}\r\n"
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            ).encode()
        )
        assert self._socket.recv(12) == b"HTTP/1.1 101"
        frame = json.dumps({"type": "subscribe", "topic": topic}).encode()
        self._socket.sendall(bytes([0x81, 0x80 | len(frame), 0, 0, 0, 0]) + frame)  # masked by zeros
        self._socket.setblocking(False)

    async def read(self) -> None:
        """Until the server cuts it off."""
        loop = asyncio.get_running_loop()
        while await loop.sock_recv(self._socket, 1):
            await asyncio.sleep(1)

    def close(self) -> None:
        self._socket.close()


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_browser_that_reads_a_byte_a_second(daphne: Daphne, tmp_path: Path) -> None:
    """10,000 events of 2 KiB: not in the server's memory; the socket is cut, its neighbour misses nothing."""
    count, per_second = 10_000, 250
    with daphne, worker(tmp_path) as process:
        process.ready()
        async with crowd(daphne, ["slow"]) as [neighbour]:
            snail = Snail(daphne, "slow")
            try:
                reading = asyncio.create_task(snail.read())
                message = {"type": "stream.run", "events": 500, "per_second": per_second, "bytes": 2048}
                await aenqueue(CHANNEL, message, topic="slow")  # buffers and caches are full after these
                await await_for(lambda: neighbour.events >= 500, "the first events")
                sizes = [resident(daphne.pid)]
                await aenqueue(CHANNEL, {**message, "events": count - 500}, topic="slow")
                while neighbour.events < count:
                    await asyncio.sleep(0.2)
                    sizes.append(resident(daphne.pid))
                await await_for(lambda: "Closing a socket of user 2" in daphne.text(), "the slow socket is closed")
                await await_for(lambda: open_files(daphne.pid) < 30, "and gone")
                reading.cancel()
            finally:
                snail.close()
            grown = max(sizes) - sizes[0]
            report(
                "10,000 events of 2 KiB beside a browser that reads a byte a second",
                f"{grown / KIB:.0f} KiB more memory in daphne; the socket closed with 4503",
            )
            assert "bytes unread for" in daphne.text()
            assert grown < 2 * KIB * KIB, [size // KIB for size in sizes]
            assert neighbour.events == neighbour.last
