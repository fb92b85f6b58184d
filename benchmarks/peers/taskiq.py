"""taskiq on Redis: a list (popped, no acknowledgement) or a stream."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["taskiq==0.13.0", "taskiq-redis==1.2.4", "redis[hiredis]==8.1.0", "uvloop==0.23.0"]
#
# [tool.benchmark]
# packages = ["taskiq", "taskiq-redis", "redis"]
# after_kill = "list: loses what ran; stream: held 600 s, then until new work comes"
# gather = true
#
# [tool.benchmark.variants.stream]
# persistence = ["everysec"]
# settings = "RedisStreamBroker, 100 tasks at once, no results, arguments not parsed"
# concurrency = 100
# jobs = 11000
# uvloop = true
#
# [tool.benchmark.variants.list]
# settings = "ListQueueBroker, 100 tasks at once, no results, arguments not parsed"
# concurrency = 100
# jobs = 10000
# rounds = 2
# uvloop = true
# measures = ["drain", "enqueue", "latency"]
# ///

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker, RedisStreamBroker

from benchmarks import effects
from benchmarks.roles import Sender, concurrency, redis_url, run

logging.basicConfig(level=logging.ERROR)
broker = {"list": ListQueueBroker, "stream": RedisStreamBroker}[os.environ["BENCH_VARIANT"]](redis_url())
TASKS = {kind: broker.task(task_name=kind)(function) for kind, function in effects.ASYNC.items()}


@asynccontextmanager
async def producer() -> AsyncIterator[Sender]:
    await broker.startup()

    async def one(kind: str, n: int) -> None:
        await TASKS[kind].kiq(n=n)

    yield Sender(one)
    await broker.shutdown()


def work(variant: str) -> None:
    run(run_receiver_task(broker, max_async_tasks=concurrency(), validate_params=False, run_startup=True))
