"""Docket (the distribution's name is pydocket)."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["pydocket==0.27.0", "redis[hiredis]==8.1.0", "uvloop==0.23.0"]
#
# [tool.benchmark]
# packages = ["pydocket", "redis"]
# bulk = "Docket.add_many"
# after_kill = "all back after 300 s"
# survives = true
# gather = true
#
# [tool.benchmark.variants.tuned]
# persistence = ["everysec"]
# settings = "100 tasks at once, minimum_check_interval 5 ms (default 250), nothing kept"
# concurrency = 100
# jobs = 9000
# uvloop = true
#
# [tool.benchmark.variants.redelivering]
# settings = "the same with redelivery_timeout 10 s (default 300)"
# concurrency = 100
# jobs = 12000
# uvloop = true
# measures = ["crash"]
# default = false
# ///

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from docket import Docket, Worker

from benchmarks import effects
from benchmarks.roles import Sender, concurrency, redis_url, run

logging.basicConfig(level=logging.ERROR)


async def noop(n: int) -> None:
    await effects.anoop(n)


async def sleep(n: int) -> None:
    await effects.asleep(n)


async def crash(n: int) -> None:
    await effects.acrash(n)


TASKS = {"noop": noop, "sleep": sleep, "crash": crash}


@asynccontextmanager
async def opened() -> AsyncIterator[Docket]:
    # redis-py's default of 100 connections is too few for 100 tasks at once.
    url = f"{redis_url()}?max_connections=1000"
    async with Docket(name="bench", url=url, execution_ttl=timedelta(0)) as docket:
        for function in TASKS.values():
            docket.register(function)
        yield docket


@asynccontextmanager
async def producer() -> AsyncIterator[Sender]:
    async with opened() as docket:

        async def one(kind: str, n: int) -> None:
            await docket.add(TASKS[kind])(n=n)

        async def many(kind: str, numbers: Sequence[int]) -> None:
            await docket.add_many([docket.call(TASKS[kind])(n=n) for n in numbers])

        yield Sender(one, many)


def work(variant: str) -> None:
    async def working() -> None:
        options = {"redelivery_timeout": timedelta(seconds=10)} if variant == "redelivering" else {}
        step = timedelta(milliseconds=5)
        async with (
            opened() as docket,
            Worker(docket, concurrency=concurrency(), minimum_check_interval=step, **options) as worker,
        ):
            await worker.run_forever()

    run(working())
