"""Traps of pulling jobs through ``receive()``, beyond those in test_worker.py: the database, and one deaf channel.

Every instance runs in a thread-sensitive context of its own: one thread and one database connection per busy slot.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from channels.consumer import AsyncConsumer, SyncConsumer
from channels.db import database_sync_to_async
from channels.routing import ChannelNameRouter, ProtocolTypeRouter
from django.contrib.auth.models import User
from django.db import connection, connections

from retrying import State, aenqueue, jobs
from retrying.consumers import BackgroundConsumer
from retrying.layers import get_layer
from retrying.worker import Worker
from tests.conftest import await_for
from tests.retrying.running import CHANNEL, reached, running

MESSAGE = {"type": "work.do"}
WIDTH = 6
SLOW = 0.3


def reader(flavour: str, query: Callable[[], Any]) -> type[AsyncConsumer]:
    """A consumer whose handler makes a query."""

    class Async(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            await database_sync_to_async(query)()

    class Sync(SyncConsumer):
        def work_do(self, message: dict[str, Any]) -> None:
            query()

    return Async if flavour == "async" else Sync


@pytest.mark.alone
@pytest.mark.parametrize("flavour", ["async", "sync"])
@pytest.mark.django_db(transaction=True)
async def test_a_slow_query_of_one_instance_holds_up_no_other(flavour: str) -> None:
    """In one thread for all of them, the last of six would begin after five slow queries."""

    def query() -> None:
        User.objects.count()
        time.sleep(SLOW)

    for n in range(WIDTH):
        await aenqueue(CHANNEL, MESSAGE, job_id=f"{n}")
    began = time.monotonic()
    async with running(reader(flavour, query), concurrency=WIDTH):
        for n in range(WIDTH):
            await reached(f"{n}", State.SUCCEEDED)
    assert time.monotonic() - began < SLOW * WIDTH * 0.8


@pytest.mark.parametrize(("age", "kept"), [(0, False), (None, True)])
@pytest.mark.parametrize("flavour", ["async", "sync"])
@pytest.mark.django_db(transaction=True)
async def test_connections_live_as_in_the_request_cycle(
    flavour: str, age: int | None, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed after each job, unless CONN_MAX_AGE keeps them; closed in their thread when the instance ends."""
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", age)
    found: list[Any] = []
    before: list[bool] = []

    def query() -> None:
        mine = connections["default"]
        before.append(mine.connection is not None)
        User.objects.count()
        found.append(mine)

    async with running(reader(flavour, query)):
        for n in range(2):
            await aenqueue(CHANNEL, MESSAGE, job_id=f"{n}")
            await reached(f"{n}", State.SUCCEEDED)
        assert found[0] is found[1], "one thread, one connection"
        assert before == [False, kept]
    assert [item.connection for item in found] == [None, None]


@pytest.mark.parametrize("base", [AsyncConsumer, BackgroundConsumer])
@pytest.mark.django_db(transaction=True)
async def test_a_connection_left_open_is_looked_at_before_each_message(
    base: type[AsyncConsumer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Channels does it: also one that the job before didn't use, and that became too old meanwhile."""
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", None)
    found: list[Any] = []

    def query() -> bool:
        mine = connections["default"]
        found.append(mine)
        was_open = mine.connection is not None
        User.objects.count()
        return was_open

    opened: list[bool] = []

    class Consumer(base):  # type: ignore[valid-type, misc]
        async def work_do(self, message: dict[str, Any]) -> None:
            if message["query"]:
                opened.append(await sync_to_async(query)())

    application = Consumer.as_asgi()

    async def behind_middleware(*of_asgi: Any) -> None:
        await application(*of_asgi)

    async def job(job_id: str, *, query: bool) -> None:
        await aenqueue(CHANNEL, {**MESSAGE, "query": query}, job_id=job_id)
        await reached(job_id, State.SUCCEEDED)

    async with running(behind_middleware):
        await job("opens", query=True)
        found[0].close_at = time.monotonic() - 1
        await job("after-one-that-used-it", query=True)
        await job("does-nothing", query=False)
        found[0].close_at = time.monotonic() - 1
        await job("after-one-that-did-not", query=True)
        await job("finds-it-open", query=True)
    assert opened == [False, False, False, True]
    assert found[0].connection is None


@pytest.mark.django_db(transaction=True)
async def test_connections_are_looked_at_where_middleware_has_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", None)
    found: list[Any] = []
    opened: list[bool] = []

    def query() -> None:
        mine = connections["default"]
        found.append(mine)
        opened.append(mine.connection is not None)
        User.objects.count()

    class Consumer(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            await sync_to_async(query)()

    application = Consumer.as_asgi()

    async def middleware(*of_asgi: Any) -> None:
        with ThreadPoolExecutor(1) as executor:
            async with ThreadSensitiveContext(executor=executor):
                try:
                    await application(*of_asgi)
                finally:
                    await sync_to_async(connections.close_all)()

    async with running(middleware):
        for n in range(3):
            await aenqueue(CHANNEL, MESSAGE, job_id=f"{n}")
            await reached(f"{n}", State.SUCCEEDED)
            if n == 1:
                found[0].close_at = time.monotonic() - 1
    assert opened == [False, True, False]


async def test_a_job_is_not_claimed_again_and_again_for_an_application_that_gave_up_waiting() -> None:
    gave_up, go = asyncio.Event(), asyncio.Event()
    seen: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if not go.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(receive(), 0.01)
            gave_up.set()
            await go.wait()
        while True:
            seen.append((await receive())["type"])

    async with running(application):
        await gave_up.wait()
        await aenqueue(CHANNEL, MESSAGE, job_id="one")
        await reached("one", State.READY, releases=1)
        for _ in range(200):
            await jobs.acounts(CHANNEL)
        assert (await reached("one", State.READY)).releases == 1
        go.set()
        await reached("one", State.SUCCEEDED)
    assert seen == ["work.do"]


async def test_a_listener_that_cannot_consume_makes_the_worker_unready(tmp_path: Path, redis_url: str) -> None:
    """Also when all the others can: a deaf channel is what health checks are for."""
    beat, ready = tmp_path / "beat", tmp_path / "beat.ready"
    router = ChannelNameRouter({"good": AsyncConsumer.as_asgi(), "deaf": AsyncConsumer.as_asgi()})
    layer = get_layer()
    worker = Worker(
        ProtocolTypeRouter({"channel": router}), {"good": 1, "deaf": 1}, layer, shutdown_timeout=1, heartbeat=beat
    )
    task = asyncio.create_task(worker.run())
    try:
        await await_for(ready.exists, "ready")
        async with redis.asyncio.from_url(redis_url) as server:
            scheduled = layer.store.keys("deaf").all[2]
            await server.set(scheduled, "not a sorted set: every script of this channel fails")
            await await_for(lambda: not ready.exists(), "no longer ready")
            seen = beat.stat().st_mtime_ns
            await await_for(lambda: beat.stat().st_mtime_ns > seen, "the heart beats all the same")
            await server.delete(scheduled)
        await await_for(ready.exists, "ready again")
    finally:
        worker.stop()
        await asyncio.wait_for(task, 20)
        await layer.close_pools()
