"""What no browser sends, against a real daphne over bare connections: each gets its answer, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from realtime import protocol
from retrying.topics import Position

from .browser import end_of, happen
from .daphne import Daphne
from .raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Raw, connection, frame, handshake, raw

#: Bytes by which the server may grow while it is abused: what one read of a connection and one large frame take.
FLAT = 8 * 1024 * 1024


@pytest.fixture(scope="module")
def daphne(tmp_path_factory: pytest.TempPathFactory, valkey: Any) -> Iterator[Daphne]:
    with Daphne(tmp_path_factory.mktemp("daphne")) as server:
        yield server


def memory(daphne: Daphne) -> int:
    """Bytes of memory that the server has in use."""
    status = Path(f"/proc/{daphne.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) * 1024


class Bystander:
    """Another user's socket, which follows a topic and asks all the while."""

    def __init__(self, socket: Raw) -> None:
        self.socket = socket
        self.leaving = asyncio.Event()
        #: Seconds that each answer took.
        self.waits: list[float] = []

    async def ask(self) -> None:
        while not self.waits or not self.leaving.is_set():
            asked = time.monotonic()
            await self.socket.say(type="ping")
            assert await self.socket.hear() == {"type": "pong"}
            self.waits.append(time.monotonic() - asked)
            await asyncio.sleep(0.06)


@asynccontextmanager
async def bystander(daphne: Daphne) -> AsyncIterator[Bystander]:
    """It must have had all of its answers, and nothing else, when the test is over."""
    topic = f"user.6.{time.monotonic_ns()}"
    async with raw(daphne, user=6) as socket:
        await socket.say(type="subscribe", topic=topic)
        assert (await socket.hear())["type"] == "subscribed"
        found = Bystander(socket)
        asking = asyncio.create_task(found.ask())
        yield found
        found.leaving.set()
        await asking
        await happen(topic)
        assert (await socket.hear())["type"] == "event"


def chunks(payload: bytes, size: int) -> list[bytes]:
    """One message in fragments."""
    pieces = [payload[start : start + size] for start in range(0, len(payload), size)]
    return [
        frame(piece, CONTINUATION if number else TEXT, fin=number == len(pieces) - 1)
        for number, piece in enumerate(pieces)
    ]


BROKEN = {
    "a reserved opcode": [frame(b"x", 0x3)],
    "a reserved control opcode": [frame(b"x", 0xB)],
    "a reserved bit": [frame(b"x", rsv=4)],
    "no mask": [frame(b"x", masked=False)],
    "a ping in fragments": [frame(b"x", PING, fin=False)],
    "a ping of 200 bytes": [frame(b"x" * 200, PING)],
    "a fragment of nothing": [frame(b"x", CONTINUATION)],
    "a message within a message": [frame(b"x", fin=False), frame(b"y")],
    "a close of one byte": [frame(b"x", CLOSE)],
    "a close with an impossible code": [frame(struct.pack("!H", 999), CLOSE)],
    "a close whose reason is not UTF-8": [frame(struct.pack("!H", 1000) + b"\xff", CLOSE)],
    "text that is not UTF-8": [frame(b'{"type":"\xff"}')],
    "a frame of 2 MiB": [frame(b"x" * (2 << 20))],
    "the head of a frame of 2 MiB": [frame(b"x" * (2 << 20))[:20]],
    "the head of a frame of 4 EiB": [bytes([0x81, 0xFF]) + struct.pack("!Q", 1 << 62) + bytes(4)],
    "2 MiB in fragments": chunks(b"x" * (2 << 20), 60_000),
    "2 MiB in fragments of 100 bytes": chunks(b"x" * (2 << 20), 100),
}


