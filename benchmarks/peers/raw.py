"""No peer, but the floor: what a stream with acknowledgement, or a blocking pop without one, costs with redis-py."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["redis[hiredis]==8.1.0", "uvloop==0.23.0"]
#
# [tool.benchmark]
# packages = ["redis"]
# after_kill = "no queue"
# bulk = "a pipeline of XADD"
#
# [tool.benchmark.variants.stream]
# settings = "XREADGROUP of 200, their handlers called, XACK and XDEL of 200 in one pipeline"
# concurrency = 200
# jobs = 300000
# uvloop = true
# measures = ["enqueue", "drain", "two"]
# persistence = ["everysec", "always"]
#
# [tool.benchmark.variants.pop]
# settings = "BLPOP and LPUSH of a synchronous client, nothing else"
# concurrency = 1
# measures = ["latency"]
#
# [tool.benchmark.variants.apop]
# settings = "BLPOP and LPUSH of an asyncio client"
# concurrency = 1
# rounds = 1
# uvloop = true
# measures = ["latency"]
# ///

import os
from collections.abc import AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)

import redis
import redis.asyncio

from benchmarks import effects
from benchmarks.roles import Sender, redis_url, run

STREAM, GROUP, LIST = "raw-stream", "workers", "raw-list"


def producer() -> AbstractContextManager[Sender] | AbstractAsyncContextManager[Sender]:
    return {"stream": to_stream, "pop": to_list, "apop": ato_list}[os.environ["BENCH_VARIANT"]]()


@asynccontextmanager
async def to_stream() -> AsyncIterator[Sender]:
    async with redis.asyncio.from_url(redis_url()) as client:

        async def one(kind: str, n: int) -> None:
            await client.xadd(STREAM, {"n": n})

        async def many(kind: str, numbers: range) -> None:
            async with client.pipeline(transaction=False) as pipe:
                for n in numbers:
                    pipe.xadd(STREAM, {"n": n})
                await pipe.execute()

        yield Sender(one, many)


@contextmanager
def to_list():
    with redis.from_url(redis_url()) as client:
        yield Sender(lambda kind, n: client.lpush(LIST, n))


@asynccontextmanager
async def ato_list() -> AsyncIterator[Sender]:
    async with redis.asyncio.from_url(redis_url()) as client:

        async def one(kind: str, n: int) -> None:
            await client.lpush(LIST, n)

        yield Sender(one)


def work(variant: str) -> None:
    if variant == "pop":
        pop()
    else:
        run(read() if variant == "stream" else apop())


def pop() -> None:
    with redis.from_url(redis_url(), socket_timeout=None) as client:
        while True:
            popped = client.blpop([LIST], timeout=0)
            effects.noop(int(popped[1]))


async def apop() -> None:
    async with redis.asyncio.from_url(redis_url(), socket_timeout=None) as client:
        while True:
            popped = await client.blpop([LIST], timeout=0)
            await effects.anoop(int(popped[1]))


async def read() -> None:
    async with redis.asyncio.from_url(redis_url(), socket_timeout=None) as client:
        with suppress(redis.ResponseError):  # the other process made it
            await client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        while True:
            for _, entries in await client.xreadgroup(GROUP, str(os.getpid()), {STREAM: ">"}, count=200, block=1000):
                for _, fields in entries:
                    await effects.anoop(int(fields[b"n"]))
                ids = [entry for entry, _ in entries]
                async with client.pipeline(transaction=False) as pipe:
                    await pipe.xack(STREAM, GROUP, *ids).xdel(STREAM, *ids).execute()
