"""SAQ."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["saq[redis]==0.26.4", "hiredis==3.5.0", "uvloop==0.23.0", "typing-extensions"]
#
# [tool.benchmark]
# packages = ["saq", "redis"]
# after_kill = "gives up (retries=1); with retries back after a sweep (60 s)"
# survives = true
# gather = true
#
# [tool.benchmark.variants.default]
# settings = "20 jobs at once (100 for the sleeps), results not kept"
# concurrency = 20
# jobs = 6000
# rounds = 2
# sleep_concurrency = 100
# uvloop = true
#
# [tool.benchmark.variants.sweeping]
# settings = "retries=3, sweep each 5 s, heartbeat and timeout 10 s"
# concurrency = 20
# jobs = 8000
# uvloop = true
# measures = ["crash"]
# default = false
# ///

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from saq import Queue, Worker

from benchmarks import effects
from benchmarks.roles import Sender, concurrency, redis_url, run

logging.basicConfig(level=logging.ERROR)
SWEEPING = os.environ["BENCH_VARIANT"] == "sweeping"
OPTIONS = {"ttl": -1, **({"retries": 3, "heartbeat": 10, "timeout": 10} if SWEEPING else {})}


@asynccontextmanager
async def producer() -> AsyncIterator[Sender]:
    queue = Queue.from_url(redis_url())
    await queue.connect()

    async def one(kind: str, n: int) -> None:
        await queue.enqueue(kind, n=n, **OPTIONS)

    yield Sender(one)
    await queue.disconnect()


def with_context(kind: str) -> tuple[str, Callable]:
    handler = effects.ASYNC[kind]

    async def job(ctx: dict, *, n: int) -> None:
        await handler(n)

    return kind, job


def work(variant: str) -> None:
    async def working() -> None:
        queue = Queue.from_url(redis_url())
        functions = [with_context(kind) for kind in effects.ASYNC]
        timers = {"sweep": 5} if SWEEPING else None
        await Worker(queue, functions=functions, concurrency=concurrency(), timers=timers).start()

    run(working())
