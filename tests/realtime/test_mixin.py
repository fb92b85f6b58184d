"""A project's own consumer, with its own messages, that follows topics and takes commands as well."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import URLRouter
from django.contrib.auth.models import User
from django.urls import path

from realtime import protocol
from realtime.consumers import JobTopicsMixin, UserJobsConsumer, command, user_topic
from retrying import aenqueue

from .app import CHANNEL, UserOfQuery
from .browser import PATIENCE, Browser, browser, happen


class Say(msgspec.Struct, forbid_unknown_fields=True):
    text: str


class RoomConsumer(JobTopicsMixin, AsyncJsonWebsocketConsumer):
    """A chat room, as Channels' tutorial has it, whose members follow a job too."""

    channel = CHANNEL
    sockets_per_user = 3

    async def connect(self) -> None:
        if b"closed" in self.scope["query_string"]:
            await self.close()
            return
        await self.channel_layer.group_add("room", self.channel_name)  # before it is welcomed: tests speak at once then
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("room", self.channel_name)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        if content == {"type": "leave"}:
            await self.close(4000)
            return
        await self.channel_layer.group_send("room", {"type": "room.said", "content": content})

    async def room_said(self, message: dict[str, Any]) -> None:
        await self.send_json({"type": "said", "content": message["content"]})

    async def may_follow(self, topic: str) -> bool:
        return topic == "room"

    @command
    async def work(self, args: Say, command_id: str) -> dict[str, Any]:
        await aenqueue(CHANNEL, {"type": "said"}, job_id=command_id, topic="room")
        return {"heard": args.text}


room = UserOfQuery(URLRouter([path("ws/", RoomConsumer.as_asgi())]))


async def test_topics_and_commands_beside_messages_of_its_own() -> None:
    async with browser(app=room) as one, browser(user=6, app=room) as other:
        await one.say(type="chat", text="hello")
        for socket in (one, other):
            assert await socket.hear_only("said") == {"type": "said", "content": {"type": "chat", "text": "hello"}}
        await other.follow("room")
        await one.say(type="command", id="c1", name="work", args={"text": "go"})
        assert (await one.hear_only("ack"))["result"] == {"heard": "go"}
        assert (await other.hear_only("event"))["job"] == "c1"
        await one.say(type="subscribe", topic="user.6")
        assert (await one.hear_only("error"))["code"] == "forbidden"
        await one.say(type="subscribe", topic="no spaces")
        assert (await one.hear_only("error"))["code"] == "bad_frame", "what is meant for the protocol is checked by it"


async def test_its_own_messages_have_the_same_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "FRAMES_BURST", 3)
    monkeypatch.setattr(protocol, "FRAMES_PER_SECOND", 0.001)
    async with browser(app=room) as socket:
        await socket.send_to(text_data='"' + "x" * protocol.FRAME_BYTES + '"')
        assert (await socket.hear_only("error"))["code"] == "bad_frame"
        for number in range(4):
            await socket.say(number=number)
        frames = [await socket.hear() for _ in range(4)]
        assert sorted(frame["type"] for frame in frames) == ["error", "error", "said", "said"]
        assert {frame["code"] for frame in frames if frame["type"] == "error"} == {"too_fast"}


async def test_it_may_close_and_refuse_by_itself() -> None:
    async with browser(app=room) as socket:
        await socket.follow("room")
        await socket.say(type="leave")
        assert await socket.hear() == {"type": "close", "code": 4000}
        await happen("room")
        assert await socket.receive_nothing()
    refused = Browser(room, "/ws/?user=5&closed=1")
    assert (await refused.connect(PATIENCE))[0] is False


async def test_who_is_not_signed_in_is_turned_away_from_it_too() -> None:
    socket = Browser(room, "/ws/")
    await socket.connect(PATIENCE)
    assert await socket.hear() == {"type": "close", "code": 4401}
    assert "signed in" in socket.last_words
    await socket.disconnect()


async def test_the_oldest_socket_of_a_user_gives_way() -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(browser(user=6, app=room))
        first, *_, newest = [await stack.enter_async_context(browser(app=room)) for _ in range(4)]
        assert await first.hear() == {"type": "close", "code": 4409}
        assert "Too many pages" in first.last_words
        await newest.follow("room")


class MyJobs(UserJobsConsumer):
    channel = CHANNEL


mine = UserOfQuery(URLRouter([path("ws/", MyJobs.as_asgi())]))


async def test_everything_of_this_user_needs_no_code() -> None:
    user = User(pk=5)
    async with browser(app=mine) as socket:
        await socket.follow(user_topic(user))
        await socket.follow(user_topic(user, "report", 17))
        await happen("user.5")
        assert (await socket.hear_only("event"))["topic"] == "user.5"
        await happen("user.5.report.17")
        assert (await socket.hear_only("event"))["topic"] == "user.5.report.17"
        for topic in ("user.6", "user.55", "user", "user.6.report.17", "other"):
            await socket.say(type="subscribe", topic=topic)
            assert (await socket.hear_only("error"))["code"] == "forbidden"


@pytest.mark.parametrize("key", [None, "", "5.report", "a b", "ä"])
def test_a_topic_can_not_be_made_to_lie_below_another_users(key: Any) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        user_topic(type("Odd", (), {"pk": key})())
