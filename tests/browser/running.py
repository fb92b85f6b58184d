"""The real site for the browser tests: Valkey, daphne, runworker and the sweep, each a process that a test may end."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from project.development.system import CHECKOUT, listen
from project.development.tether import tethered
from project.development.valkey import Valkey

HOST = "127.0.0.1"
CHANNELS = ("deliveries", "stories", "tasks.default", "tasks.bulk", "tasks.reports")
BACKOFF_SECONDS = 0.5
LEASE_SECONDS = 5
READY_SECONDS = 60


def wait_until(condition: Callable[[], object], description: str, seconds: float = 40.0) -> None:
    """Poll until ``condition`` holds. Raises TimeoutError with ``description``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:g} s still not so: {description}")
        time.sleep(0.02)


class Process:
    """A part of the site; its output goes to a file."""

    def __init__(self, name: str, arguments: list[str], site: Site, *, descriptors: tuple[int, ...] = ()) -> None:
        self.log = site.directory / f"{name}.log"
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                tethered([sys.executable, *arguments]),
                cwd=CHECKOUT,
                env=site.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=descriptors,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the process, if it still runs, and wait until it has."""
        if self.runs:
            self._process.send_signal(how)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Site:
    """The whole system in ``directory``, with short delays. ``with Site(directory) as site: ...``

    ``port``: the wanted one, else the next free one; 0: any. ``settings``: environment variables of the site.
    """

    def __init__(self, directory: Path, *, port: int = 0, settings: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self._settings = settings or {}
        self.valkey = Valkey(directory / "valkey", appendonly=True)
        self.workers: list[Process] = []
        self._others: list[Process] = []  # the web server first
        # Kept open over a restart of the web server: a browser that connects meanwhile waits, nobody takes the port.
        self._listener = listen(HOST, port)
        self.port = self._listener.getsockname()[1]
        self.origin = f"http://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self.__exit__)
            self._start()
            undo.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        for process in (*self.workers, *self._others):
            process.end()
        self._listener.close()
        self.valkey.stop()

    def _start(self) -> None:
        self.valkey.start()
        self.environment = {
            **os.environ,
            "ALLOWED_HOSTS": HOST,
            "DELIVERIES_BACKOFF_SECONDS": str(BACKOFF_SECONDS),
            "DJANGO_DEBUG": "1",
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "NO_PROXY": HOST,
            "PYTHONUNBUFFERED": "1",
            "REDIS_URL": self.valkey.url,
            "STREAMING_BACKOFF_SECONDS": str(BACKOFF_SECONDS),
            "STREAMING_WORD_SECONDS": "0.01",
            "SWEEP_SECONDS": "0.5",
            "VAR_DIR": str(self.directory),
            "WEBHOOK_RECEIVER_ORIGIN": self.origin,
            **self._settings,
        }
        self.environment.pop("DATABASE_URL", None)
        self.environment.pop("SITE_ORIGIN", None)
        self.manage("migrate", "--verbosity", "0")
        self._start_web()
        self._others.append(Process("sweep", ["manage.py", "sweep_deliveries", "--every", "1"], self))
        self.ensure_one_worker()

    def sign_in_link(self, user: str = "developer") -> str:
        return self.manage("sign_in_link", "--user", user).strip().splitlines()[-1]

    def start_worker(self) -> Process:
        worker = Process("worker", ["manage.py", "runworker", *CHANNELS, "--shutdown-timeout", "2"], self)
        self.workers.append(worker)
        return worker

    def ensure_one_worker(self) -> None:
        """Whatever the test before did: a worker runs, and the site has noticed."""
        self.workers = [worker for worker in self.workers if worker.runs]
        if not self.workers:
            self.start_worker()
        wait_until(lambda: self._get("/readyz")[0] == 200, "the site is ready", READY_SECONDS)

    def stop_workers(self, how: signal.Signals = signal.SIGTERM) -> None:
        for worker in self.workers:
            worker.end(how)
        self.workers = []

    def restart_web(
        self, *, meanwhile: Callable[[], object] = lambda: None, how: signal.Signals = signal.SIGTERM
    ) -> None:
        """End daphne, do something while it is gone, start it again."""
        self._others.pop(0).end(how)
        meanwhile()
        self._start_web()

    def query(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Ask the site's database itself, behind the site's back."""
        with contextlib.closing(sqlite3.connect(self.directory / "db.sqlite3", timeout=10)) as connection, connection:
            return connection.execute(sql, arguments).fetchall()

    def deliveries(self) -> int:
        """How many deliveries there are."""
        [(number,)] = self.query("SELECT COUNT(*) FROM webhooks_delivery")
        return int(number)

    def logs(self) -> str:
        """The end of what each part has said."""
        logs = self.directory.glob("*.log")
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}" for log in logs)

    def _start_web(self) -> None:
        descriptor = self._listener.fileno()
        arguments = ["-m", "daphne", "-v", "0", "--fd", str(descriptor), "asgi:application"]
        self._others.insert(0, Process("web", arguments, self, descriptors=(descriptor,)))

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=CHECKOUT, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def _get(self, path: str) -> tuple[int, dict[str, object]]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)  # asks no proxy, unlike urllib
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            return 0, {}
        finally:
            connection.close()
