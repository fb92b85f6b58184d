"""The websocket of deliveries through the site's own ASGI application: sign-in, origin, commands, errors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.test import Client

from asgi import application
from project.webhooks.models import CHANNEL, Delivery, Endpoint, topic_of
from retrying import State, jobs

PATIENCE = 10.0
Result = dict[str, Any]


class Browser(WebsocketCommunicator):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.events: list[Result] = []  # that came before what was waited for

    async def hear(self, kind: str) -> Result:
        """The next frame of this type; an event may come before or after the ack of the command that caused it."""
        if kind == "event" and self.events:
            return self.events.pop(0)
        while True:
            message = await self.receive_output(PATIENCE)
            assert message["type"] == "websocket.send", message
            frame: Result = json.loads(message["text"])
            if frame["type"] == kind:
                return frame
            assert frame["type"] == "event", frame
            self.events.append(frame)

    async def command(self, name: str, id: str = "c1", **args: Any) -> None:
        await self.send_json_to({"type": "command", "id": id, "name": name, "args": args})

    async def done(self, name: str, id: str = "c1", **args: Any) -> Result:
        await self.command(name, id, **args)
        frame = await self.hear("ack")
        assert frame["id"] == id
        result: Result = frame["result"]
        return result

    async def refused(self, name: str, id: str = "c1", **args: Any) -> Result:
        await self.command(name, id, **args)
        frame = await self.hear("error")
        assert frame["id"] == id
        return frame


@asynccontextmanager
async def browser(user: User | None, origin: str = "http://localhost") -> AsyncIterator[Browser]:
    headers = [(b"host", b"localhost"), (b"origin", origin.encode())]
    if user is not None:
        client = Client()
        await database_sync_to_async(client.force_login)(user)
        headers.append((b"cookie", f"sessionid={client.cookies['sessionid'].value}".encode()))
    socket = Browser(application, "/ws/deliveries/", headers=headers)
    try:
        yield socket
    finally:
        if not socket.future.done():
            await socket.disconnect(timeout=PATIENCE)


@pytest.fixture
async def socket(user: User) -> AsyncIterator[Browser]:
    async with browser(user) as opened:
        assert (await opened.connect(PATIENCE))[0]
        await opened.hear("welcome")
        yield opened


async def test_an_unauthenticated_socket_is_closed_with_4401(user: User) -> None:
    async with browser(None) as stranger:
        assert (await stranger.connect(PATIENCE))[0]
        assert "not signed in" in (await stranger.hear("error"))["message"]
        closed = await stranger.receive_output(PATIENCE)
        assert (closed["type"], closed["code"]) == ("websocket.close", 4401)


async def test_a_socket_from_another_site_is_refused_at_the_handshake(user: User) -> None:
    for origin in ("http://evil.example", "null", ""):
        async with browser(user, origin) as stranger:
            assert not (await stranger.connect(PATIENCE))[0]


async def test_deliver_stores_a_row_and_a_job(socket: Browser, user: User) -> None:
    result = await socket.done("deliver", url="https://example.com/hook", payload='{"a": 1}')
    assert result["queued"]
    shown = result["delivery"]
    assert (shown["url"], shown["payload"], shown["state"]) == ("https://example.com/hook", '{"a": 1}', "pending")
    assert shown["job"]["state"] == "ready"
    delivery = await Delivery.objects.aget()
    job = await jobs.aget(CHANNEL, delivery.job_id)
    assert job is not None
    assert (delivery.owner_id, job.topic, job.state) == (user.pk, topic_of(user.pk), State.READY)
    again = await socket.done("deliver", url="https://example.com/hook", payload='{"a": 1}')
    assert again["delivery"]["id"] == delivery.pk, "sent again with the same id after a reconnect"
    assert await Delivery.objects.acount() == 1


async def test_the_largest_payload_fits_through_the_socket(socket: Browser) -> None:
    payload = json.dumps('"' * (64 * 1024 // 2 - 1))
    assert len(payload) == 64 * 1024
    result = await socket.done("deliver", url="https://example.com/", payload=payload)
    assert result["delivery"]["payload"] == payload


@pytest.mark.parametrize(
    ("args", "fields"),
    [
        ({"url": "nonsense", "payload": "{}"}, {"url"}),
        ({"url": "http://127.0.0.1/", "payload": "{}"}, {"url"}),
        ({"url": "http://[::1]/", "payload": "{}"}, {"url"}),
        ({"url": "http://0x7f000001/", "payload": "{}"}, {"url"}),
        ({"url": "http://0177.0.0.1/", "payload": "{}"}, {"url"}),
        ({"url": "http://2130706433/", "payload": "{}"}, {"url"}),
        ({"url": "http://169.254.169.254/", "payload": "{}"}, {"url"}),
        ({"url": "https://example.com/", "payload": "{"}, {"payload"}),
        ({"url": "https://example.com/", "payload": '"' + "x" * 64 * 1024 + '"'}, {"payload"}),
        ({"url": "https://example.com/", "payload": "{}", "send_at": "soon"}, {"send_at"}),
        ({"url": "nonsense", "payload": "{", "send_at": "soon"}, {"url", "payload", "send_at"}),
        ({"url": "https://example.com/"}, {"payload"}),
        ({"url": 7, "payload": "{}"}, {"url"}),
        ({"url": "https://example.com/", "payload": {"a": 1}}, {"payload"}),
        ({"url": "https://example.com/", "payload": "{}", "owner": 1}, set()),
    ],
)
async def test_bad_input_is_answered_by_field_and_stores_nothing(
    socket: Browser, args: dict[str, Any], fields: set[str]
) -> None:
    error = await socket.refused("deliver", **args)
    assert error["code"] == "bad_input"
    assert set(error.get("fields", {})) >= fields
    assert not await Delivery.objects.aexists()
    assert not await Endpoint.objects.aexists()
    assert (await jobs.acounts(CHANNEL)).ready == 0
    await socket.send_json_to({"type": "ping"})
    await socket.hear("pong")


async def test_unknown_commands_call_nothing(socket: Browser) -> None:
    for name in ("may_follow", "snapshot", "disconnect", "__init__", "nonsense"):
        assert (await socket.refused(name))["code"] == "unknown_command"


async def test_somebody_elses_delivery_is_not_found(socket: Browser, user: User) -> None:
    other = await User.objects.acreate(username="bob")
    endpoint = await Endpoint.objects.acreate(owner=other, url="https://example.com/")
    theirs = await Delivery.objects.acreate(owner=other, endpoint=endpoint, payload="{}")
    for name in ("retry_now", "cancel", "redeliver"):
        for wanted in (theirs.pk, "nonsense", ""):
            assert (await socket.refused(name, delivery=wanted))["code"] == "not_found"
    await socket.send_json_to({"type": "subscribe", "topic": topic_of(other.pk)})
    assert (await socket.hear("error"))["code"] == "forbidden"


async def test_the_commands_of_a_delivery_and_its_topic(socket: Browser, user: User) -> None:
    await socket.send_json_to({"type": "subscribe", "topic": topic_of(user.pk)})
    assert not (await socket.hear("subscribed"))["recovered"]
    assert (await socket.hear("snapshot"))["data"] == {"deliveries": [], "more": False}
    later = "2099-01-31T12:00:00Z"
    error = await socket.refused("deliver", "c0", url="https://example.com/", payload="{}", send_at=later)
    assert set(error["fields"]) == {"send_at"}
    made = await socket.done("deliver", "c1", url="https://example.com/", payload="{}")
    wanted = made["delivery"]["id"]
    assert (await socket.hear("event"))["job"] == f"{wanted}.1"
    cancelled = await socket.done("cancel", "c2", delivery=wanted)
    assert (cancelled["delivery"]["state"], cancelled["delivery"]["reason"]) == ("cancelled", "cancelled by its owner")
    again = await socket.done("redeliver", "c3", delivery=wanted, generation=1)
    assert (again["delivery"]["state"], again["delivery"]["generation"], again["queued"]) == ("pending", 2, True)
    twice = await socket.done("redeliver", "c4", delivery=wanted, generation=1)
    assert twice["delivery"]["generation"] == 2
    ready = await socket.done("retry_now", "c5", delivery=wanted)
    assert ready["delivery"]["job"]["state"] == "ready"
