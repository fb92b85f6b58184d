"""What `quick` measures: sending jobs and running them, in this process, with the project of `noop`."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

#: Prepares so many jobs; what it returns does with them what is measured.
Prepare = Callable[[int], Callable[[], object]]

MESSAGE = {"type": "no.op", "number": 12345}


@dataclass(frozen=True, slots=True)
class Workload:
    """``trips_vary``: the share by which the least round trips of some runs differ, where it is chance how many jobs
    share one."""

    name: str
    jobs: int
    prepare: Prepare
    trips_vary: float = 0.0


# The reference

#: Turns of the reference work; the unit of processor time is one of them.
TURNS = 2000


def reference() -> float:
    """Processor seconds of one turn of a work that never changes: what a worker does for a job, without a worker."""

    async def turn(number: int) -> None:
        message = {"type": "no.op", "number": number, "words": ["a", "b", "c"]}
        for _ in range(2):
            message = json.loads(json.dumps(message))
        heard: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(heard.set_result, message)
        sum(len(str(word)) for word in (await heard)["words"])

    async def work() -> None:
        for _ in range(TURNS // 100):
            await asyncio.gather(*(turn(number) for number in range(100)))

    began = time.process_time()
    asyncio.run(work())
    return (time.process_time() - began) / TURNS


# Sending


def _awaited(jobs: int, each: Callable[[], Awaitable[object]], at_once: int = 1) -> Callable[[], object]:
    async def send() -> None:
        for _ in range(jobs // at_once):
            if at_once == 1:
                await each()
            else:
                await asyncio.gather(*(each() for _ in range(at_once)))

    return lambda: asyncio.run(send())


def _called(jobs: int, each: Callable[[], object]) -> Callable[[], object]:
    def send() -> None:
        for _ in range(jobs):
            each()

    return send


def _aenqueue(jobs: int, at_once: int = 1) -> Callable[[], object]:
    from retrying import aenqueue

    return _awaited(jobs, lambda: aenqueue("noop", MESSAGE), at_once)


def _enqueue(jobs: int) -> Callable[[], object]:
    from retrying import enqueue

    return _called(jobs, lambda: enqueue("noop", MESSAGE))


def _send_in_a_view(jobs: int) -> Callable[[], object]:
    from asgiref.sync import async_to_sync
    from channels.layers import get_channel_layer

    return _called(jobs, lambda: async_to_sync(get_channel_layer().send)("noop", MESSAGE))


def _enqueue_task(jobs: int) -> Callable[[], object]:
    from benchmarks.noop import tasks

    return _called(jobs, tasks.no_op.enqueue)


def _enqueue_many(jobs: int, channel: str = "noop") -> Callable[[], object]:
    from retrying import enqueue_many

    return lambda: enqueue_many(channel, itertools.repeat(MESSAGE, jobs))


# Running


def _messages(channel: str, concurrency: int) -> Prepare:
    def prepare(jobs: int) -> Callable[[], object]:
        _enqueue_many(jobs, channel)()
        return lambda: work(channel, concurrency, jobs)

    return prepare


def _tasks(name: str, concurrency: int) -> Prepare:
    def prepare(jobs: int) -> Callable[[], object]:
        from benchmarks.noop import tasks

        getattr(tasks, name).enqueue_many(itertools.repeat((), jobs))
        return lambda: work("tasks.default", concurrency, jobs)

    return prepare


def _retries(jobs: int) -> Callable[[], object]:
    """Both attempts of jobs that fail once."""
    _enqueue_many(jobs, "noop-retry")()

    def run() -> None:
        work("noop-retry", 100, jobs)
        _make_due("noop-retry")
        work("noop-retry", 100, jobs)

    return run


def _make_due(channel: str) -> None:
    """Let what is scheduled be due, by one command."""
    from retrying.layers import get_layer

    store = get_layer().store
    scheduled = store.keys(channel).all[2]
    store.connections.sync().zunionstore(scheduled, {scheduled: 0})


def work(channel: str, concurrency: int, ends: int) -> None:
    """A worker in this process, until so many attempts have ended."""
    from retrying.layers import get_layer
    from retrying.management.routes import routes_for
    from retrying.routes import project_application
    from retrying.worker import Worker

    left = iter(range(ends - 1, -1, -1))

    async def until_done() -> None:
        worker = Worker(
            project_application(), {channel: concurrency}, get_layer(), routes=routes_for([channel], "default"),
            on_end=lambda *_: worker.stop() if next(left) == 0 else None,
        )  # fmt: skip
        await worker.run()

    asyncio.run(until_done())


WORKLOADS = (
    Workload("enqueue, one at a time, async", 300, _aenqueue),
    Workload("enqueue, one at a time, sync", 300, _enqueue),
    Workload("async_to_sync(layer.send)", 200, _send_in_a_view),
    Workload("task.enqueue, sync", 300, _enqueue_task),
    Workload("enqueue, 100 at a time", 1000, lambda jobs: _aenqueue(jobs, at_once=100), trips_vary=0.5),
    Workload("enqueue_many", 5000, _enqueue_many),
    Workload("AsyncConsumer", 2000, _messages("noop", 100), trips_vary=0.5),
    Workload("AsyncConsumer, one at a time", 200, _messages("noop", 1)),
    Workload("BackgroundConsumer", 3000, _messages("noop-direct", 100), trips_vary=0.5),
    Workload("async task", 3000, _tasks("no_op", 100), trips_vary=0.5),
    Workload("async task, one at a time", 200, _tasks("no_op", 1)),
    Workload("SyncConsumer", 1000, _messages("noop-sync", 100), trips_vary=0.5),
    Workload("SyncConsumer, one at a time", 200, _messages("noop-sync", 1)),
    Workload("sync task", 1000, _tasks("no_op_sync", 100), trips_vary=0.5),
    Workload("sync task, one at a time", 200, _tasks("no_op_sync", 1)),
    Workload("fail once, then succeed", 300, _retries, trips_vary=0.3),
)
