"""What the tests of the insights app share: a user, and a feed to poll."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def repositories(*names: str, **fields: Any) -> Answer:
    """A search result with these repositories."""
    items = [
        {
            "full_name": name, "stargazers_count": 100 - number, "language": "Python", "description": f"about {name}",
            "html_url": f"https://code.example/{name}", **fields,
        }
        for number, name in enumerate(names)
    ]  # fmt: skip
    return Answer(body=json.dumps({"total_count": len(items), "items": items}).encode())


class Feed(ThreadingHTTPServer):
    """A code host on loopback. Each request gets the next of ``answers``, the last one again and again."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/search/repositories"
        self.answers = [Answer()]
        self.paths: list[str] = []
        self.keys: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Feed

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.keys.append(self.headers["Idempotency-Key"])
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing to the console."""


@pytest.fixture
def feed(settings: Any) -> Iterator[Feed]:
    with Feed() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        settings.FEED_URL = server.url
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def user(transactional_db: None) -> User:
    return User.objects.create_user("ann")


@pytest.fixture
def signed_in(user: User, client: Client) -> Client:
    client.force_login(user)
    return client
