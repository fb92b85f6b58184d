"""The whole system on one machine: its parts (Valkey, web server, worker, sweep) and what configures them."""

import asyncio
import errno
import http.client
import json
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from project.development import valkey
from project.development.supervisor import Log, Part, PartError, Supervisor, say

CHECKOUT = Path(__file__).resolve().parents[2]
CHANNELS = ("deliveries", "stories", "tasks.default", "tasks.bulk")
REPORTS = "tasks.reports"
"""Reports cost CPU: a process of its own, or they would slow down what else its worker does."""
LOOPBACK = "127.0.0.1,localhost,::1"
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - only when a person asks for it by HOST=
SETTINGS = (
    "ALLOWED_HOSTS",
    "BULK_RATE",
    "DATABASE_URL",
    "DELIVERIES_BACKOFF_SECONDS",
    "DELIVERIES_TIMEOUT_SECONDS",
    "DJANGO_DEBUG",
    "FEED_URL",
    "FUNCTIONS_URL",
    "LEASE_SECONDS",
    "REDIS_URL",
    "SITE_ORIGIN",
    "STREAMING_BACKOFF_SECONDS",
    "STREAMING_WORD_SECONDS",
    "SWEEP_SECONDS",
    "WEBHOOK_RECEIVER_ORIGIN",
)
"""The variables that the site's settings read (see there), and that a command in another terminal has to share."""

PORTS_TO_TRY = 100
READY_POLL_SECONDS = 0.3
"""Each question that is answered with "not ready" is an error in the web server's log: not too often."""


class UsageError(Exception):
    """What the person who started it has to change; the message is the one line to show."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket on `port`, or, where that is taken, on the next free one (0: any free one).

    The supervisor keeps it and lends it to the web server, so nobody takes the port while that restarts, and a browser
    that connects meanwhile waits instead of being refused.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, min(port + PORTS_TO_TRY, 65536)) if port else (0,):
        try:
            return socket.create_server((host, candidate), family=family, backlog=128)
        except PermissionError:
            raise UsageError(f"PORT={port} is not allowed to this user; choose one above 1023, say PORT=8000") from None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                why = str(error.strerror).split(" (", maxsplit=1)[0]
                raise UsageError(f"HOST={host} is no address of this machine: {why}") from None
    raise UsageError(f"the ports {port} to {port + PORTS_TO_TRY - 1} are all taken; choose another by PORT=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a person can choose by HOST, PORT, VAR_DIR and REDIS_URL; the rest goes to the site as it is."""

    host: str
    port: int
    """The wanted port; the next free one is taken. 0: any."""
    var: Path
    """Where everything is kept that outlives the system: the database, Valkey's files, the keys."""
    redis_url: str
    """Empty: a Valkey of our own."""
    environment: Mapping[str, str]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Config":
        """Raises UsageError when a value can't be used."""
        port = environment.get("PORT") or "8000"
        if not port.isdecimal() or int(port) > 65535:
            raise UsageError(f"PORT={port} is no port: expected a number from 0 to 65535, where 0 means any free one")
        return cls(
            host=environment.get("HOST") or "127.0.0.1",
            port=int(port),
            var=Path(environment.get("VAR_DIR") or CHECKOUT / "var").absolute(),
            redis_url=environment.get("REDIS_URL", ""),
            environment=environment,
        )


