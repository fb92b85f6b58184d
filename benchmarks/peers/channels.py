"""Plain Channels: channels_redis and its own runworker, in the project that ours runs in, too (benchmarks/site)."""

# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "Django==6.1.3; python_version >= '3.12'",
#     "Django>=5.2.13,<6; python_version < '3.12'",
#     "channels==4.3.2",
#     "channels-redis==4.3.0",
#     "redis[hiredis]==8.1.0",
#     "uvloop==0.23.0",
# ]
#
# [tool.benchmark]
# packages = ["channels", "channels-redis", "Django", "redis"]
# after_kill = "loses everything that it read"
# gather = true
#
# [tool.benchmark.variants.await]
# persistence = ["everysec"]
# settings = "runworker as it is: one message at a time; capacity and expiry raised, socket_timeout None"
# concurrency = 1
# jobs = 5000
# rounds = 2
#
# [tool.benchmark.variants.uvloop]
# settings = "the same on uvloop"
# concurrency = 1
# jobs = 6000
# rounds = 1
# uvloop = true
# measures = ["drain", "latency"]
# ///

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.roles import Sender

os.environ["BENCH_LAYER"] = "channels"
os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.site.settings"

import django
from channels.layers import get_channel_layer
from django.core.management import call_command

django.setup()


@asynccontextmanager
async def producer() -> AsyncIterator[Sender]:
    layer = get_channel_layer()

    async def one(kind: str, n: int) -> None:
        await layer.send("work", {"type": kind, "n": n})

    yield Sender(one)
    await layer.close_pools()


def work(variant: str) -> None:
    if variant == "uvloop":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    call_command("runworker", "work", verbosity=0)