@pytest.mark.parametrize("frames", BROKEN.values(), ids=BROKEN)
async def test_broken_framing_cuts_the_connection_and_no_other(daphne: Daphne, frames: list[bytes]) -> None:
    """By daphne itself, and without a close frame: that is how it answers."""
    before = memory(daphne)
    async with bystander(daphne), raw(daphne) as socket:
        await socket.send(b"".join(frames))
        assert await socket.to_its_end() == ([], None)
    assert memory(daphne) - before < FLAT


REFUSED = {
    "no key": ({"Sec_WebSocket_Key": None}, 400),
    "a key that is none": ({"Sec_WebSocket_Key": "x"}, 400),
    "an unknown version": ({"Sec_WebSocket_Version": "99"}, 400),
    "no host": ({"Host": None}, 400),
    "no origin": ({"Origin": None}, 403),
    "the origin of a sandbox": ({"Origin": "null"}, 403),
    "another site's origin": ({"Origin": "http://evil.example"}, 403),
    "an origin that is no address": ({"Origin": "\\\\"}, 400),
    "two origins": ({"Origin": "http://127.0.0.1, http://evil.example"}, 403),
    "an origin within another header": ({"Origin": None, "X_A": "a\x0bOrigin: http://127.0.0.1"}, 400),
}


@pytest.mark.parametrize(("headers", "status"), REFUSED.values(), ids=REFUSED)
async def test_a_handshake_that_is_refused(daphne: Daphne, headers: dict[str, str | None], status: int) -> None:
    async with connection(daphne) as socket:
        await socket.send(handshake(daphne, **headers))
        assert (await socket.reader.readline()).startswith(f"HTTP/1.1 {status} ".encode())


async def test_half_handshakes_hold_up_nobody(daphne: Daphne) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(50):
            half = await stack.enter_async_context(connection(daphne))
            await half.send(handshake(daphne)[:100])
        async with bystander(daphne):
            pass


async def test_fragments_that_make_a_frame_are_one(daphne: Daphne) -> None:
    async with raw(daphne) as socket:
        first, *rest = chunks(b'{"type":"ping"}', 4)
        await socket.send(first, frame(b"between them", PING), *rest, frame(b"unasked", PONG))
        assert await socket.receive() == (PONG, b"between them")
        assert await socket.hear() == {"type": "pong"}


WORDS = {
    "binary": (frame(b"{}", BINARY), {"code": "bad_frame"}),
    "empty": (frame(b""), {"code": "bad_frame"}),
    "900 KiB": (frame(b"x" * 900 * 1024), {"code": "bad_frame"}),
    "no JSON": (frame(b"nonsense"), {"code": "bad_frame"}),
    "deep JSON": (frame(b"[" * 16_000), {"code": "bad_frame"}),
    "half a surrogate": (frame(b'{"type":"subscribe","topic":"\\ud800"}'), {"code": "bad_frame"}),
    "an unknown type": (frame(b'{"type":"dance"}'), {"code": "bad_frame"}),
    "a channel layer's type": (frame(b'{"type":"websocket.close"}'), {"code": "bad_frame"}),
    "an unknown field": (frame(b'{"type":"ping","channel":"admin"}'), {"code": "bad_frame"}),
    "a check that was not made": (frame(b'{"type":"checked","n":9}'), {"code": "bad_frame"}),
    "a command that can't be read": (
        frame(b'{"type":"command","id":"c1","name":5}'),
        {"code": "bad_frame", "id": "c1"},
    ),
    "an unknown command": (
        frame(b'{"type":"command","id":"c1","name":"__init__"}'),
        {"code": "unknown_command", "id": "c1"},
    ),
    "wrong arguments": (
        frame(b'{"type":"command","id":"c1","name":"say","args":{"topic":5}}'),
        {"code": "bad_input", "id": "c1"},
    ),
    "somebody else's topic": (
        frame(b'{"type":"subscribe","topic":"user.6"}'),
        {"code": "forbidden", "topic": "user.6"},
    ),
    "a topic that is a pattern": (frame(b'{"type":"subscribe","topic":"user.*"}'), {"code": "bad_frame"}),
}


