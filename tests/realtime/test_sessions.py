"""A socket ends with the session that opened it: at once, or within RECHECK_SECONDS when nobody said so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.auth import AuthMiddlewareStack
from channels.layers import channel_layers
from channels.routing import URLRouter
from django.conf import settings
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.db import transaction
from django.test import Client
from django.urls import path

from project.development.valkey import free_port
from realtime import protocol, sessions
from retrying import topics
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


async def announce(word: str, *arguments: Any) -> None:
    """Call a function of `realtime.sessions`, which blocks."""
    await sync_to_async(getattr(sessions, word))(*arguments)


async def test_signing_a_user_out_closes_all_of_their_sockets() -> None:
    one, other = await visitor("one"), await visitor("other")
    async with one.socket() as first, one.socket() as second, other.socket() as third:
        await announce("sign_out", one.user)
        for socket in (first, second):
            assert await socket.hear() == {"type": "close", "code": 4401}
            assert "signed in" in socket.last_words
        await third.say(type="ping")
        assert await third.hear() == {"type": "pong"}


async def test_a_permission_that_is_gone_is_noticed_when_it_is_said() -> None:
    one = await visitor("one")
    async with one.socket() as socket:
        await socket.follow("public.one")
        await announce("recheck", one.user)  # nothing has changed
        await socket.say(type="ping")
        assert await socket.hear() == {"type": "pong"}
        StreamConsumer.banned.add("public.one")
        await announce("recheck", one.user)
        assert await socket.hear() == {"type": "close", "code": 4403}


def taken_out_of_a_group(user: User) -> None:
    user.groups.remove(Group.objects.get())


def group_without_the_user(user: User) -> None:
    Group.objects.get().user_set.remove(user)  # type: ignore[attr-defined]


def no_groups_any_more(user: User) -> None:
    user.groups.clear()


def stripped_of_a_permission(user: User) -> None:
    user.user_permissions.remove(Permission.objects.get(codename="view_session"))


@pytest.mark.parametrize(
    "change", [taken_out_of_a_group, group_without_the_user, no_groups_any_more, stripped_of_a_permission]
)
async def test_a_permission_that_djangos_models_lose_is_gone_at_once(
    change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def by_permission(self: StreamConsumer, topic: str) -> bool:
        wanted = "sessions.view_session" if change is stripped_of_a_permission else "sessions.add_session"
        return bool(await sync_to_async(self.user.has_perm)(wanted))

    def prepare(user: User) -> None:
        group = Group.objects.create(name="authors")
        group.permissions.add(Permission.objects.get(codename="add_session"))
        user.groups.add(group)
        user.user_permissions.add(Permission.objects.get(codename="view_session"))

    monkeypatch.setattr(StreamConsumer, "may_follow", by_permission)
    one = await visitor("one")
    await sync_to_async(prepare)(one.user)
    async with one.socket() as socket:
        await sync_to_async(change)(one.user)
        assert await socket.hear() == {"type": "close", "code": 4403}


def deactivated(user: User) -> None:
    user.is_active = False
    user.save()


def deleted(user: User) -> None:
    user.delete()


@pytest.mark.parametrize("change", [deactivated, deleted])
async def test_a_user_who_is_no_more_is_signed_out_at_once(change: Any) -> None:
    one = await visitor("one")
    async with one.socket() as socket:
        await sync_to_async(change)(one.user)
        assert await socket.hear() == {"type": "close", "code": 4401}


async def test_a_session_that_was_flushed() -> None:
    one = await visitor("one")
    async with one.socket() as socket:
        await announce("end_session", one.client.session.session_key)
        assert await socket.hear() == {"type": "close", "code": 4401}


async def test_the_key_of_a_session_is_not_announced() -> None:
    one = await visitor("one")
    key = one.client.session.session_key
    async with topics.client().pubsub() as bell:
        await bell.subscribe(sessions._bell())
        await bell.get_message(timeout=5)
        await announce("end_session", key)
        heard = await bell.get_message(timeout=5)
    assert heard["data"].startswith(b"sign_out session:")
    assert key.encode() not in heard["data"]


async def test_what_is_said_in_a_transaction_is_said_after_its_commit() -> None:
    one = await visitor("one")

    def deactivate_slowly() -> None:
        with transaction.atomic():
            User.objects.filter(pk=one.user.pk).update(is_active=False)
            sessions.recheck(one.user)
            assert not heard, "the old state could still be read"

    heard: list[str] = []
    async with one.socket() as socket:
        with pytest.MonkeyPatch.context() as patch:
            tell = sessions._tell
            patch.setattr(sessions, "_tell", lambda *news: (heard.append(news[0]), tell(*news)))
            await sync_to_async(deactivate_slowly)()
            assert await socket.hear() == {"type": "close", "code": 4401}


async def test_nobody_is_told_when_the_store_is_away_and_the_sign_out_goes_on(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one = await visitor("one")
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "retrying.layers.RetryingChannelLayer",
            "CONFIG": {"hosts": [f"redis://127.0.0.1:{free_port()}"]},
        }
    }
    channel_layers.backends.clear()
    await sync_to_async(one.client.logout)()
    assert "were not told" in caplog.text


async def test_a_project_with_another_layer_can_sign_out(settings: Any) -> None:
    one = await visitor("one")
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    channel_layers.backends.clear()
    await sync_to_async(one.client.logout)()
    await sync_to_async(one.user.delete)()


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
