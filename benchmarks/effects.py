"""What the jobs of every queue here do, and how a run is seen: one line in the file EFFECTS, 32 bytes, one append.

Runs in the environments of the peers: only the standard library.

The kinds of job: `noop` leaves its line and returns; `spin` takes a millisecond of processor time after it; `sleep`
waits 50 ms; `crash` leaves one, works for 20 ms and leaves another. A line says which (s: it began, d: it is done),
which of the workers that were started (BENCH_WORKER), the job's number, and the machine's monotonic clock, which is the
same for all processes.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LINE_BYTES = 32
SLEEP_SECONDS = 0.05
CRASH_SECONDS = 0.02
SPIN_NANOSECONDS = 1_000_000

_file = -1
_worker = int(os.environ.get("BENCH_WORKER", "0"))


def record(n: int, kind: str = "s") -> None:
    """About a microsecond, the same for all. Appends of this size don't mix, whatever the process."""
    global _file  # noqa: PLW0603 - opened by the process that works, kept by what it forks
    if _file < 0:
        _file = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(_file, b"%s%d%10d %18d\n" % (kind.encode(), _worker, n, time.monotonic_ns()))


def noop(n: int) -> None:
    record(n)


def spin(n: int) -> None:
    """By the clock of this thread's processor time: as long on a core that others share."""
    record(n)
    end = time.thread_time_ns() + SPIN_NANOSECONDS
    while time.thread_time_ns() < end:
        pass


def sleep(n: int) -> None:
    record(n)
    time.sleep(SLEEP_SECONDS)


def crash(n: int) -> None:
    record(n)
    time.sleep(CRASH_SECONDS)
    record(n, "d")


async def anoop(n: int) -> None:
    record(n)


async def aspin(n: int) -> None:
    spin(n)


async def asleep(n: int) -> None:
    record(n)
    await asyncio.sleep(SLEEP_SECONDS)


async def acrash(n: int) -> None:
    record(n)
    await asyncio.sleep(CRASH_SECONDS)
    record(n, "d")


#: By the name that queues know them by.
SYNC = {"noop": noop, "spin": spin, "sleep": sleep, "crash": crash}
ASYNC = {"noop": anoop, "spin": aspin, "sleep": asleep, "crash": acrash}


class Effect(NamedTuple):
    kind: str
    #: Of those that were started, the how many-th from 0, up to 9.
    worker: int
    n: int
    #: Seconds of the machine's monotonic clock.
    at: float


class Effects:
    """The file, for the one who measures: `count()` is cheap enough to poll."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clear()

    def clear(self) -> None:
        """For what is measured next with the same server."""
        self.path.write_bytes(b"")

    def count(self) -> int:
        return self.path.stat().st_size // LINE_BYTES

    def __iter__(self) -> Iterator[Effect]:
        for line in self.path.read_bytes().splitlines():
            yield Effect(chr(line[0]), int(line[1:2]), int(line[2:12]), int(line[12:]) / 1e9)

    def workers(self) -> set[int]:
        """Those that have a line among the newest hundreds."""
        with self.path.open("rb") as file:
            file.seek(-min(self.count(), 500) * LINE_BYTES, os.SEEK_END)
            return {int(line[1:2]) for line in file.read().splitlines() if len(line) == LINE_BYTES - 1}
