"""A socket ends with the session that opened it: at once in this process, within RECHECK_SECONDS everywhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import path

from realtime import protocol
from tests.conftest import await_for

from .app import StreamConsumer
from .browser import Browser, browser, happen

pytestmark = pytest.mark.django_db(transaction=True)

application = AuthMiddlewareStack(URLRouter([path("ws/", StreamConsumer.as_asgi())]))


class Visitor:
    """A signed-in user with a browser."""

    def __init__(self, name: str) -> None:
        self.user = User.objects.create_user(name)
        self.client = Client()
        self.client.force_login(self.user)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        cookie = self.client.cookies[settings.SESSION_COOKIE_NAME].value
        return [(b"cookie", f"{settings.SESSION_COOKIE_NAME}={cookie}".encode())]

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[Browser]:
        async with browser(user=None, app=application, headers=self.headers) as socket:
            await socket.follow(f"user.{self.user.pk}")
            yield socket


async def visitor(name: str) -> Visitor:
    return await sync_to_async(Visitor)(name)


async def test_signing_out_closes_the_sockets_of_that_session_at_once() -> None:
    one, other = await visitor("one"), await visitor("other")
    async with one.socket() as first, one.socket() as second, other.socket() as third:
        await sync_to_async(one.client.logout)()
        for socket in (first, second):
            assert await socket.hear() == {"type": "close", "code": 4401}
        await happen(f"user.{one.user.pk}")
        assert await first.receive_nothing()
        await third.say(type="ping")
        assert await third.hear() == {"type": "pong"}


async def leave_elsewhere(visitor: Visitor) -> None:
    """What a sign-out in another process does."""
    await Session.objects.all().adelete()


async def deactivate(visitor: Visitor) -> None:
    await User.objects.filter(pk=visitor.user.pk).aupdate(is_active=False)


async def change_password(visitor: Visitor) -> None:
    """Which ends every session of the user."""
    visitor.user.set_password("another")
    await visitor.user.asave()


@pytest.mark.parametrize("end", [leave_elsewhere, deactivate, change_password])
async def test_a_session_that_ended_elsewhere_is_noticed(end: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "RECHECK_SECONDS", 0.2)
    one = await visitor("one")
    async with one.socket() as socket:
        await end(one)
        assert await socket.hear() == {"type": "close", "code": 4401}


async def test_a_session_that_lasts_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "RECHECK_SECONDS", 0.02)
    checks = 0
    authorize = StreamConsumer.authorize

    async def counted(self: StreamConsumer) -> bool:
        nonlocal checks
        checks += 1
        return await authorize(self)

    monkeypatch.setattr(StreamConsumer, "authorize", counted)
    one = await visitor("one")
    async with one.socket() as socket:
        await await_for(lambda: checks >= 4, "it was checked again and again")
        await socket.say(type="ping")
        assert await socket.hear() == {"type": "pong"}


async def test_an_anonymous_visitor_is_turned_away() -> None:
    socket = Browser(application, "/ws/")
    await socket.connect()
    assert await socket.hear() == {"type": "close", "code": 4401}
    await socket.disconnect()


async def test_a_user_without_a_session_is_checked_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another kind of authentication than Django's sessions."""
    monkeypatch.setattr(protocol, "RECHECK_SECONDS", 0.2)
    user = await User.objects.acreate(username="token")
    async with browser(user=user.pk) as socket:
        await socket.follow("public.one")
        await user.adelete()
        assert await socket.hear() == {"type": "close", "code": 4401}
