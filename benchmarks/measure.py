"""What every benchmark here measures with: a server of its own, processor time, memory, commands, medians.

Linux only: /proc says what processes use. Nothing here knows of a peer or of this package.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import redis

from project.development.tether import tethered
from project.development.valkey import Valkey

T = TypeVar("T")

#: What a server promises to keep: nothing, all but the last second, everything that it has answered.
PERSISTENCE = ("off", "everysec", "always")


# Numbers


@dataclass(frozen=True, slots=True)
class Figure:
    """Several rounds of one measurement: their median, and half their range over it (0.03: within 3 %)."""

    median: float
    spread: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """Raises statistics.StatisticsError when there is none."""
        middle = statistics.median(values)
        return cls(middle, (max(values) - min(values)) / 2 / abs(middle) if middle else 0.0, len(values))


def percentile(values: Sequence[float], fraction: float) -> float:
    """The smallest value that at least `fraction` of them don't exceed. ValueError when there is none."""
    if not values:
        raise ValueError("a percentile of no values: nothing was measured")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-fraction * len(ordered) // 1) - 1))]


def interleaved(rounds: int, cells: Sequence[T]) -> Iterator[tuple[int, T]]:
    """Each cell once a round, in another order each time (the same in every run): what else the machine does, and what
    the cell before left in its caches, meets all of them."""
    for number in range(1, rounds + 1):
        yield from ((number, cell) for cell in random.Random(number).sample(cells, len(cells)))


# Processes


def tree(pid: int) -> list[int]:
    """This process and all below it that live."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue  # it ended just now
            below.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found = [pid] if Path(f"/proc/{pid}").exists() else []
    for parent in found:
        found.extend(below.get(parent, []))
    return found


def cpu_seconds(pid: int, *, below: bool = True) -> float:
    """Processor seconds, user and system, that a process used so far; with those `below` it, dead ones that were waited
    for included."""
    return sum(_cpu_of_one(each) for each in (tree(pid) if below else [pid]))


def _cpu_of_one(pid: int) -> float:
    # Linux's clock of another process: in nanoseconds, where /proc counts in ticks of 10 ms.
    try:
        own = time.clock_gettime((~pid << 3) | 2)
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    waited_for = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    return own + waited_for


def core_waits(pid: int) -> float:
    """Seconds for which threads of a process and of those below it were ready to run while others had the cores, so
    far; what ended meanwhile left out. 0.0 where the kernel doesn't say."""
    total = 0
    for each in tree(pid):
        for said in Path(f"/proc/{each}/task").glob("*/schedstat"):
            try:
                total += int(said.read_text().split()[1])
            except (OSError, IndexError):
                continue
    return total / 1e9


def resident(pid: int) -> int:
    """Bytes in memory of a process and all below it; pages that they share count once a process."""
    total = 0
    for each in tree(pid):
        try:
            total += int(Path(f"/proc/{each}/statm").read_text().split()[1])
        except OSError:
            continue
    return total * os.sysconf("SC_PAGE_SIZE")


#: Where Linux keeps its control groups, and in which file of a group its processes stand.
CONTROL_GROUPS, MEMBERS = Path("/sys/fs/cgroup"), "cgroup.procs"
#: Microseconds after which what a control group may use begins anew: few, but a quota is a millisecond at least.
QUOTA_PERIOD = 5000


class CannotHold(Exception):
    """A process can't be held to a part of a core on this machine, or by this user; the message says why."""


@contextlib.contextmanager
def held_to(cores: float, pids: Sequence[int]) -> Iterator[None]:
    """Each of the processes may use so many cores at most (0.5: half of one), all its threads together.

    CannotHold where this user may make no control group: only root may, on most machines.
    """
    quota, first = round(cores * QUOTA_PERIOD), CONTROL_GROUPS / "cpu"  # of version 1; version 2 has no such directory
    top, limits = CONTROL_GROUPS, {"cpu.max": f"{quota} {QUOTA_PERIOD}"}
    if first.is_dir():
        top, limits = first, {"cpu.cfs_period_us": str(QUOTA_PERIOD), "cpu.cfs_quota_us": str(quota)}

    def back(pid: int, home: Path) -> None:
        with contextlib.suppress(ProcessLookupError):
            (home / MEMBERS).write_text(str(pid))

    with contextlib.ExitStack() as stack:
        try:
            for pid in pids:
                told = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
                at = {name: path for _, names, path in told for name in names.split(",")}
                home = top / at["" if top is CONTROL_GROUPS else "cpu"].lstrip("/")
                if not (home / MEMBERS).exists():  # in a container that sees its own group as the top
                    home = top
                group = top / f"benchmark-{pid}"
                group.mkdir()
                stack.callback(group.rmdir)
                for name, value in limits.items():
                    (group / name).write_text(value)
                (group / MEMBERS).write_text(str(pid))
                stack.callback(back, pid, home)
        except (OSError, KeyError) as error:
            raise CannotHold(f"no control group to hold a process to a part of a core: {error!r}") from error
        yield