@pytest.mark.parametrize(("sent", "expected"), WORDS.values(), ids=WORDS)
async def test_what_is_refused_is_refused_in_words(daphne: Daphne, sent: bytes, expected: dict[str, str]) -> None:
    async with raw(daphne) as socket:
        await socket.send(sent)
        error = await socket.hear()
        assert error.pop("message").endswith(".")
        error.pop("fields", None)
        assert error == {"type": "error", **expected}
        await socket.say(type="ping")
        assert await socket.hear() == {"type": "pong"}


async def test_another_version_is_refused_in_words(daphne: Daphne) -> None:
    async with raw(daphne) as socket:
        await socket.say(type="hello", v=2)
        (wrong, closing), code = await socket.to_its_end()
    assert (wrong["code"], closing["code"], code) == ("wrong_version", "closing", 4400)
    assert wrong["message"] == "This server speaks version 1, this page version 2: reload the page."


@pytest.mark.parametrize("ahead", [1, 2**40, 2**52])
async def test_an_offset_from_the_future_is_void(daphne: Daphne, ahead: int) -> None:
    await happen("user.5", 2)
    end = await end_of("user.5")
    for epoch in (end.epoch, end.epoch + ahead):
        place = Position(epoch, end.offset + ahead)
        async with raw(daphne) as socket:
            await socket.say(type="subscribe", topic="user.5", epoch=place.epoch, offset=place.offset)
            answer = await socket.hear()
            assert (answer["recovered"], answer["replayed"], answer["offset"]) == (False, 2, 2)
            assert [(await socket.hear())["offset"] for _ in range(2)] == [1, 2]


async def test_twenty_sockets_and_no_more(daphne: Daphne) -> None:
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(raw(daphne, user=77)) for _ in range(protocol.SOCKETS_PER_USER + 5)]
        for oldest in sockets[:5]:
            (closing,), code = await oldest.to_its_end()
            assert (closing["code"], code) == ("closing", 4409)
            assert "Too many pages" in closing["message"]
        for socket in sockets[5:]:
            await socket.say(type="ping")
            assert await socket.hear() == {"type": "pong"}


# Too much. What is sent here is sent at once, and faster than any server takes it.

FLOODS = {
    "pings": [frame(b'{"type":"ping"}')] * 100_000,
    "confirmations": [frame(b'{"type":"checked","n":1}')] * 100_000,
    "subscriptions": [
        frame(json.dumps({"type": "subscribe", "topic": f"user.5.{number}"}).encode()) for number in range(10_000)
    ],
    "commands": [
        frame(json.dumps({"type": "command", "id": f"c{number}", "name": "refuse"}).encode())
        for number in range(10_000)
    ],
    "nonsense": [frame(b"nonsense")] * 100_000,
    "frames of 900 KiB": [frame(b"x" * 900 * 1024)] * 100,
}


@pytest.mark.alone
@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(frames, id=name, marks=[] if name == "subscriptions" else pytest.mark.long)
        for name, frames in FLOODS.items()
    ],
)
async def test_a_flood_ends_its_own_socket_and_no_other(daphne: Daphne, frames: list[bytes]) -> None:
    before = most = memory(daphne)
    async with bystander(daphne) as other, raw(daphne) as socket:
        sending = asyncio.create_task(socket.send(*(b"".join(frames[n : n + 50]) for n in range(0, len(frames), 50))))
        ending = asyncio.create_task(socket.to_its_end())
        while not (sending.done() and ending.done()):
            most = max(most, memory(daphne))
            await asyncio.sleep(0.01)
        answers, code = await ending
        waited = max(other.waits)
    print(f"{len(answers)} answers, {code}; others waited {waited:.3f} s; memory +{(most - before) >> 10} KiB")
    assert len(answers) < 100
    assert code in (4429, None), "None: the answers were lost because the client was still sending"
    assert most - before < FLAT
    assert waited < 2.0