class System:
    """The parts of one running site, and where they find each other.

    Args:
        listener: the web server's socket, see `listen`. It stays the caller's to close.
        receiver: the one origin on this machine that webhooks may go to; empty: the site's own.
        log: takes the parts' log lines.
    """

    def __init__(
        self, config: Config, supervisor: Supervisor, listener: socket.socket, *, receiver: str = "", log: Log = say
    ) -> None:
        self.config = config
        self.supervisor = supervisor
        self._log = log
        self._listener = listener
        host, self.port = listener.getsockname()[:2]
        # A browser on this machine can't open the address that stands for all of them.
        host = ANY_ADDRESS.get(host, host)
        self.origin = f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"
        self._host = host
        self._receiver = receiver or self.origin
        self._valkey_port = 0 if config.redis_url else valkey.free_port()
        self.redis_url = config.redis_url or f"redis://{valkey.HOST}:{self._valkey_port}/0"
        self.environment = self._environment()

    def part(
        self,
        name: str,
        *arguments: str,
        stop_seconds: float = 10.0,
        with_listener: bool = False,
        log: Log | None = None,
    ) -> Part:
        """A part that runs this Python with `arguments`."""
        return Part(
            name,
            [sys.executable, *arguments],
            self.environment,
            stop_seconds=stop_seconds,
            file_descriptors=[self._listener.fileno()] if with_listener else [],
            log=log or self._log,
        )

    def worker(self, name: str = "worker") -> Part:
        # The time to finish what runs; what is left then goes back uncharged, and is run after the next start.
        return self._runs(name, *CHANNELS)

    def _runs(self, name: str, *channels: str) -> Part:
        return self.part(name, "manage.py", "runworker", *channels, "--shutdown-timeout", "10", stop_seconds=15.0)

    async def start(self) -> None:
        """Start all parts in order. The last one is the first to be stopped: the worker, with all it needs still there.

        Raises:
            PartError: Valkey did not start, or the database could not be prepared.
        """
        if not self.config.redis_url:
            await self._start_valkey()
        await self.part("setup", "-m", "project.development.prepare").run()
        await self.supervisor.start(self.part("sweep", "manage.py", "sweep_deliveries", "--every", "10"))
        await self.supervisor.start(
            # -v 0: warnings and errors only. It runs `asgi:application`, as any server of a production site would.
            self.part(
                "web", "-m", "daphne", "-v", "0", "--fd", str(self._listener.fileno()), "asgi:application",
                with_listener=True,
            )
        )  # fmt: skip
        await self.supervisor.start(self._runs("reports", REPORTS))
        await self.supervisor.start(self.worker())

    async def readiness(self) -> dict[str, object] | None:
        """What `/readyz` answers, with `ready` added; None while the web server doesn't answer at all."""

        def get() -> dict[str, object] | None:
            # http.client asks no proxy, whatever the environment says.
            connection = http.client.HTTPConnection(self._host, self.port, timeout=5)
            try:
                connection.request("GET", "/readyz")
                response = connection.getresponse()
                return {**json.loads(response.read()), "ready": response.status == 200}
            except (OSError, http.client.HTTPException, ValueError):
                return None
            finally:
                connection.close()

        return await asyncio.to_thread(get)

    async def until_ready(self) -> None:
        """Wait until page, worker, store and database answer. Nothing limits the time."""
        while (answer := await self.readiness()) is None or answer["ready"] is not True:
            await asyncio.sleep(READY_POLL_SECONDS)

    async def sign_in_link(self) -> str:
        """A fresh one-time link to the page; it is in the log as well. Raises PartError."""
        lines: list[str] = []
        part = self.part("page", "manage.py", "sign_in_link", log=lambda _, line: lines.append(line))
        try:
            await part.run()
        finally:
            for line in lines:
                self._log(part.name, line)
        return lines[-1]

    def environment_file(self) -> str:
        """The lines NAME=VALUE of `var/environment`: with them a command in another terminal finds this system."""
        return "".join(f"{name}={self.environment[name]}\n" for name in SETTINGS if self.environment.get(name))

    async def _start_valkey(self) -> None:
        directory = self.config.var / "valkey"
        directory.mkdir(parents=True, exist_ok=True)
        # Into a file: it advises on the machine's settings at every start, which is for servers.
        log = directory / "valkey.log"
        command = [*valkey.command(directory, self._valkey_port), "--logfile", str(log)]
        part = Part("valkey", command, self.environment, log=self._log)
        await self.supervisor.start(part)
        deadline = time.monotonic() + valkey.START_SECONDS
        while part.pid == 0 or await asyncio.to_thread(valkey.answering, self._valkey_port) != part.pid:
            if time.monotonic() > deadline or part.starts > 3:
                raise PartError(f"Valkey did not start; what it said is in {log}")
            await asyncio.sleep(0.02)
        self._log("valkey", f"answers on port {self._valkey_port}; its data and its log are in {directory}")

    def _environment(self) -> dict[str, str]:
        given = self.config.environment
        no_proxy = ",".join(filter(None, [given.get("NO_PROXY") or given.get("no_proxy"), LOOPBACK]))
        return {
            "DJANGO_DEBUG": "1",
            "ALLOWED_HOSTS": "*" if self.config.host in ANY_ADDRESS else f"localhost,127.0.0.1,[::1],{self._host}",
            "SITE_ORIGIN": self.origin,
            **given,
            "PYTHONUNBUFFERED": "1",
            "REDIS_URL": self.redis_url,
            "VAR_DIR": str(self.config.var),
            "WEBHOOK_RECEIVER_ORIGIN": self._receiver,
            "NO_PROXY": no_proxy,
            "no_proxy": no_proxy,
        }
