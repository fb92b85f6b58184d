"""A worker in the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from channels.routing import ChannelNameRouter, ProtocolTypeRouter

from retrying import Job, State, jobs
from retrying.layers import get_layer
from retrying.worker import Worker
from tests.conftest import await_for

CHANNEL = "work"


def routed(application: Any) -> ProtocolTypeRouter:
    """The application (a consumer class or an ASGI function) behind the routers that a project has."""
    if hasattr(application, "as_asgi"):
        application = application.as_asgi()
    return ProtocolTypeRouter({"channel": ChannelNameRouter({CHANNEL: application})})


@asynccontextmanager
async def running(
    application: Any, *, concurrency: int | None = 1, shutdown_timeout: float = 5.0
) -> AsyncIterator[Worker]:
    """``application`` at work on the channel; drained at the end. Fails when the worker ended with an error."""
    layer = get_layer()
    worker = Worker(routed(application), {CHANNEL: concurrency}, layer, shutdown_timeout=shutdown_timeout)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        status = await asyncio.wait_for(task, 20)
        await layer.close_pools()
    assert status == 0


async def reached(job_id: str, *states: State, **fields: Any) -> Job:
    """Wait until the job is in one of the states, with these values in its fields."""

    async def there() -> Job | None:
        job = await jobs.aget(CHANNEL, job_id)
        if job is None or job.state not in states:
            return None
        return job if all(getattr(job, name) == value for name, value in fields.items()) else None

    found: Job = await await_for(there, f"job {job_id} is {' or '.join(states)} {fields or ''}")
    return found
