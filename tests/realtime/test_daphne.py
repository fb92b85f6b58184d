"""Over a real network: daphne in a process of its own, and client.js in node against it."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import playwright
import pytest
from django.contrib.auth.models import User
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from realtime import sessions
from realtime.seats import ANSWER_SECONDS
from retrying import jobs
from retrying.topics import Position
from tests.conftest import await_for

from .app import CHANNEL
from .browser import PATIENCE, end_of, happen
from .daphne import Daphne

NODE = Path(playwright.__file__).parent / "driver" / "node"
FOLLOW = Path(__file__).parent / "follow.mjs"


@pytest.fixture(scope="module")
def daphne(tmp_path_factory: pytest.TempPathFactory, valkey: Any) -> Iterator[Daphne]:
    with Daphne(tmp_path_factory.mktemp("daphne"), TEST_SLOW_SECONDS="1") as server:
        yield server


async def hear(socket: ClientConnection) -> dict[str, Any]:
    return json.loads(await asyncio.wait_for(socket.recv(), PATIENCE))


async def say(socket: ClientConnection, **frame: Any) -> None:
    await socket.send(json.dumps(frame))


async def everything(socket: ClientConnection) -> tuple[list[dict[str, Any]], int | None]:
    """The frames until the server closes, and the code of the close; None when the connection is just cut."""
    frames = []
    try:
        while True:
            frames.append(await hear(socket))
    except ConnectionClosed as closed:
        return frames, closed.rcvd.code if closed.rcvd else None


async def test_submit_follow_cut_and_resume(daphne: Daphne) -> None:
    async with daphne.connect() as socket:
        assert (await hear(socket))["v"] == 1
        await say(socket, type="subscribe", topic="user.5")
        await hear(socket)
        await say(socket, type="command", id="c1", name="say", args={"topic": "user.5", "times": 3})
        frames = [await hear(socket) for _ in range(4)]
    seen = [frame for frame in frames if frame["type"] == "event"][:2]
    await happen("user.5", 2)
    async with daphne.connect() as socket:
        await hear(socket)
        await say(socket, type="subscribe", topic="user.5", epoch=seen[-1]["epoch"], offset=seen[-1]["offset"])
        answer = await hear(socket)
        assert (answer["recovered"], answer["replayed"]) == (True, 3)
        assert [(await hear(socket))["offset"] for _ in range(3)] == [3, 4, 5]


@pytest.mark.parametrize(
    "origin", [None, "http://evil.example", "null", "http://127.0.0.1.evil.example"], ids=str
)  # fmt: skip
async def test_another_origin_is_refused_at_the_handshake(daphne: Daphne, origin: str | None) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with daphne.connect(origin=origin):
            pass
    assert refused.value.response.status_code == 403


async def test_who_is_not_signed_in_sees_the_close_code(daphne: Daphne) -> None:
    async with daphne.connect(user=None) as socket:
        assert (await everything(socket))[1] == 4401


async def test_a_sign_out_in_another_process_closes_the_socket_at_once(daphne: Daphne) -> None:
    async with daphne.connect() as socket, daphne.connect(user=6) as other:
        await hear(socket)
        await hear(other)
        await say(socket, type="subscribe", topic="user.5")  # answered: it listens
        await hear(socket)
        await asyncio.to_thread(sessions.sign_out, User(pk=5))
        frames, code = await everything(socket)
        assert (frames[-1]["code"], code) == ("closing", 4401)
        await say(other, type="ping")
        assert await hear(other) == {"type": "pong"}


async def test_twenty_sockets_of_a_user_in_all_processes(daphne: Daphne, tmp_path: Path) -> None:
    """Of 25 over two servers the five oldest give way; a server that is killed counts no more."""
    async with AsyncExitStack() as stack:

        async def opened(server: Daphne) -> ClientConnection:
            socket = await stack.enter_async_context(server.connect(user=9))
            assert (await hear(socket))["type"] == "welcome"
            return socket

        async def alive(sockets: list[ClientConnection]) -> list[bool]:
            answers = []
            for socket in sockets:
                await socket.send('{"type":"ping"}')
                answers.append(await hear(socket) == {"type": "pong"})
            return answers

        with Daphne(tmp_path) as other:
            sockets = [await opened(daphne if number % 2 else other) for number in range(25)]
            for oldest in sockets[:5]:
                assert (await everything(oldest))[1] == 4409
            assert all(await alive(sockets[5:]))
            other.end(signal.SIGKILL)
        left = [socket for number, socket in enumerate(sockets) if number >= 5 and number % 2]
        again = [await opened(daphne) for _ in range(20 - len(left))]  # the browsers of the killed server come back
        late = asyncio.create_task(left[0].recv())
        await asyncio.wait([late], timeout=2 * ANSWER_SECONDS)
        assert not late.done(), "nobody had to give way to sockets that are no more"
        late.cancel()
        assert all(await alive(again))
        newest = await opened(daphne)
        assert (await everything(left[0]))[1] == 4409
        assert all(await alive([*left[1:], *again, newest]))


async def test_large_frames_are_answered_and_huge_ones_end_the_socket(daphne: Daphne) -> None:
    async with daphne.connect() as socket:
        await hear(socket)
        await socket.send("x" * 20_000)
        assert (await hear(socket))["code"] == "bad_frame"
        await socket.send("x" * (2 * 1024 * 1024))
        assert (await everything(socket))[1] is None  # daphne's own limit, and its way of saying so


async def test_invalid_utf8_ends_the_socket_and_no_other(daphne: Daphne) -> None:
    async with daphne.connect() as socket, daphne.connect() as other:
        await hear(other)
        await socket.send(b'{"type":"\xff"}', text=True)
        assert (await everything(socket))[1] is None
        await say(other, type="ping")
        assert await hear(other) == {"type": "pong"}


async def test_a_flood_ends_the_socket(daphne: Daphne) -> None:
    async with daphne.connect() as socket:
        for _ in range(500):
            await socket.send('{"type":"ping"}')
        assert (await everything(socket))[1] == 4429


async def test_a_browser_that_does_not_read_is_cut(daphne: Daphne) -> None:
    await happen("user.5", 900)
    async with daphne.connect() as socket:
        await hear(socket)
        await say(socket, type="subscribe", topic="user.5")
        frames, code = await everything(socket)
    assert code == 4503
    assert len(json.dumps(frames)) < 90 * 1024, "the window and what was on its way"
    count = sum(frame["type"] == "event" for frame in frames)
    end = await end_of("user.5")
    async with daphne.connect() as socket:  # and goes on where it was
        await hear(socket)
        await say(socket, type="subscribe", topic="user.5", epoch=end.epoch, offset=count)
        assert (await hear(socket))["replayed"] == 900 - count
        assert (await hear(socket))["offset"] == count + 1


async def test_client_js_misses_nothing_while_the_server_is_killed(tmp_path: Path, valkey: Any) -> None:
    """SIGKILL of daphne at three moments, commands and events going on: every event once, every command one job."""
    topic, commands, others = "public.long", 60, 60
    with Daphne(tmp_path) as daphne:
        process = await asyncio.create_subprocess_exec(
            NODE, FOLLOW, f"{daphne.url}?user=5", daphne.origin, topic, str(commands),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        lines: list[list[Any]] = []

        async def read() -> None:
            assert process.stdout is not None
            while line := await process.stdout.readline():
                lines.append(json.loads(line))

        def offsets() -> list[int]:
            return [line[1] for line in lines if line[0] == "event"]

        reading = asyncio.create_task(read())
        try:
            for kill_after in (10, 30, 50):
                await happen(topic, others // 4)
                await await_for(lambda kill_after=kill_after: len(offsets()) >= kill_after, f"{kill_after} events")
                daphne.end(signal.SIGKILL)
                await happen(topic, others // 4 if kill_after == 50 else 0)
                await asyncio.to_thread(daphne.start)
            await await_for(lambda: lines[-1][0] == "done" or any(line[0] == "done" for line in lines), "all commands")
            total = (await end_of(topic)).offset
            await await_for(lambda: len(offsets()) >= total, f"all {total} events, got {len(offsets())}")
        finally:
            process.kill()
            await process.wait()
            await reading
    assert offsets() == list(range(1, total + 1))
    assert [line[1] for line in lines if line[0] == "reset"] == [0], "every reconnect was resumed"
    assert total == commands + others
    assert (await jobs.acounts(CHANNEL)).ready == total
    states = {line[1]["state"] for line in lines if line[0] == "status"}
    assert {"live", "reconnecting"} <= states
    assert any(line[1]["caughtUp"] is not None for line in lines if line[0] == "status")


def test_positions_are_plain_numbers() -> None:
    """They travel as JSON numbers: milliseconds and a count stay below 2**53."""
    assert Position(1_800_000_000_000, 1).epoch < 2**53
