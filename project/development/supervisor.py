"""Parts (processes that are kept running) and the supervisor that starts them in order and stops them in reverse."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from project.development.tether import tethered

FIRST_RESTART_SECONDS = 0.5
LAST_RESTART_SECONDS = 10.0
STEADY_SECONDS = 10.0
"""A part that ran this long before it crashed is restarted as if for the first time."""


Log = Callable[[str, str], None]
"""Takes a part's name and one line of its log."""


class PartError(Exception):
    """A command that has to succeed before the system can run did not."""


def say(name: str, line: str) -> None:
    """Print a line of a part's log. A reader that went away (a closed terminal, `| head`) is no reason to stop."""
    try:
        print(f"{name:<6} | {line}", flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - for the rest of this process


def ending(returncode: int) -> str:
    """How a process ended, in words: `exit code 3`, `SIGKILL`."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"


class Part:
    """One process of the system: its output is copied to the log, a crash is said there, and it is started again.

    Args:
        name: the prefix of its log lines.
        command: program and arguments.
        environment: all of its environment variables.
        stop_seconds: after SIGTERM it may take this long; then it is killed.
        file_descriptors: open files that it inherits.
        log: takes each line of its log, with its name.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        stop_seconds: float = 10.0,
        file_descriptors: Sequence[int] = (),
        log: Log = say,
    ) -> None:
        self.name = name
        self.stop_seconds = stop_seconds
        self.starts = 0
        self._command = command
        self._environment = environment
        self._file_descriptors = file_descriptors
        self._log = log
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Its process id now; 0 while it doesn't run."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    async def start(self) -> None:
        """Start the process; from now on it is kept running."""
        self._process = await self._spawn()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Ask the process to end (SIGTERM), wait, kill it when it takes too long. It isn't started again."""
        self._stopping.set()
        if self._keeper is None:
            return
        self.signal(signal.SIGTERM)
        done, _ = await asyncio.wait({self._keeper}, timeout=self.stop_seconds)
        if not done:
            self._log(self.name, f"still here {self.stop_seconds:g} s after SIGTERM: killed")
            self.signal(signal.SIGKILL)
        await self._keeper

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it runs."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def run(self) -> None:
        """Run the command once, to its end, instead of keeping it running. Cancelled, it takes the process with it.

        Raises:
            PartError: it ended with another exit code than 0; its output is in the log.
        """
        process = self._process = await self._spawn()
        try:
            returncode = await self._follow(process)
        finally:
            self.signal(signal.SIGKILL)
            await process.wait()
        if returncode != 0:
            raise PartError(f"{self.name} failed ({ending(returncode)}): what it said is above")

    async def _spawn(self) -> Process:
        self.starts += 1
        return await asyncio.create_subprocess_exec(
            *tethered(self._command),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env=dict(self._environment),
            pass_fds=tuple(self._file_descriptors),
            start_new_session=True,  # Ctrl-C in the terminal is for the supervisor alone: it knows the order
        )

    async def _keep(self) -> None:
        assert self._process is not None
        pause = FIRST_RESTART_SECONDS
        while True:
            started = time.monotonic()
            returncode = await self._follow(self._process)
            if self._stopping.is_set():
                return
            if time.monotonic() - started > STEADY_SECONDS:
                pause = FIRST_RESTART_SECONDS
            self._log(self.name, f"crashed ({ending(returncode)}), is started again in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
                return
            pause = min(pause * 2, LAST_RESTART_SECONDS)
            try:
                self._process = await self._spawn()
            except OSError as error:  # no memory or no process to be had just now; the old one's end is seen again
                self._log(self.name, f"can't be started ({error.strerror})")
                continue
            if self._stopping.is_set():  # stop() came while it was being started, and found nothing to signal
                self.signal(signal.SIGTERM)
            self._log(self.name, f"started again (process {self._process.pid})")

    async def _follow(self, process: Process) -> int:
        """Copy a process's output until it has ended; its return code."""
        copying = asyncio.create_task(self._copy(process))
        returncode = await process.wait()
        # The end of the pipe comes right after the end of the process, unless a child of it holds the pipe open.
        _, pending = await asyncio.wait({copying}, timeout=1.0)
        for task in pending:
            task.cancel()
        return returncode

    async def _copy(self, process: Process) -> None:
        assert process.stdout is not None
        rest = b""
        while chunk := await process.stdout.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._log(self.name, line.decode(errors="replace").rstrip("\r"))
        if rest:
            self._log(self.name, rest.decode(errors="replace"))


class Supervisor:
    """Holds the parts: `async with Supervisor() as supervisor: await supervisor.start(part)`.

    Leaving the block stops them one after the other, the last one started first.
    """

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._stopping: Part | None = None

    async def start(self, part: Part) -> None:
        self.parts.append(part)  # first: a stop that comes now must find it
        await part.start()

    def hurry(self) -> None:
        """Tell the part that is being stopped once more: a worker then gives its running jobs back at once."""
        if self._stopping is not None:
            self._stopping.signal(signal.SIGTERM)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self.parts:
            self._stopping = self.parts.pop()
            await self._stopping.stop()
        self._stopping = None
