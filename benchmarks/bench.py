"""One variant of one queue beside a new server: its two processes, and the file in which its jobs leave their lines.

Nothing here knows which queue it is: a peer is two processes of its own environment (roles.py) and that file
(effects.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from project.development.tether import tethered

from .catalogue import Peer, Variant
from .effects import Effects
from .measure import Process, Server, wait_until
from .roles import TURN, Plan

#: Sends of one measurement of the rate end after so many seconds, all sends of a queue that is only filled after these.
SEND_SECONDS, FILL_SECONDS = 1.2, 20.0
#: Sends that overlap, as many as jobs in most drains.
TOGETHER = 100
#: Longest wait for a worker's first job, and for a sender.
START_SECONDS, PATIENCE = 30.0, 80.0

Values = dict[str, float]


class Failed(Exception):
    """The measurement gave no figure; the message says why."""


class Sending:
    """A process that sends."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log
        self._last = ""

    def waits(self) -> bool:
        """True once it waits for its next turn; False when it has ended, or was killed because it did neither."""
        assert self._process.stdout is not None
        watch = threading.Timer(PATIENCE, self._process.kill)
        watch.start()
        try:
            for line in self._process.stdout:
                if line.strip() == TURN:
                    return True
                self._last = line
        finally:
            watch.cancel()
        return False

    def go(self) -> None:
        """Its turn begins."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it ended: what it printed tells why
            self._process.stdin.write("\n")
            self._process.stdin.flush()

    def told(self) -> Values:
        """What it says of all that it sent. Raises Failed with what it printed."""
        if self.waits():
            raise Failed("the sender waits for a turn that nobody gives it")
        code = self._process.wait(PATIENCE)
        try:
            told: Values = json.loads(self._last)
        except ValueError as error:
            raise Failed(f"the sender ended with {code}: {self._log.read_text().strip()[-600:]}") from error
        return told


@dataclass
class Bench:
    """One variant of one queue beside one server, in a directory of its own."""

    peer: Peer
    variant: Variant
    interpreter: Path
    server: Server
    directory: Path
    #: Where the code is that its processes import.
    code: Path
    #: A tenth of everything: whether it works at all.
    quick: bool = False
    effects: Effects = field(init=False)

    def __post_init__(self) -> None:
        self.effects = Effects(self.directory / "effects")

    def scaled(self, count: int) -> int:
        return max(50, count // 10) if self.quick else count

    def _environment(self, measure: str) -> dict[str, str]:
        return {
            **self.variant.env,
            "REDIS_URL": self.server.url,
            "EFFECTS": str(self.effects.path),
            "BENCH_DIRECTORY": str(self.directory),
            "BENCH_VARIANT": self.variant.name,
            "BENCH_SENDER": self.variant.sender,
            "BENCH_CONCURRENCY": str(self.variant.at_once(measure)),
            "BENCH_UVLOOP": "1" if self.variant.uvloop else "0",
            "PYTHONPATH": str(self.code),
            "PYTHONWARNINGS": "ignore",
        }

    def send(self, how: str, kind: str, count: int, *, limit: float = SEND_SECONDS) -> Values:
        """Send from a process of its own; see roles.Plan. Raises Failed with what it printed."""
        with self.sending(how, kind, count, limit=limit) as sending:
            return sending.told()

    @contextmanager
    def sending(
        self, how: str, kind: str, count: int, *, limit: float = SEND_SECONDS, turn: float = 0.0
    ) -> Iterator[Sending]:
        """`send` while others do, each `turn` seconds at a time, `limit` of them together."""
        pace = self.variant.pace / 1000 if how == "paced" else 0.0
        plan = Plan(how, kind, count, limit, TOGETHER, pace, str(self.times), turn)
        command = [str(self.interpreter), "-m", "benchmarks.roles", "send", self.peer.module, json.dumps(asdict(plan))]
        log = self.directory / "sender.log"
        with (
            log.open("wb") as errors,
            subprocess.Popen(
                tethered(command), cwd=self.code, env={**os.environ, **self._environment("enqueue")},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, bufsize=1,
            ) as process,
        ):  # fmt: skip
            try:
                yield Sending(process, log)
            finally:
                process.kill()

    def reset(self) -> None:
        """An empty server and no lines, for what is measured next."""
        self.server.client.flushall()
        self.effects.clear()

    @property
    def times(self) -> Path:
        """Where the paced sends leave when they were."""
        return self.directory / "times"

    def fill(self, kind: str, count: int) -> int:
        """Put jobs into the queue the quickest way that it has; how many it became."""
        return int(self.send(self.ways[-1], kind, count, limit=FILL_SECONDS)["all"])

    @property
    def ways(self) -> list[str]:
        """The ways to send that this variant has, the quickest last."""
        synchronous = self.variant.sender in {"enqueue", "task", "task-sync", "view"}
        ways = ["one"]
        if self.peer.gather and not synchronous:
            ways.append("gather")
        if self.peer.bulk and self.variant.sender not in {"send", "view"}:
            ways.append("many")
        return ways

    @contextmanager
    def working(self, measure: str, *, processes: int = 1) -> Iterator[list[Process]]:
        """That many worker processes, killed afterwards: how they would stop is not what is measured."""
        command = [str(self.interpreter), "-m", "benchmarks.roles", "work", self.peer.module, self.variant.name]
        starts = max(1, processes // self.variant.processes)
        with ExitStack() as stack:
            workers = [
                Process(
                    command, log=self.directory / "worker.log", cwd=self.code,
                    env={**self._environment(measure), "BENCH_WORKER": str(number)},
                )
                for number in range(starts)
            ]  # fmt: skip
            for worker in workers:
                stack.enter_context(worker)
                stack.callback(worker.kill)
            yield workers

    def await_effects(self, count: int, seconds: float, workers: list[Process], *, every: float = 0.005) -> bool:
        """Whether that many lines came in time. Raises Failed when a worker ended meanwhile."""

        def come() -> bool:
            if any(not worker.alive for worker in workers):
                raise Failed(f"the worker ended: {workers[0].printed(600)}")
            return self.effects.count() >= count

        return wait_until(come, seconds, every=every)

    def await_first(self, workers: list[Process]) -> None:
        if not self.await_effects(1, START_SECONDS, workers, every=0.002):
            raise Failed(f"no job began within {START_SECONDS:.0f} s: {workers[0].printed(600)}")

    def await_all(self, count: int, workers: list[Process]) -> None:
        """Until each of the workers has begun a job, or all `count` jobs have."""
        self.await_first(workers)
        wait_until(lambda: len(self.effects.workers()) == len(workers) or self.effects.count() >= count, START_SECONDS)


@contextmanager
def bench(
    peer: Peer, variant: Variant, interpreter: Path, code: Path, persistence: str, *, quick: bool
) -> Iterator[Bench]:
    """Everything that one measurement needs, gone afterwards. Files of effects are in memory where the machine has a
    place for that."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a directory with a random name in it
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=memory) as directory,
        Server(persistence=persistence) as server,
    ):
        yield Bench(peer, variant, interpreter, server, Path(directory), code, quick=quick)
