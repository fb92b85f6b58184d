"""The socket of the control room: whom it lets in, when it answers, and when it closes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import Permission, User
from django.test import Client

import retrying
from asgi import application
from realtime import sessions
from realtime.control_room import live, screens
from retrying import jobs, stats

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 10.0


class Page(WebsocketCommunicator):
    """One page's socket."""

    async def frame(self) -> dict[str, Any]:
        """The next frame, or the close."""
        message = await self.receive_output(PATIENCE)
        if message["type"] == "websocket.close":
            return {"type": "close", "code": message["code"]}
        found: dict[str, Any] = json.loads(message["text"])
        return found

    async def look(self, screen: str = "overview", query: str = "", seen: str = "") -> dict[str, Any]:
        await self.ask(screen, query, seen)
        return await self.frame()

    async def ask(self, screen: str = "overview", query: str = "", seen: str = "") -> None:
        await self.send_json_to({"type": "look", "screen": screen, "query": query, "seen": seen})


@sync_to_async
def person(*permissions: str, staff: bool = True) -> Client:
    user = User.objects.create_user(f"person-{User.objects.count()}", is_staff=staff)
    for name in permissions:
        user.user_permissions.add(Permission.objects.get(codename=f"{name}_control_room"))
    client = Client()
    client.force_login(user)
    return client


@asynccontextmanager
async def page(client: Client | None) -> AsyncIterator[Page]:
    cookie = b"" if client is None else f"sessionid={client.cookies['sessionid'].value}".encode()
    headers = [(b"origin", b"http://localhost"), (b"host", b"localhost"), (b"cookie", cookie)]
    made = Page(application, screens.SOCKET_PATH, headers=headers)
    try:
        connected, _ = await made.connect(PATIENCE)
        assert connected
        yield made
    finally:
        await made.disconnect(timeout=PATIENCE)


@pytest.mark.parametrize(
    ("staff", "permissions", "code"), [(None, (), 4401), (False, ("view",), 4403), (True, (), 4403)]
)
async def test_who_may_not_look_is_turned_away(staff: bool | None, permissions: tuple[str, ...], code: int) -> None:
    client = None if staff is None else await person(*permissions, staff=staff)
    async with page(client) as socket:
        assert (await socket.frame())["code"] == "closing"
        assert await socket.frame() == {"type": "close", "code": code}


async def test_a_page_is_answered_with_what_it_has_not_seen() -> None:
    async with page(await person("view")) as socket:
        assert (await socket.frame())["type"] == "welcome"
        first = await socket.look()
        assert first["type"] == "part"
        assert "headline" in first
        assert "html" in first

        await socket.ask(seen=first["digest"])
        assert await socket.receive_nothing(0.3)
        await retrying.aenqueue("deliveries", {"type": "deliver"})
        news = await socket.frame()
        assert 'data-key="channel-deliveries"' in news["html"]


async def test_buttons_are_for_who_may_press_them() -> None:
    await retrying.aenqueue("deliveries", {"type": "deliver"})
    for permissions, buttons in ((("view",), False), (("manage",), True)):
        async with page(await person(*permissions)) as socket:
            await socket.frame()
            part = await socket.look("channels")
            assert ("formaction" in part["html"]) is buttons


async def test_a_page_closes_when_its_reader_may_look_no_longer() -> None:
    client = await person("view")
    async with page(client) as socket:
        await socket.frame()
        await socket.look()
        user = await User.objects.aget()
        await sync_to_async(user.user_permissions.clear)()
        assert (await socket.frame())["code"] == "closing"
        assert await socket.frame() == {"type": "close", "code": 4403}


async def test_a_page_closes_when_its_reader_is_staff_no_longer() -> None:
    async with page(await person("view")) as socket:
        await socket.frame()
        await socket.look()
        user = await User.objects.aget()
        user.is_staff = False
        await sync_to_async(user.save)()
        assert (await socket.frame())["code"] == "closing"
        assert await socket.frame() == {"type": "close", "code": 4403}


async def test_buttons_come_with_the_permission() -> None:
    await retrying.aenqueue("deliveries", {"type": "deliver"})
    async with page(await person("view")) as socket:
        await socket.frame()
        part = await socket.look("channels")
        await socket.ask("channels", seen=part["digest"])
        user = await User.objects.aget()
        permission = await Permission.objects.aget(codename="manage_control_room")
        await sync_to_async(user.user_permissions.add)(permission)
        await sync_to_async(sessions.recheck)(user)  # Django's signals tell of losses; this is what a project may call
        while "formaction" not in part.get("html", ""):  # ages change meanwhile
            part = await socket.frame()
            await socket.ask("channels", seen=part["digest"])


async def test_signing_out_closes_the_page() -> None:
    client = await person("view")
    async with page(client) as socket:
        await socket.frame()
        await sync_to_async(client.logout)()
        assert (await socket.frame())["code"] == "closing"
        assert await socket.frame() == {"type": "close", "code": 4401}


@pytest.mark.parametrize(
    "text", [" ", "nonsense", "[]", '{"type":"look"}', '{"type":"look","screen":"x","query":"","seen":""}']
)
async def test_nonsense_is_not_answered(text: str) -> None:
    async with page(await person("view")) as socket:
        await socket.frame()
        await socket.send_to(text_data=text)
        assert (await socket.look())["type"] == "part"


async def test_no_topic_can_be_followed() -> None:
    async with page(await person("view")) as socket:
        await socket.frame()
        await socket.send_json_to({"type": "subscribe", "topic": "user.1"})
        assert (await socket.frame())["code"] == "forbidden"


async def test_ten_pages_are_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many look: the store is asked once a second."""
    asked: list[float] = []
    real = stats.channels
    monkeypatch.setattr(stats, "channels", lambda **options: asked.append(1) or real(**options))
    client = await person("view")
    async with AsyncExitStack() as stack:
        pages = [await stack.enter_async_context(page(client)) for _ in range(10)]
        for one in pages:
            await one.frame()
            await one.ask()
        parts = [await one.frame() for one in pages]
        assert len({part["digest"] for part in parts}) <= 2
        assert len(asked) <= 2  # a second may end meanwhile
        assert len(live.watches()) == 1


async def test_a_store_that_does_not_answer_is_said_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    real = stats.channels

    def away(**options: Any) -> Any:
        raise retrying.StoreUnavailable("gone")

    async with page(await person("view")) as socket:
        await socket.frame()
        first = await socket.look()
        monkeypatch.setattr(stats, "channels", away)
        told = await socket.look(seen=first["digest"])
        assert "does not answer" in told["problem"]
        assert "html" not in told or told["html"] == ""
        monkeypatch.setattr(stats, "channels", real)
        again = await socket.look(seen=told["digest"])
        assert again["problem"] == ""
        assert "channel" in again["html"]


async def test_a_mistake_of_ours_is_said_without_its_details(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*args: Any, **options: Any) -> Any:
        raise RuntimeError("the details of a mistake")

    monkeypatch.setattr(jobs, "search", wrong)
    monkeypatch.setattr(stats, "workers", wrong)
    async with page(await person("view")) as socket:
        await socket.frame()
        part = await socket.look("workers")
        assert "could not be made" in part["problem"]
        assert "details" not in json.dumps(part)
