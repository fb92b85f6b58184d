"""This package, in the same roles as its peers."""

# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "Django==6.1.3; python_version >= '3.12'",
#     "Django>=5.2.13,<6; python_version < '3.12'",
#     "django-tasks>=0.12.0; python_version < '3.12'",
#     "channels==4.3.2",
#     "channels-redis==4.3.0",
#     "daphne>=4.2.2",
#     "redis[hiredis]==8.1.0",
#     "msgspec>=0.22.0",
#     "cronsim>=2.8",
#     "uvloop==0.23.0",
# ]
#
# [tool.benchmark]
# packages = ["Django", "channels", "redis", "uvloop"]
# after_kill = "all that ran, back after 30 + 5 s"
# survives = true
# bulk = "enqueue_many"
# gather = true
#
# [tool.benchmark.variants.background]
# persistence = ["everysec", "always"]
# settings = "BackgroundConsumer (async def), 100 jobs at once"
# concurrency = 100
# jobs = 120000
# uvloop = true
# measures = ["drain", "two", "busy", "portions", "latency", "sleep"]
# sender = "enqueue"
#
# [tool.benchmark.variants.background-asyncio]
# settings = "the same on asyncio's own loop"
# concurrency = 100
# jobs = 80000
# rounds = 2
# measures = ["drain", "latency"]
# sender = "enqueue"
#
# [tool.benchmark.variants.background-1]
# settings = "the same, one job at a time, on uvloop"
# concurrency = 1
# jobs = 10000
# rounds = 2
# uvloop = true
# measures = ["drain", "latency"]
# sender = "enqueue"
#
# [tool.benchmark.variants.background-sync]
# settings = "BackgroundConsumer (def), 100 jobs at once in threads"
# concurrency = 100
# jobs = 40000
# rounds = 2
# uvloop = true
# measures = ["drain"]
# sender = "enqueue"
#
# [tool.benchmark.variants.consumer]
# persistence = ["everysec", "always"]
# settings = "unmodified AsyncConsumer, 100 jobs at once"
# concurrency = 100
# in_turns = true
# rounds = 5
# jobs = 45000
# uvloop = true
# measures = ["enqueue", "drain", "two", "busy", "portions", "latency", "sleep"]
# sender = "enqueue"
#
# [tool.benchmark.variants.consumer-asyncio]
# settings = "the same on asyncio's own loop"
# concurrency = 100
# jobs = 35000
# measures = ["drain", "latency"]
# sender = "enqueue"
#
# [tool.benchmark.variants.consumer-1]
# settings = "unmodified AsyncConsumer, one job at a time (the default)"
# concurrency = 1
# jobs = 10000
# rounds = 2
# uvloop = true
# measures = ["drain", "latency"]
# sender = "enqueue"
#
# [tool.benchmark.variants.sync-consumer]
# settings = "unmodified SyncConsumer, 100 jobs at once in threads"
# concurrency = 100
# jobs = 25000
# uvloop = true
# measures = ["drain", "latency", "sleep", "two"]
# sender = "enqueue"
#
# [tool.benchmark.variants.task-async]
# persistence = ["everysec"]
# settings = "async task of Django, 100 at once, RESULT_TTL 0, log of django.tasks at ERROR"
# concurrency = 100
# jobs = 35000
# uvloop = true
# measures = ["enqueue", "drain", "two", "busy", "portions", "latency", "sleep"]
# sender = "task"
#
# [tool.benchmark.variants.task-sync]
# settings = "sync task of Django, 100 at once in threads, RESULT_TTL 0, log of django.tasks at ERROR"
# concurrency = 100
# jobs = 25000
# uvloop = true
# measures = ["drain", "latency", "sleep", "two"]
# sender = "task-sync"
#
# [tool.benchmark.variants.send]
# settings = "await channel_layer.send()"
# concurrency = 100
# rounds = 2
# uvloop = true
# measures = ["enqueue"]
# sender = "send"
#
# [tool.benchmark.variants.view]
# settings = "async_to_sync(channel_layer.send)() in a synchronous view under ASGI, beside asyncio's own loop (daphne)"
# concurrency = 100
# in_turns = true
# rounds = 5
# measures = ["enqueue"]
# sender = "view"
#
# [tool.benchmark.variants.view-uvloop]
# settings = "the same beside uvloop (uvicorn)"
# concurrency = 100
# uvloop = true
# rounds = 2
# measures = ["enqueue"]
# sender = "view"
#
# [tool.benchmark.variants.command]
# settings = "the same where no event loop runs (WSGI, a command): asgiref starts one for each call"
# concurrency = 100
# rounds = 1
# measures = ["enqueue"]
# sender = "view"
#
# [tool.benchmark.variants.aenqueue]
# settings = "await aenqueue()"
# concurrency = 100
# in_turns = true
# rounds = 5
# uvloop = true
# measures = ["enqueue"]
# sender = "aenqueue"
#
# [tool.benchmark.variants.atask]
# settings = "await task.aenqueue()"
# concurrency = 100
# rounds = 2
# uvloop = true
# measures = ["enqueue"]
# sender = "atask"
#
# [tool.benchmark.variants.crash]
# settings = "unmodified AsyncConsumer, 10 jobs at once, lease 30 s and sweep 5 s: the defaults"
# concurrency = 10
# rounds = 1
# uvloop = true
# measures = ["crash"]
# sender = "enqueue"
#
# [tool.benchmark.variants.crash-2s]
# settings = "the same with LEASE_SECONDS 2, SWEEP_SECONDS 0.5"
# concurrency = 10
# rounds = 1
# uvloop = true
# measures = ["crash"]
# sender = "enqueue"
# env = {BENCH_LEASE = "2", BENCH_SWEEP = "0.5"}
# ///

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager

