"""One socket: who may open it, what it may send, what its commands answer."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from realtime import limits, protocol
from realtime.consumers import JobConsumer
from retrying import jobs
from tests.conftest import await_for

from .app import CHANNEL, StreamConsumer, websocket
from .browser import PATIENCE, Browser, browser, happen


async def test_who_is_not_signed_in_learns_it_from_the_close_code() -> None:
    socket = Browser(websocket, "/ws/")
    assert (await socket.connect(PATIENCE))[0], "accepted first: a refused handshake has no close code"
    assert await socket.hear() == {"type": "close", "code": 4401}
    await socket.say(type="subscribe", topic="public.one")
    await socket.say(type="ping")
    assert await socket.receive_nothing()
    await socket.disconnect()


async def test_who_is_signed_in_but_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(self: JobConsumer) -> bool:
        return False

    monkeypatch.setattr(StreamConsumer, "authorize", refuse)
    socket = Browser(websocket, "/ws/?user=5")
    await socket.connect(PATIENCE)
    assert await socket.hear() == {"type": "close", "code": 4403}
    await socket.disconnect()


async def test_an_authorization_that_fails_lets_the_browser_try_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(self: JobConsumer) -> bool:
        raise RuntimeError("the details of a mistake")

    monkeypatch.setattr(StreamConsumer, "authorize", fail)
    socket = Browser(websocket, "/ws/?user=5")
    await socket.connect(PATIENCE)
    assert await socket.hear() == {"type": "close", "code": 4503}
    assert "the details of a mistake" in caplog.text
    await socket.disconnect()


async def test_a_command_is_acknowledged_and_its_events_come() -> None:
    async with browser() as socket:
        await socket.follow("user.5")
        await socket.say(type="command", id="c1", name="say", args={"topic": "user.5", "times": 2})
        frames = [await socket.hear() for _ in range(3)]
    acks = [frame for frame in frames if frame["type"] == "ack"]
    events = [frame for frame in frames if frame["type"] == "event"]
    assert acks == [{"type": "ack", "id": "c1", "result": {"said": 2}}]
    assert [(event["offset"], event["job"]) for event in events] == [(1, "c1-0"), (2, "c1-1")]


async def test_a_command_sent_again_is_the_same_work() -> None:
    async with browser() as socket:
        for _ in range(3):
            await socket.say(type="command", id="c1", name="say", args={"topic": "user.5"})
            assert (await socket.hear_only("ack"))["id"] == "c1"
    assert (await jobs.acounts(CHANNEL)).ready == 1


@pytest.mark.parametrize(
    ("args", "fields"),
    [
        ({}, {"topic": "required"}),
        ({"topic": 5}, {"topic": "Expected `str`, got `int`"}),
        ({"topic": "t", "times": "2"}, {"times": "Expected `int`, got `str`"}),
        ({"topic": "t", "more": 1}, {"more": "unknown field"}),
        ([], None),
        (None, None),
    ],
)
async def test_bad_arguments_are_told_by_field(args: Any, fields: dict[str, str] | None) -> None:
    async with browser() as socket:
        await socket.say(type="command", id="c1", name="say", args=args)
        error = await socket.hear_only("error")
        assert (error["id"], error["code"], error.get("fields")) == ("c1", "bad_input", fields)
        await socket.say(type="ping")
        assert await socket.hear() == {"type": "pong"}
    assert (await jobs.acounts(CHANNEL)).ready == 0


@pytest.mark.parametrize("name", ["nothing", "undeclared", "may_follow", "__init__", "disconnect", "user", "", "say "])
async def test_only_declared_commands_can_be_called(name: str) -> None:
    async with browser() as socket:
        await socket.say(type="command", id="c1", name=name, args={})
        error = await socket.hear_only("error")
        assert (error["id"], error["code"]) == ("c1", "unknown_command")


async def test_a_refusal_reaches_the_browser_as_it_is() -> None:
    async with browser() as socket:
        await socket.say(type="command", id="c1", name="refuse")
        assert await socket.hear() == {
            "type": "error",
            "id": "c1",
            "code": "not_found",
            "message": "There is no such thing.",
            "fields": {"thing": "unknown"},
        }


@pytest.mark.parametrize("name", ["fail", "answer_badly"])
async def test_a_mistake_is_logged_with_the_reference_that_the_browser_gets(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with browser() as socket:
        await socket.say(type="command", id="c1", name=name)
        error = await socket.hear_only("error")
        assert (error["id"], error["code"]) == ("c1", "internal")
        reference = error["message"].split("reference ")[1][:8]
        assert "details" not in error["message"]
        record = next(record for record in caplog.records if reference in record.getMessage())
        assert record.levelno == logging.ERROR
        assert record.exc_info
        await socket.say(type="ping")
        assert await socket.hear() == {"type": "pong"}


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "[]", "null", "5", '"ping"', "{}", '{"type":"PING"}', '{"type":"ping","more":1}', '{"type":5}',
     '{"type":"subscribe"}', '{"type":"subscribe","topic":"no spaces"}', '{"type":"subscribe","topic":"t\\n"}',
     '{"type":"subscribe","topic":"t","epoch":1}', '{"type":"subscribe","topic":"t","epoch":-1,"offset":0}',
     '{"type":"subscribe","topic":"t","epoch":1e400,"offset":0}', '{"type":"welcome","v":1}', "[" * 10_000,
     '{"type":"command","id":"","name":"say"}', '{"type":"command","name":"say"}', '{"type":"ping"} {"type":"ping"}'],
)  # fmt: skip
async def test_what_is_no_frame_is_answered(text: str) -> None:
    async with browser() as socket:
        await socket.send_input({"type": "websocket.receive", "text": text})
        error = await socket.hear_only("error")
        assert error["code"] == "bad_frame"
        assert error["message"].endswith(".")
        await socket.say(type="ping")
        assert await socket.hear() == {"type": "pong"}


async def test_a_command_that_can_not_be_read_is_refused_by_its_id() -> None:
    async with browser() as socket:
        await socket.say(type="command", id="c1", name="say", args={}, more=1)
        error = await socket.hear_only("error")
        assert (error["code"], error["id"]) == ("bad_frame", "c1")
        await socket.say(type="command", id="c2", name="say", args={"topic": "t" * protocol.FRAME_BYTES})
        error = await socket.hear_only("error")
        assert (error["code"], error["id"]) == ("bad_frame", "c2")
        assert str(protocol.FRAME_BYTES) in error["message"]


async def test_a_binary_frame_is_refused() -> None:
    async with browser() as socket:
        await socket.send_to(bytes_data=b'{"type":"ping"}')
        assert (await socket.hear_only("error"))["code"] == "bad_frame"


async def test_the_size_limit_counts_bytes() -> None:
    async with browser() as socket:
        text = '{"type":"ping","x":"' + "ä" * (protocol.FRAME_BYTES // 2) + '"}'
        assert len(text) < protocol.FRAME_BYTES
        await socket.send_to(text_data=text)
        assert "bytes" in (await socket.hear_only("error"))["message"]


async def test_too_fast_is_answered_and_too_much_of_it_ends_the_socket() -> None:
    async with browser() as socket:
        for _ in range(200):
            await socket.say(type="ping")
        frames = []
        while (frame := await socket.hear())["type"] != "close":
            frames.append(frame)
        assert frame["code"] == 4429
        pongs = [frame for frame in frames if frame["type"] == "pong"]
        refused = [frame for frame in frames if frame["type"] == "error"]
        assert protocol.FRAMES_BURST <= len(pongs) <= protocol.FRAMES_BURST + 20
        assert {frame["code"] for frame in refused} == {"too_fast"}


async def test_a_command_over_the_pace_is_refused_by_its_id_and_not_done() -> None:
    async with browser() as socket:
        for number in range(protocol.FRAMES_BURST + 5):
            await socket.say(type="command", id=f"c{number}", name="say", args={"topic": "user.5"})
        frames = [await socket.hear() for _ in range(protocol.FRAMES_BURST + 5)]
        refused = {frame["id"] for frame in frames if frame["type"] == "error"}
        done = {frame["id"] for frame in frames if frame["type"] == "ack"}
        assert len(refused) + len(done) == protocol.FRAMES_BURST + 5
        assert refused
        assert (await jobs.acounts(CHANNEL)).ready == len(done)


async def test_too_many_bad_frames_end_the_socket(caplog: pytest.LogCaptureFixture) -> None:
    async with browser() as socket:
        for _ in range(protocol.STRIKES + 5):
            await socket.send_to(text_data="nonsense")
        while (frame := await socket.hear())["type"] != "close":
            assert frame["code"] == "bad_frame"
        assert frame["code"] == 4429
        assert "too many refused frames" in caplog.text


async def test_what_is_refused_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "FRAMES_BURST", 4)
    monkeypatch.setattr(protocol, "FRAMES_PER_SECOND", 0.001)
    monkeypatch.setattr(protocol, "SUBSCRIPTIONS", 1)
    monkeypatch.setattr(protocol, "STRIKES", 3)
    before = limits.refused.copy()
    async with browser() as socket:
        await socket.send_to(text_data="nonsense")
        await socket.hear_only("error")
        await socket.follow("public.one")
        await socket.say(type="subscribe", topic="public.two")
        assert (await socket.hear_only("error"))["code"] == "too_many"
        await socket.say(type="ping")
        await socket.hear_only("pong")
        for _ in range(3):
            await socket.say(type="ping")
        while (await socket.hear())["type"] != "close":
            pass
    assert limits.refused - before == {"bad_frame": 1, "too_many": 1, "too_fast": 3, "4429": 1}


async def test_pings_are_answered_while_a_command_runs() -> None:
    async with browser() as socket:
        await socket.say(type="command", id="c1", name="take_long")
        await socket.say(type="ping")
        assert await socket.hear() == {"type": "pong"}
        StreamConsumer.may_go_on.set()
        assert (await socket.hear_only("ack"))["id"] == "c1"


async def test_commands_run_in_order() -> None:
    async with browser() as socket:
        await socket.say(type="command", id="c1", name="take_long")
        await socket.say(type="command", id="c2", name="refuse")
        StreamConsumer.may_go_on.set()
        assert [(await socket.hear())["id"] for _ in range(2)] == ["c1", "c2"]


async def test_a_command_that_runs_when_the_socket_goes_may_finish() -> None:
    async with browser() as socket:
        await socket.say(type="command", id="c1", name="take_long")
        await socket.say(type="command", id="c2", name="take_long")
        await await_for(lambda: StreamConsumer.running, "c1 runs")
        going = asyncio.create_task(socket.disconnect(timeout=PATIENCE))
        await await_for(lambda: not StreamConsumer.running[0]._jobs.is_open, "the socket has been told")
        StreamConsumer.may_go_on.set()
        await going
    assert StreamConsumer.finished == ["c1"], "c2 is sent again over the next socket"


async def test_a_server_that_cancels_a_socket_leaves_nothing_behind() -> None:
    async with browser() as socket:
        await socket.follow("user.5")
        await socket.say(type="ping")
        await socket.hear_only("pong")
        socket.future.cancel()
        await asyncio.wait([socket.future])


async def test_a_permission_that_is_gone_closes_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "RECHECK_SECONDS", 0.2)

    async def same(scope: dict[str, Any]) -> Any:
        return scope["user"]

    monkeypatch.setattr("realtime.sessions.reload_user", same)
    async with browser() as socket:
        await socket.follow("public.one")
        StreamConsumer.banned.add("public.one")
        assert await socket.hear() == {"type": "close", "code": 4403}
        await happen("public.one")
        assert await socket.receive_nothing()


async def test_frames_are_compact_json() -> None:
    async with browser() as socket:
        await socket.send_json_to({"type": "ping"})
        message = await socket.receive_output(PATIENCE)
        assert message["text"] == json.dumps({"type": "pong"}, separators=(",", ":"))
