"""arq. It pins redis-py below 6."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["arq==0.28.0", "redis[hiredis]==5.3.1", "uvloop==0.23.0"]
#
# [tool.benchmark]
# packages = ["arq", "redis"]
# after_kill = "held 310 s"
# survives = true
# gather = true
#
# [tool.benchmark.variants.tuned]
# settings = "100 jobs at once, polls each 10 ms (default 500), results not kept"
# concurrency = 100
# jobs = 7000
# rounds = 2
# uvloop = true
# ///

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func

from benchmarks import effects
from benchmarks.roles import Sender, concurrency, redis_url, run

logging.basicConfig(level=logging.ERROR)


@asynccontextmanager
async def producer() -> AsyncIterator[Sender]:
    pool = await create_pool(RedisSettings.from_dsn(redis_url()))

    async def one(kind: str, n: int) -> None:
        await pool.enqueue_job(kind, n=n)

    yield Sender(one)
    await pool.aclose()


def with_context(kind: str) -> Callable:
    handler = effects.ASYNC[kind]

    async def job(ctx: dict, n: int) -> None:
        await handler(n)

    return func(job, name=kind)


def work(variant: str) -> None:
    async def working() -> None:
        worker = Worker(
            [with_context(kind) for kind in effects.ASYNC],
            redis_settings=RedisSettings.from_dsn(redis_url()),
            max_jobs=concurrency(),
            poll_delay=0.01,
            keep_result=0,
        )
        try:
            await worker.async_run()
        except asyncio.CancelledError:
            await worker.close()

    run(working())
