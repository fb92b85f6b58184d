"""BullMQ's Python port."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["bullmq==3.4.4", "redis[hiredis]==8.1.0", "uvloop==0.23.0"]
#
# [tool.benchmark]
# packages = ["bullmq", "redis"]
# bulk = "Queue.addBulk"
# after_kill = "all back after 77 s"
# survives = true
# gather = true
#
# [tool.benchmark.variants.default]
# persistence = ["everysec", "always"]
# settings = "20 jobs at once (100 for the sleeps), removed when done"
# concurrency = 20
# in_turns = true
# rounds = 5
# jobs = 9000
# sleep_concurrency = 100
# uvloop = true
#
# [tool.benchmark.variants.stalling]
# settings = "the same with lockDuration 10 s, stalledInterval 5 s (defaults 30 s, 30 s)"
# concurrency = 20
# jobs = 12000
# uvloop = true
# measures = ["crash"]
# default = false
# ///

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bullmq import Queue, Worker

from benchmarks import effects
from benchmarks.roles import Sender, concurrency, redis_url, run

OPTIONS = {"removeOnComplete": True}


@asynccontextmanager
async def producer() -> AsyncIterator[Sender]:
    queue = Queue("bench", {"connection": redis_url()})

    async def one(kind: str, n: int) -> None:
        await queue.add(kind, {"n": n}, OPTIONS)

    async def many(kind: str, numbers: Sequence[int]) -> None:
        await queue.addBulk([{"name": kind, "data": {"n": n}, "opts": OPTIONS} for n in numbers])

    yield Sender(one, many)
    await queue.close()


async def process(job, token):
    await effects.ASYNC[job.name](job.data["n"])


def work(variant: str) -> None:
    async def working() -> None:
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        options = {"lockDuration": 10_000, "stalledInterval": 5_000} if variant == "stalling" else {}
        worker = Worker("bench", process, {"connection": redis_url(), "concurrency": concurrency(), **options})
        await stopping.wait()
        await worker.close(force=True)

    run(working())
