"""What a no-op costs as a plain consumer message and as a task: one process, one server, the same settings, in turns.

``python -m tests.tasks.cost REDIS_URL`` prints microseconds of this process' own CPU time per job, as JSON.
Django's own log of tasks is off, as in the example site: the worker has its own, and a message has none.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

import django
from django.conf import settings

JOBS = 2000
ROUNDS = 4
CONCURRENCY = 100


def configure(redis_url: str) -> None:
    settings.configure(
        SECRET_KEY="for tests only",
        USE_TZ=True,
        INSTALLED_APPS=[
            "retrying", "channels", "tests.tasks.sample", *(["django_tasks"] if django.VERSION < (6,) else []),
        ],
        CHANNEL_LAYERS={
            "default": {"BACKEND": "retrying.layers.RetryingChannelLayer", "CONFIG": {"hosts": [redis_url]}}
        },
        LOGGING={"version": 1, "loggers": {"django.tasks": {"level": "WARNING"}}},
        TASKS={"default": {"BACKEND": "retrying.backends.RetryingBackend"}},
    )  # fmt: skip
    django.setup()


async def microseconds(channel: str, jobs: list[Any], application: Any) -> float:
    """For each of ``jobs``, which are enqueued first and drained then."""
    from retrying.layers import get_layer
    from retrying.management.routes import routes_for
    from retrying.worker import Worker

    layer = get_layer()
    for start in range(0, len(jobs), 500):
        await layer.arun(layer.enqueue_call(channel, jobs[start : start + 500]))
    worker = Worker(
        application, {channel: CONCURRENCY}, layer, routes=routes_for([channel], "default"),
        on_end=lambda *_: worker.stop() if next(left) == 0 else None,
    )  # fmt: skip
    left = iter(range(len(jobs) - 1, -1, -1))
    running = asyncio.create_task(worker.run())
    await asyncio.sleep(0)
    began = time.process_time()
    await running
    return (time.process_time() - began) / len(jobs) * 1e6


async def measure() -> dict[str, list[float]]:
    from channels.consumer import AsyncConsumer, SyncConsumer
    from channels.routing import ChannelNameRouter, ProtocolTypeRouter

    from retrying.layers import get_layer
    from retrying.message import new_job
    from tests.tasks.compat import task_backends
    from tests.tasks.sample import tasks

    class Plain(AsyncConsumer):
        async def do_nothing(self, message: dict[str, Any]) -> None:
            """As little as a handler can do."""

    class PlainSync(SyncConsumer):
        def do_nothing(self, message: dict[str, Any]) -> None:
            """The same in a thread."""

    application = ProtocolTypeRouter(
        {"channel": ChannelNameRouter({"plain": Plain.as_asgi(), "plain-sync": PlainSync.as_asgi()})}
    )
    backend: Any = task_backends["default"]
    payload = get_layer().encode({"type": "do.nothing"})
    found: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, channel in (("message", "plain"), ("sync message", "plain-sync")):
            jobs = [new_job(payload, max_bytes=10**6) for _ in range(JOBS)]
            found.setdefault(name, []).append(await microseconds(channel, jobs, application))
        for name, task in (("task", tasks.nothing), ("sync task", tasks.nothing_sync)):
            jobs = [backend.prepare(task, (), {}).job for _ in range(JOBS)]
            found.setdefault(name, []).append(await microseconds("tasks.default", jobs, application))
    return found


if __name__ == "__main__":
    configure(sys.argv[1] if len(sys.argv) > 1 else os.environ["REDIS_URL"])
    print(json.dumps({name: round(min(times), 1) for name, times in asyncio.run(measure()).items()}))
