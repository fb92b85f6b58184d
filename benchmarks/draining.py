"""What a job costs in a drain that is under way: worker processes of the project in `noop`, seen from outside."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .environments import ROOT
from .measure import Process, Server, Use, cpu_seconds, wait_until

#: Seconds for which a drain is watched once it runs, and for which at most it may take to get there.
WINDOW, PATIENCE = 2.0, 120.0
#: Share of the stock that is run before the watch begins, at most.
WARM = 0.2


@dataclass(frozen=True, slots=True)
class Moment:
    at: float
    left: int
    workers: float
    server: Use


def empty(server: Server) -> None:
    """Without the thread that would free memory during what is measured next."""
    server.client.execute_command("FLUSHALL", "SYNC")


def channels_of(number: int) -> list[str]:
    """So many channels of the project."""
    return ["noop"] if number == 1 else [f"noop-{each}" for each in range(number)]


@contextmanager
def workers(server: Server, channels: Sequence[str], concurrency: int, processes: int = 1) -> Iterator[list[Process]]:
    """`runworker` as a person would start it, so many times."""
    env = {
        "DJANGO_SETTINGS_MODULE": "benchmarks.noop.settings", "REDIS_URL": server.url, "PYTHONPATH": str(ROOT),
        "CHANNELS": str(len(channels)),
    }  # fmt: skip
    command = [sys.executable, "-W", "ignore", "-m", "django", "runworker", *channels]
    with tempfile.TemporaryDirectory(prefix="scale-") as directory, ExitStack() as stack:
        yield [
            stack.enter_context(
                Process(
                    [*command, "--concurrency", str(concurrency), "--shutdown-timeout", "1"],
                    log=Path(directory, f"worker-{number}.log"), env=env, cwd=ROOT,
                )
            )
            for number in range(processes)
        ]  # fmt: skip


@contextmanager
def ready(server: Server, channels: Sequence[str], concurrency: int) -> Iterator[Process]:
    """One worker that has started. RuntimeError when it does not."""
    with workers(server, channels, concurrency) as (worker,):
        if not wait_until(lambda: "is ready" in worker.printed(4000), PATIENCE, every=0.1):
            raise RuntimeError(f"the worker is not ready: {worker.printed()}")
        yield worker


class Drain:
    """`cost` of jobs that wait in `channels` while workers run them down to `rest` waiting ones."""

    def __init__(self, server: Server, channels: Sequence[str], rest: int = 0) -> None:
        from retrying.layers import get_layer

        self._server = server
        self._ready = [get_layer().store.keys(channel).all[1] for channel in channels]
        self._rest = rest
        self._channels = channels

    def waiting(self) -> int:
        pipeline = self._server.client.pipeline(transaction=False)
        for key in self._ready:
            pipeline.zcard(key)
        return sum(pipeline.execute())

    def cost(self, concurrency: int, processes: int = 1) -> Mapping[str, float]:
        """Of one job: microseconds of the workers' and the server's processor and of time, requests, commands."""
        stock = self.waiting() - self._rest
        with workers(self._server, self._channels, concurrency, processes) as running:
            # Every channel has things to do at the start, and asking for all of them takes the server time.
            every, start, window = (0.01, 0.5, WINDOW) if len(self._channels) < 50 else (0.1, 5.0, 2 * WINDOW)
            begun = wait_until(lambda: self.waiting() < stock + self._rest - 100, PATIENCE, every=every)
            if not begun:
                raise RuntimeError(f"no job ran in {PATIENCE} s; the worker said: {running[0].printed()}")
            warm = stock + self._rest - stock * WARM
            wait_until(lambda: self.waiting() < warm, start, every=every)  # by then it runs evenly
            first = self._moment(running)
            wait_until(lambda: self.waiting() <= self._rest + stock * 0.05, window, every=every)
            last = self._moment(running)
        jobs = first.left - last.left
        if jobs <= 0:
            raise RuntimeError(f"no job ran in {window} s of a drain that was under way")
        used = last.server - first.server
        return {
            "worker": (last.workers - first.workers) / jobs * 1e6,
            "server": used.cpu / jobs * 1e6,
            "wall": (last.at - first.at) / jobs * 1e6,
            "trips": used.commands.get("evalsha", 0) / jobs,
            "commands": (used.command_count - used.commands.get("zcard", 0)) / jobs,
        }

    def _moment(self, running: Sequence[Process]) -> Moment:
        return Moment(
            time.monotonic(), self.waiting(), sum(cpu_seconds(worker.pid) for worker in running), self._server.use()
        )


def stock(channels: Sequence[str], jobs: int, *, size: int = 0, delay: float | None = None) -> None:
    """Let so many jobs wait, as many in each channel, with `size` bytes of data."""
    from retrying import enqueue_many

    message = {"type": "no.op", **({"data": os.urandom(size // 2).hex()} if size else {})}
    for channel in channels:
        enqueue_many(channel, (message for _ in range(jobs // len(channels))), delay=delay)


def sending(server: Server, jobs: int, *, size: int = 0) -> Mapping[str, float]:
    """Microseconds of processor time for one job that is enqueued one after another, of this process and the server."""
    from retrying import enqueue

    message = {"type": "no.op", **({"data": os.urandom(size // 2).hex()} if size else {})}
    before, began = server.use(), time.process_time()
    for _ in range(jobs):
        enqueue("noop", message)
    own = time.process_time() - began
    return {"sender": own / jobs * 1e6, "sending": (server.use() - before).cpu / jobs * 1e6}


def idle(server: Server, channels: Sequence[str], seconds: float = 5.0) -> Mapping[str, float]:
    """Of one worker with nothing to do: percent of a processor, commands and requests a second, MiB."""
    from .measure import resident

    with ready(server, channels, 1) as worker:
        time.sleep(3)  # what it does once is over
        first = Moment(time.monotonic(), 0, cpu_seconds(worker.pid), server.use())
        time.sleep(seconds)
        last = Moment(time.monotonic(), 0, cpu_seconds(worker.pid), server.use())
        used, took = last.server - first.server, last.at - first.at
        return {
            "idle_cpu": (last.workers - first.workers) / took * 100,
            "idle_server": used.cpu / took * 100,
            "idle_commands": used.command_count / took,
            "memory": resident(worker.pid) / 2**20,
        }
