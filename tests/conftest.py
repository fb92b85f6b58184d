"""Fixtures for every test: a real Valkey, an empty store for each test, and waiting for states instead of sleeping."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from asgiref.sync import SyncToAsync
from channels.layers import channel_layers
from channels.routing import get_default_application
from django.conf import settings
from django.db import connections

from project.development.valkey import Valkey
from realtime import garbage

#: Seconds after which a state that was waited for counts as never reached.
PATIENCE = 40.0

# Not for the process of the tests, whichever of them imports asgi.py, which calls it: hypothesis asks gc.get_referrers
# whether its random numbers will live, and that finds nothing among the objects that are left out.
garbage.keep_pauses_short = lambda: None

# A shell's background job ignores Ctrl-C, and so would the commands that tests interrupt: they inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """The server that most tests share; those that stop it start one of their own."""
    with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        settings.CHANNEL_LAYERS["default"]["CONFIG"]["hosts"] = [server.url]
        os.environ["REDIS_URL"] = server.url
        yield server


@pytest.fixture(scope="session", autouse=True)
def _application(valkey: Valkey) -> None:
    """Loaded before the first test: that sets up Django, and with it the log, which takes caplog's handler away."""
    get_default_application()


@pytest.fixture(scope="session")
def redis_url(valkey: Valkey) -> str:
    """Address of the shared server."""
    return valkey.url


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The test database in a file: one in memory is seen by one connection only, and threads have their own."""
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        database.setdefault("TEST", {})["NAME"] = str(tmp_path_factory.mktemp("database") / "test.sqlite3")


@pytest.fixture(autouse=True)
def _empty_store(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test begins with an empty server, its own layer object, and leaves nothing open."""
    server: Valkey = request.getfixturevalue("valkey")
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    channel_layers.backends.clear()
    yield
    for layer in channel_layers.backends.values():
        if hasattr(layer, "store"):
            layer.store.connections.close()
    channel_layers.backends.clear()


@pytest.fixture(autouse=True)
def _no_connection_in_the_shared_thread() -> Iterator[None]:
    """sync_to_async() runs things in a thread that is the next test's too, which may have no database."""
    yield
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()


def wait_for(condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    """Wait until ``condition()`` is true and return its value; fail saying ``what`` never came."""
    deadline = time.monotonic() + timeout
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain: {what}")
        time.sleep(0.01)


async def await_for(condition: Callable[[], Any | Awaitable[Any]], what: str, timeout: float = PATIENCE) -> Any:
    """``wait_for`` on the event loop; the condition may be async."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain: {what}")
        await asyncio.sleep(0.01)


class Effects:
    """Reads the file to which handlers append a line for each effect."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    def numbers(self) -> list[int]:
        """The first word of each line."""
        return [int(line.split()[0]) for line in self.lines()]


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    return Effects(tmp_path / "effects")
