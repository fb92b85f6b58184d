"""The processes of a measured site: daphne, a worker; and what the system knows of them."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from websockets.asyncio.client import connect

from project.development.valkey import free_port
from tests.conftest import wait_for
from tests.processes import ROOT, Process, RunWorker

SETTINGS = "tests.streams.settings"
FILES = 16_384
MAKE_USERS = """
import django; django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
User.objects.bulk_create(User(pk=number, username=f"user-{number}") for number in range(1, 10_001))
"""


def allow_many_files() -> None:
    """Raise this process' limit of open files, which those that it starts inherit, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))


class Daphne(Process):
    """`with Daphne(tmp_path) as daphne:` The port stays the same over restarts."""

    def __init__(self, directory: Path, **env: str) -> None:
        self.port = free_port()
        super().__init__(
            [sys.executable, "-W", "ignore", "-m", *self.command(), "tests.streams.site:application"],
            log=directory / "daphne.log",
            env={
                **os.environ,
                "ALLOWED_HOSTS": "127.0.0.1",
                "DJANGO_SETTINGS_MODULE": SETTINGS,
                "VAR_DIR": str(directory),
                **env,
            },
        )

    def command(self) -> list[str]:
        """The server's program and options."""
        return ["daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(self.port)]

    def __enter__(self) -> Self:
        super().__enter__()
        wait_for(self._listens, "the server listens")
        return self

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self, path: str = "ws", user: int = 5, port: int = 0, **options: Any) -> connect:
        """A socket from the site's own origin: `async with daphne.connect() as socket`."""
        url = f"ws://127.0.0.1:{port or self.port}/{path}/?user={user}"
        lean = {"compression": None, "ping_interval": None, "max_queue": None, "proxy": None, "open_timeout": 10}
        return connect(url, **{"origin": self.origin, **lean, **options})

    def _listens(self) -> bool:
        assert self.process.poll() is None, f"daphne ended: {self.text()}"
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


class Uvicorn(Daphne):
    """The same site in another server."""

    def command(self) -> list[str]:
        return ["uvicorn", "--log-level", "warning", "--host", "127.0.0.1", "--port", str(self.port),
                "--ws-per-message-deflate", "false"]  # fmt: skip


def make_users(directory: Path) -> Path:
    """A database there with 10,000 of them: whether they may stay is asked again every minute. Returns its file."""
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": SETTINGS, "VAR_DIR": str(directory), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-W", "ignore", "-c", MAKE_USERS], cwd=ROOT, env=env, timeout=60, check=True)
    return directory / "db.sqlite3"


def worker(directory: Path, *args: str, **env: str) -> RunWorker:
    """Runs the channel of these rigs: `with worker(tmp_path) as process`."""
    environment = {"VAR_DIR": str(directory), **env}
    return RunWorker(SETTINGS, "streams", *args, log=directory / "worker.log", env=environment)


def resident(pid: int) -> int:
    """Bytes of a process that are in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"process {pid} has ended")


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
