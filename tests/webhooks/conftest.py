"""What the tests of the webhooks app share: a receiver to deliver to, a user, deliveries."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from asgiref.sync import sync_to_async
from channels.layers import channel_layers
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connections

from project.development.valkey import Valkey
from project.webhooks import records
from project.webhooks.clients import close_clients
from project.webhooks.models import Delivery
from project.webhooks.targets import Order


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: bytes
    #: When its head had come in, by time.monotonic().
    at: float


@dataclass
class Receiver:
    """A real HTTP server on loopback. Each request gets the next of ``answers``, the last one again and again.

    An answer is raw HTTP; b"" hangs up without a word, None never answers, an event answers 200 when it is set.
    """

    origin: str
    answers: list[bytes | asyncio.Event | None]
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    def answer(self, status: str, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.answers = [("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body]


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                at = time.monotonic()
                pairs = (line.split(": ", 1) for line in head[1:-2])
                headers = {name.lower(): value for name, value in pairs}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                found.requests.append(Request(head[0], headers, body, at))
                answer = found.answers.pop(0) if len(found.answers) > 1 else found.answers[0]
                if answer is None:
                    await reader.read()  # until the caller hangs up
                    return
                if isinstance(answer, asyncio.Event):
                    await answer.wait()
                    answer = OK
                writer.write(answer)
                await writer.drain()
                if not answer or b"Content-Length" not in answer:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    found = Receiver(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", [OK])
    yield found
    await close_clients()
    await sync_to_async(connections.close_all)()  # of the thread that async tests look at rows in
    server.close()
    await server.wait_closed()


@pytest.fixture
def let_through(settings: Any, receiver: Receiver) -> Receiver:
    """The receiver, as the one origin that is let through while developing."""
    settings.DEBUG = True
    settings.WEBHOOK_RECEIVER_ORIGIN = receiver.origin
    return receiver


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """In a file: threads and other processes see the same database, which one in memory doesn't offer."""
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        database["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "test.sqlite3")


@pytest.fixture
def user(transactional_db: None) -> User:
    return User.objects.create_user("ann")


@pytest.fixture
def make_delivery(user: User) -> Callable[..., Delivery]:
    def make(url: str = "https://example.com/hook", payload: str = "{}", owner: User = user) -> Delivery:
        return records.create(owner.pk, Order(url=url, payload=payload, send_at=None), None)

    return make


def database_url() -> str:
    """The test database, for other processes."""
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        return f"sqlite:///{database['NAME']}"
    user, password, host, port = (quote(str(database[key]), safe="") for key in ("USER", "PASSWORD", "HOST", "PORT"))
    return f"postgres://{user}:{password}@{host}:{port}/{database['NAME']}"


def site_environment(receiver_origin: str) -> dict[str, str]:
    """For processes of the site: this test's database, store and receiver; short delays."""
    return {
        "DATABASE_URL": database_url(),
        "REDIS_URL": os.environ["REDIS_URL"],
        "DJANGO_DEBUG": "1",
        "WEBHOOK_RECEIVER_ORIGIN": receiver_origin,
        "LEASE_SECONDS": "5",
        "SWEEP_SECONDS": "0.2",
        "DELIVERIES_BACKOFF_SECONDS": "0.1",
        "DELIVERIES_TIMEOUT_SECONDS": "5",
    }


class ThreadedReceiver(ThreadingHTTPServer):
    """A receiver for tests without an event loop. Answers with ``statuses`` in turn, the last again and again."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.origin = f"http://127.0.0.1:{self.server_port}"
        self.statuses = [200]
        self.bodies: list[bytes] = []


class _Handler(BaseHTTPRequestHandler):
    server: ThreadedReceiver

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        statuses = self.server.statuses
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing to the console."""


@pytest.fixture
def threaded_receiver() -> Iterator[ThreadedReceiver]:
    with ThreadedReceiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def own_valkey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Valkey]:
    """A store that may be stopped."""
    with Valkey(tmp_path / "valkey", appendonly=True) as server:
        monkeypatch.setitem(settings.CHANNEL_LAYERS["default"]["CONFIG"], "hosts", [server.url])
        monkeypatch.setenv("REDIS_URL", server.url)
        channel_layers.backends.clear()
        yield server
