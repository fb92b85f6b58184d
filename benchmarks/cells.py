"""The measurements: each takes one variant of one queue and a new server, and gives figures by name.

Nothing here knows which queue it measures: a peer is two processes of its own environment (roles.py) and a file in
which its jobs leave a line each (effects.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from project.development.tether import tethered

from .catalogue import Peer, Variant
from .effects import SLEEP_SECONDS, Effects
from .environments import ROOT
from .measure import Process, Server, Use, cpu_seconds, percentile, resident, wait_until
from .roles import Plan

#: Sends of one measurement of the rate, and the seconds after which it stops with fewer.
SENDS, SEND_SECONDS = 20_000, 2.0
#: Sends that overlap, where a peer has no call for many.
TOGETHER = 50
#: A drain stops after so many seconds with work left; the rate is that of what ran.
DRAIN_SECONDS = 8.0
SLEEPS, SLEEPS_ONE_BY_ONE = 2_000, 100
SLEEP_LIMIT = 20.0
PACED, PACE_SECONDS = 300, 0.01
IDLE_SECONDS = 2.0
CRASHES, CRASH_AFTER = 600, 300
#: Longest wait for what was running when the worker was killed.
RESCUE_SECONDS = 150.0
#: Longest wait for a worker's first job.
START_SECONDS = 30.0
#: What a worker has left to acknowledge when its last job began.
SETTLE_SECONDS = 0.25

Values = dict[str, float]


class Failed(Exception):
    """The measurement gave no figure; the message says why."""


@dataclass
class Bench:
    """One variant of one queue beside one server, in a directory of its own."""

    peer: Peer
    variant: Variant
    interpreter: Path
    server: Server
    directory: Path
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
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
        }

    def send(self, how: str, kind: str, count: int, *, limit: float = SEND_SECONDS) -> Values:
        """Send from a process of its own; see roles.Plan. Raises Failed with what it printed."""
        plan = Plan(how, kind, count, limit, TOGETHER, PACE_SECONDS if how == "paced" else 0.0, str(self._times))
        command = [str(self.interpreter), "-m", "benchmarks.roles", "send", self.peer.module, json.dumps(asdict(plan))]
        environment = {**os.environ, **self._environment("enqueue")}
        try:
            done = subprocess.run(
                tethered(command),
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=limit + 60,
                check=False,
            )
            told: Values = json.loads(done.stdout.strip().rpartition("\n")[2])
        except subprocess.TimeoutExpired as error:
            raise Failed(f"sending {count} jobs took more than {limit + 60:.0f} s") from error
        except ValueError as error:
            raise Failed(f"the sender ended with {done.returncode}: {done.stderr.strip()[-600:]}") from error
        return told

    @property
    def _times(self) -> Path:
        return self.directory / "times"

    def fill(self, kind: str, count: int) -> int:
        """Put jobs into the queue the quickest way that it has; how many it became."""
        return int(self.send(self.ways[-1], kind, count, limit=20.0)["all"])

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
                Process(command, log=self.directory / "worker.log", env=self._environment(measure), cwd=ROOT)
                for _ in range(starts)
            ]
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


@contextmanager
def bench(peer: Peer, variant: Variant, interpreter: Path, persistence: str, *, quick: bool) -> Iterator[Bench]:
    """Everything that one measurement needs, gone afterwards. Files of effects are in memory where the machine has a
    place for that."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a directory with a random name in it
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=memory) as directory,
        Server(persistence=persistence) as server,
    ):
        yield Bench(peer, variant, interpreter, server, Path(directory), quick=quick)


# What is measured


def enqueue(bench: Bench) -> Values:
    """How fast one process sends: one after another, many at once, many by the queue's own call. Round trips, commands
    and processor seconds are those of sending one after another; `bytes` stay in the server for each job."""
    empty, before = bench.server.memory(), bench.server.use()
    sent = bench.send("one", "noop", bench.scaled(SENDS))
    used, count = bench.server.use() - before, sent["all"]
    values = {"one": _rate(sent), "producer_cpu": sent["cpu"] / sent["timed"] * 1000}
    if bench.peer.on_redis:
        values.update(_per_job(used, count))
    for how in bench.ways[1:]:
        sent = bench.send(how, "noop", bench.scaled(SENDS * 3 if how == "many" else SENDS))
        values[how] = _rate(sent)
        count += sent["all"]
    if bench.peer.on_redis:
        values["bytes"] = (bench.server.memory() - empty) / count
    return values


def _rate(sent: Values) -> float:
    return sent["timed"] / sent["seconds"]


def _per_job(used: Use, count: float) -> Values:
    return {
        "trips": used.reads / count,
        "commands": used.command_count / count,
        "server_cpu": used.cpu / count * 1000,
    }


