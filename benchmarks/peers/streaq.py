"""streaQ, on coredis."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["streaq==7.2.0", "coredis==6.9.0", "uvloop==0.23.0"]
#
# [tool.benchmark]
# packages = ["streaq", "coredis"]
# bulk = "Worker.enqueue_many"
# after_kill = "all back after 60 s"
# survives = true
# gather = true
#
# [tool.benchmark.variants.default]
# settings = "20 tasks at once (100 for the sleeps), results not kept"
# concurrency = 20
# jobs = 5000
# rounds = 2
# sleep_concurrency = 100
# uvloop = true
# ///

import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from streaq import Worker

from benchmarks import effects
from benchmarks.roles import Sender, redis_url

logging.basicConfig(level=logging.ERROR)
worker = Worker(
    redis_url=redis_url(),
    concurrency=int(os.environ.get("BENCH_CONCURRENCY", "20")),
    anyio_kwargs={"use_uvloop": True},
)
TASKS = {kind: worker.task(name=kind, ttl=0)(function) for kind, function in effects.ASYNC.items()}


@asynccontextmanager
async def producer() -> AsyncIterator[Sender]:
    async def one(kind: str, n: int) -> None:
        await TASKS[kind].enqueue(n)

    async def many(kind: str, numbers: Sequence[int]) -> None:
        task = TASKS[kind]
        await worker.enqueue_many([task.enqueue(n) for n in numbers])

    async with worker:
        yield Sender(one, many)


def work(variant: str) -> None:
    worker.run_sync()