class Process:
    """A program with everything that it starts: `with Process(command, log=path) as process: process.pid`.

    It dies with this one. At the end of the block it is asked to stop (SIGTERM), and what still lives after
    `patience` seconds is killed, its children too.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        patience: float = 5.0,
    ) -> None:
        self.command = [str(word) for word in command]
        self.log = log
        self.env = {**os.environ, **(env or {})}
        self.cwd = cwd
        self.patience = patience
        self._popen: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log.open("ab") as output:
            self._popen = subprocess.Popen(
                tethered(self.command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.env,
                cwd=self.cwd,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """LookupError when it was not started."""
        if self._popen is None:
            raise LookupError("this process was not started: use it in a with block")
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def wait(self, timeout: float) -> int | None:
        """Its exit code; None when it still runs after `timeout` seconds."""
        if self._popen is None:
            return None
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """SIGTERM, patience, SIGKILL for the whole tree."""
        if self._popen is None:
            return
        everyone = tree(self._popen.pid)
        if self._popen.poll() is None:
            self._popen.terminate()
            if self.wait(self.patience) is None:
                everyone = [*everyone, *tree(self._popen.pid)]
        self._end(everyone)

    def kill(self) -> None:
        """SIGKILL for the whole tree, as when the machine goes."""
        if self._popen is not None:
            self._end(tree(self._popen.pid))

    def _end(self, everyone: Sequence[int]) -> None:
        assert self._popen is not None
        for pid in dict.fromkeys(everyone):
            if pid == self._popen.pid and self._popen.poll() is not None:
                continue  # waited for: its number may be somebody else's by now
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._popen.wait()

    def printed(self, characters: int = 2000) -> str:
        """The last lines of its log."""
        try:
            return self.log.read_text(errors="replace").strip()[-characters:]
        except OSError:
            return ""


# The server


@dataclass(frozen=True, slots=True)
class Use:
    """What a server did: requests read from sockets (round trips; a big request takes several reads), replies written
    (likewise), commands (those inside scripts and MULTI too), processor seconds; `now - before` is the difference."""

    reads: int
    writes: int
    commands: Mapping[str, int]
    cpu: float

    @property
    def command_count(self) -> int:
        return sum(self.commands.values())

    def __sub__(self, before: Use) -> Use:
        commands = {name: calls - before.commands.get(name, 0) for name, calls in self.commands.items()}
        return Use(
            self.reads - before.reads,
            self.writes - before.writes,
            {name: calls for name, calls in sorted(commands.items()) if calls},
            self.cpu - before.cpu,
        )


#: What asking for a server's use adds to it.
ASKING = frozenset({"info", "config|set", "config|resetstat", "client|setinfo", "hello", "ping", "dbsize", "select"})


@dataclass
class Server:
    """A new, empty Valkey: `with Server(persistence="everysec") as server: server.url`.

    Args:
        persistence: one of PERSISTENCE.
        directory: where its files go; default is one that goes with it.
    """

    persistence: str = "off"
    directory: Path | None = None
    _valkey: Valkey = field(init=False, repr=False)
    _temporary: tempfile.TemporaryDirectory[str] | None = field(default=None, init=False, repr=False)
    _client: redis.Redis = field(init=False, repr=False)

    def __enter__(self) -> Self:
        if self.persistence not in PERSISTENCE:
            raise ValueError(f"persistence is one of {', '.join(PERSISTENCE)}, not {self.persistence!r}")
        if self.directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="bench-valkey-")
        directory = Path(self._temporary.name) if self._temporary else self.directory
        assert directory is not None
        self._valkey = Valkey(directory, appendonly=self.persistence != "off")
        self._valkey.start()
        # A server that frees three million jobs answers late.
        self._client = redis.Redis.from_url(self._valkey.url, socket_timeout=60)
        if self.persistence == "always":
            self._client.config_set("appendfsync", "always")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        self._valkey.stop()
        if self._temporary is not None:
            self._temporary.cleanup()

    @property
    def url(self) -> str:
        return self._valkey.url

    @property
    def pid(self) -> int:
        return self._valkey.pid

    @property
    def client(self) -> redis.Redis:
        """For questions; what it asks counts as use."""
        return self._client

    @property
    def version(self) -> str:
        facts = self._info("server")
        return f"Valkey {facts['valkey_version']}" if "valkey_version" in facts else f"Redis {facts['redis_version']}"

    def use(self) -> Use:
        """What it did so far, less most of what this question costs: the difference of two has one read too many."""
        facts = self._info("stats")
        calls: dict[str, int] = {
            name.removeprefix("cmdstat_"): entry["calls"] for name, entry in self._info("commandstats").items()
        }
        commands = {name: count for name, count in calls.items() if name not in ASKING}
        asked = calls.get("info", 0)
        reads, writes = (facts[f"total_{name}_processed"] - asked for name in ("reads", "writes"))
        return Use(reads, writes, commands, cpu_seconds(self.pid))

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """It has a core for itself, as far as this process and what it starts meanwhile go: what it takes for
        something is then no wait for them. As it is where there is one core only."""
        ours, its = os.sched_getaffinity(0), os.sched_getaffinity(self.pid)
        if len(ours) < 2:
            yield
            return
        core = min(ours)
        os.sched_setaffinity(self.pid, {core})
        os.sched_setaffinity(0, ours - {core})
        try:
            yield
        finally:
            os.sched_setaffinity(0, ours)
            os.sched_setaffinity(self.pid, its)

    @contextlib.contextmanager
    def first(self) -> Iterator[None]:
        """Nothing else of the machine takes its core from it: what a command took, by its slow log, is its own then.
        Where this process may not ask for that (it takes root), it is said, and the times are with what else ran."""
        try:
            os.sched_setscheduler(self.pid, os.SCHED_FIFO, os.sched_param(1))
        except PermissionError as error:
            print(f"the server's times include those of others on its core: {error}", file=sys.stderr)
            yield
            return
        try:
            yield
        finally:
            os.sched_setscheduler(self.pid, os.SCHED_OTHER, os.sched_param(0))

    def memory(self) -> int:
        """Bytes that the server uses, buffers and tables included."""
        return int(self._info("memory")["used_memory"])

    def _info(self, section: str) -> dict[str, Any]:
        facts: dict[str, Any] = self._client.info(section)
        return facts


def wait_until(true: Callable[[], Any], timeout: float, *, every: float = 0.002) -> bool:
    """Whether `true()` became true within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
