"""``runworker --health-port``: /healthz, /readyz and /metrics of a worker or of its supervisor, from a thread.

The first two look at the heartbeat's files only (see heartbeat.py), so that they tell of the event loop and never wait
for a server; with ``--processes`` at those of every process.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from .heartbeat import ready_file

#: An event loop that was not heard of for so many seconds is stuck.
ALIVE_SECONDS = 30.0


class Probes:
    """Answers on a port until the process ends, or the block. ``files``: heartbeats, one a process.

    Beyond this machine /metrics asks for ``METRICS_TOKEN``.

    Raises OSError when the port can't be had.
    """

    def __init__(self, host: str, port: int, files: Sequence[Path], *, using: str = "default") -> None:
        self.files = list(files)
        self.using = using
        self.local = host in ("127.0.0.1", "::1", "localhost")
        probes = self

        class Handler(_Handler):
            owner = probes

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, name="retrying-probes", daemon=True).start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def healthz(self) -> str:
        """What is wrong, "" = nothing. A process without a file is starting, or ended and is replaced."""
        silent = [age for file in self.files if (age := _age(file)) is not None and age > ALIVE_SECONDS]
        return f"an event loop has been stuck for {max(silent):.0f} s" if silent else ""

    def readyz(self) -> str:
        """What is wrong, "" = nothing: every process consumes each of its channels."""
        ages = [_age(ready_file(file)) for file in self.files]
        missing = sum(age is None or age > ALIVE_SECONDS for age in ages)
        return f"{missing} of {len(ages)} worker processes don't consume all of their channels" if missing else ""


def _age(file: Path) -> float | None:
    try:
        return time.time() - file.stat().st_mtime
    except FileNotFoundError:
        return None


class _Handler(BaseHTTPRequestHandler):
    owner: Probes
    #: Seconds that a client may take.
    timeout = 5

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path in ("/healthz", "/readyz"):
            problem = self.owner.healthz() if path == "/healthz" else self.owner.readyz()
            body = json.dumps({"ok": not problem, "worker": problem or "ok"}).encode()
            self._send(503 if problem else 200, "application/json", body)
        elif path == "/metrics":
            self._send(*self._metrics())
        else:
            self._send(404, "text/plain", b"/healthz, /readyz, /metrics\n")

    do_HEAD = do_GET  # noqa: N815 - the name is the base class's

    def _metrics(self) -> tuple[int, str, bytes]:
        from .metrics import allowed, exposition

        if not self.owner.local and not allowed(self.headers.get("Authorization", "")):
            return 403, "text/plain", b"beyond this machine metrics need METRICS_TOKEN as bearer token\n"
        return exposition(self.headers.get("Accept", ""), using=self.owner.using)

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(HTTPStatus(status))
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """A probe each second is not worth a line."""
