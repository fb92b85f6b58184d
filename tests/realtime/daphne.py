"""The tests' site under a real daphne, in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect

from project.development.valkey import free_port
from tests.conftest import wait_for

ROOT = Path(__file__).resolve().parent.parent.parent


class Daphne:
    """`with Daphne(tmp_path) as daphne:`; stopped at the end of the block. The port stays the same over restarts."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.log = directory / "daphne.log"
        self.port = free_port()
        self.environment = {
            **os.environ,
            "VAR_DIR": str(directory),
            "ALLOWED_HOSTS": "127.0.0.1",
            "DJANGO_SETTINGS_MODULE": "project.settings",
            **environment,
        }

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/"

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = [sys.executable, "-W", "ignore", "-m", "daphne", "-b", "127.0.0.1", "-p", str(self.port)]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "tests.realtime.app:application"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_for(self._listens, "daphne listens")

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it with this signal and wait until it is gone."""
        self.process.send_signal(how)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def connect(self, user: int | None = 5, **options: Any) -> connect:
        """A socket from the site's own origin: `async with daphne.connect() as socket`."""
        query = "" if user is None else f"?user={user}"
        return connect(f"{self.url}{query}", **{"origin": self.origin, "proxy": None, "max_queue": None, **options})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end()

    def _listens(self) -> bool:
        assert self.process.poll() is None, f"daphne ended: {self.log.read_text()}"
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


__all__ = ["ClientConnection", "Daphne"]