def drain(bench: Bench, *, processes: int = 1) -> Values:
    """How fast no-op jobs run that wait: from the first one's beginning to the last one's. The processor seconds per
    1,000 jobs, trips and commands leave out the worker's start."""
    count = bench.fill("noop", bench.scaled(bench.variant.jobs * processes))
    with bench.working("drain", processes=processes) as workers:
        bench.await_first(workers)
        began, cpu, use = bench.effects.count(), _cpu(workers), bench.server.use()
        bench.await_effects(count, DRAIN_SECONDS, workers)
        time.sleep(SETTLE_SECONDS)
        ended, used = bench.effects.count(), bench.server.use() - use
        cpu, memory = _cpu(workers) - cpu, sum(resident(worker.pid) for worker in workers)
    seen = list(bench.effects)
    times = sorted(effect.at for effect in seen)
    if len(times) < 2 or times[-1] <= times[0]:
        raise Failed(f"only {len(times)} of {count} jobs ran")
    values = {
        "rate": (len(times) - 1) / (times[-1] - times[0]),
        "repeats": len(times) - len({effect.n for effect in seen}),
        "left": max(0, count - len(times)),
        "memory": memory / 2**20,
    }
    if processes == 1 and ended > began:
        values["worker_cpu"] = cpu / (ended - began) * 1000
        if bench.peer.on_redis:
            values.update(_per_job(used, ended - began))
    return values


def _cpu(workers: list[Process]) -> float:
    return sum(cpu_seconds(worker.pid) for worker in workers)


def two(bench: Bench) -> Values:
    """The same with two worker processes."""
    return drain(bench, processes=2)


def latency(bench: Bench) -> Values:
    """What an idle worker costs, and then the milliseconds from just before a send to its job's beginning, 10 ms
    apart."""
    bench.send("one", "noop", 1)
    with bench.working("latency") as workers:
        bench.await_first(workers)
        time.sleep(1.0)
        cpu, use, began = _cpu(workers), bench.server.use(), time.monotonic()
        time.sleep(bench.scaled(int(IDLE_SECONDS * 1000)) / 1000)
        took, used = time.monotonic() - began, bench.server.use() - use
        values = {
            "idle_cpu": (_cpu(workers) - cpu) / took * 100,
            "idle_commands": used.command_count / took,
            "idle_memory": sum(resident(worker.pid) for worker in workers) / 2**20,
        }
        count = bench.scaled(PACED)
        bench.send("paced", "noop", count, limit=30.0)
        if not bench.await_effects(1 + count, 10.0, workers):
            raise Failed(f"{bench.effects.count() - 1} of {count} jobs sent to an idle worker ran")
    sent = array("q")
    sent.frombytes(bench._times.read_bytes())
    started: dict[int, float] = {}
    for effect in list(bench.effects)[1:]:
        started.setdefault(effect.n, effect.at)
    waits = [(started[n] - at / 1e9) * 1000 for n, at in enumerate(sent)]
    return {**values, "p50": percentile(waits, 0.5), "p99": percentile(waits, 0.99)}


def sleep(bench: Bench) -> Values:
    """2,000 jobs of 50 ms at 100 at once: seconds from the first one's beginning to the last one's end; a second is
    ideal. Who takes one at a time gets 100, scaled."""
    at_once = bench.variant.at_once("sleep")
    count = bench.fill("sleep", bench.scaled(SLEEPS if at_once > 1 else SLEEPS_ONE_BY_ONE))
    with bench.working("sleep") as workers:
        bench.await_first(workers)
        bench.await_effects(count, SLEEP_LIMIT, workers)
    times = sorted(effect.at for effect in bench.effects)
    if len(times) < count:
        raise Failed(f"{len(times)} of {count} sleeping jobs began within {SLEEP_LIMIT:.0f} s")
    return {"wall": (times[-1] - times[0] + SLEEP_SECONDS) * SLEEPS / count}


def crash(bench: Bench) -> Values:
    """Jobs of 20 ms; kill -9 for the whole worker after 300 with some under way, a new worker at once."""
    count = bench.fill("crash", bench.scaled(CRASHES))
    enough = bench.scaled(CRASH_AFTER)
    with bench.working("crash") as workers:
        bench.await_first(workers)
        # Two lines a job that is done. Some are between their two lines whenever it is.
        wait_until(lambda: bench.effects.count() >= 2 * enough, RESCUE_SECONDS, every=0.001)
        workers[0].kill()
        killed = time.monotonic()
    before = list(bench.effects)
    begun, done = Counter(e.n for e in before if e.kind == "s"), {e.n for e in before if e.kind == "d"}
    orphans = set(begun) - done
    with bench.working("crash") as workers:
        complete = wait_until(
            lambda: (
                bench.effects.count() >= 2 * count + len(orphans)
                and {effect.n for effect in bench.effects if effect.kind == "d"} >= set(range(count))
            ),
            RESCUE_SECONDS,
            every=0.05,
        )
        if complete:
            time.sleep(1.0)  # whatever still runs twice
    after = list(bench.effects)[len(before) :]
    again = [e for e in after if e.kind == "s"]
    values: Values = {
        "orphans": len(orphans),
        "lost": count - len(done | {e.n for e in after if e.kind == "d"}),
        # Jobs that had ended and ran again; the orphans' second run is what was asked for.
        "doubled": len({e.n for e in again} & done),
    }
    if complete and again:
        # What the dead worker had taken without beginning it comes back, too, and last.
        values["rescue"] = max(e.at for e in again) - killed
    return values


def persistence(bench: Bench) -> Values:
    """Sending one after another and in the quickest way, and a drain, on a server that persists."""
    values = {how: _rate(bench.send(how, "noop", bench.scaled(SENDS))) for how in {"one", bench.ways[-1]}}
    bench.server.client.flushall()
    return {**values, "rate": drain(bench)["rate"]}


MEASUREMENTS: dict[str, Callable[[Bench], Values]] = {
    "enqueue": enqueue,
    "drain": drain,
    "two": two,
    "latency": latency,
    "sleep": sleep,
    "crash": crash,
    "persistence": persistence,
}