from benchmarks.roles import Sender, concurrency, run

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.site.settings")

#: Where the jobs of a variant go; the others' to "work".
CHANNELS = {
    "background": "background",
    "background-asyncio": "background",
    "background-1": "background",
    "background-sync": "sync-background",
    "sync-consumer": "sync-work",
    "task-async": "tasks.default",
    "task-sync": "tasks.default",
}
CHANNEL = CHANNELS.get(os.environ["BENCH_VARIANT"], "work")


def producer() -> AbstractContextManager[Sender] | AbstractAsyncContextManager[Sender]:
    import django

    django.setup()
    return SENDERS[os.environ["BENCH_SENDER"]]()


@contextmanager
def enqueue() -> Iterator[Sender]:
    from retrying import enqueue, enqueue_many

    yield Sender(
        lambda kind, n: enqueue(CHANNEL, {"type": kind, "n": n}),
        lambda kind, numbers: enqueue_many(CHANNEL, ({"type": kind, "n": n} for n in numbers)),
    )


@asynccontextmanager
async def aenqueue() -> AsyncIterator[Sender]:
    from channels.layers import get_channel_layer

    from retrying import aenqueue, aenqueue_many

    async def one(kind: str, n: int) -> None:
        await aenqueue(CHANNEL, {"type": kind, "n": n})

    async def many(kind: str, numbers: Sequence[int]) -> None:
        await aenqueue_many(CHANNEL, ({"type": kind, "n": n} for n in numbers))

    yield Sender(one, many)
    await get_channel_layer().close_pools()


@asynccontextmanager
async def send() -> AsyncIterator[Sender]:
    from channels.layers import get_channel_layer

    layer = get_channel_layer()

    async def one(kind: str, n: int) -> None:
        await layer.send(CHANNEL, {"type": kind, "n": n})

    yield Sender(one)
    await layer.close_pools()


@contextmanager
def view() -> Iterator[Sender]:
    from asgiref.sync import async_to_sync
    from channels.layers import get_channel_layer

    layer = get_channel_layer()
    yield Sender(lambda kind, n: async_to_sync(layer.send)(CHANNEL, {"type": kind, "n": n}))


def call(sending: Callable[[], dict[str, float]]) -> dict[str, float]:
    """A synchronous view: Django's handler calls it in a thread, beside the event loop of the server."""
    if not os.environ["BENCH_VARIANT"].startswith("view"):
        return sending()
    from asgiref.testing import ApplicationCommunicator
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import HttpResponse
    from django.urls import path

    told: dict[str, float] = {}

    def view(request: object) -> HttpResponse:
        told.update(sending())
        return HttpResponse()

    async def serve() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [(b"host", b"view")]}
        communicator = ApplicationCommunicator(get_asgi_application(), scope)
        await communicator.send_input({"type": "http.request", "body": b""})
        await communicator.receive_output(timeout=60)

    settings.ROOT_URLCONF, settings.ALLOWED_HOSTS = (path("", view),), ["view"]
    run(serve())
    return told


def _task() -> Iterator[Sender]:
    from benchmarks.site import tasks

    found = tasks.SYNC if os.environ["BENCH_SENDER"] == "task-sync" else tasks.ASYNC
    yield Sender(
        lambda kind, n: found[kind].enqueue(n), lambda kind, numbers: found[kind].enqueue_many((n,) for n in numbers)
    )


@asynccontextmanager
async def atask() -> AsyncIterator[Sender]:
    from channels.layers import get_channel_layer

    from benchmarks.site import tasks

    async def one(kind: str, n: int) -> None:
        await tasks.ASYNC[kind].aenqueue(n)

    async def many(kind: str, numbers: Sequence[int]) -> None:
        await tasks.ASYNC[kind].aenqueue_many((n,) for n in numbers)

    yield Sender(one, many)
    await get_channel_layer().close_pools()


task = contextmanager(_task)
SENDERS = {
    "enqueue": enqueue,
    "aenqueue": aenqueue,
    "send": send,
    "view": view,
    "task": task,
    "task-sync": task,
    "atask": atask,
}


def work(variant: str) -> None:
    if os.environ.get("BENCH_UVLOOP") != "1":
        sys.modules["uvloop"] = None  # runworker takes it where it is installed
    import django
    from django.core.management import call_command

    django.setup()
    call_command("runworker", CHANNEL, concurrency=concurrency(), verbosity=0)
