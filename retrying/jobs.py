"""Look at jobs and act on them: each function sync, and async with an ``a`` before its name.

All take the channel, and ``using``: the alias of the channel layer. All raise StoreUnavailable.
"""

from __future__ import annotations

from .job import Counts, Job, State, WorkerInfo
from .layers import get_layer

CANCELLED_ON_REQUEST = "cancelled on request"


def get(channel: str, job_id: str, *, using: str = "default") -> Job | None:
    """The job, or None when it is unknown or was purged. A success is known for ``DEDUP_SECONDS``, by state only."""
    store = get_layer(using).store
    return store.run(store.get(channel, job_id))


async def aget(channel: str, job_id: str, *, using: str = "default") -> Job | None:
    layer = get_layer(using)
    return await layer.arun(layer.store.get(channel, job_id))


def cancel(channel: str, job_id: str, reason: str = CANCELLED_ON_REQUEST, *, using: str = "default") -> State | None:
    """Cancel a job. Returns its state now: CANCELLED, or RUNNING when its handler was asked to stop; None: unknown."""
    store = get_layer(using).store
    return store.run(store.cancel(channel, job_id, reason))


async def acancel(
    channel: str, job_id: str, reason: str = CANCELLED_ON_REQUEST, *, using: str = "default"
) -> State | None:
    layer = get_layer(using)
    return await layer.arun(layer.store.cancel(channel, job_id, reason))


def retry_now(channel: str, job_id: str, *, using: str = "default") -> State | None:
    """Make a scheduled job ready at once. Returns its state now (other states are left alone); None: unknown."""
    store = get_layer(using).store
    return store.run(store.retry_now(channel, job_id))


async def aretry_now(channel: str, job_id: str, *, using: str = "default") -> State | None:
    layer = get_layer(using)
    return await layer.arun(layer.store.retry_now(channel, job_id))


def redrive(channel: str, job_id: str, *, using: str = "default") -> State | None:
    """Make a dead letter ready again, its failures and rescues counted anew. Returns its state now; None: unknown."""
    store = get_layer(using).store
    return store.run(store.redrive(channel, job_id))


async def aredrive(channel: str, job_id: str, *, using: str = "default") -> State | None:
    layer = get_layer(using)
    return await layer.arun(layer.store.redrive(channel, job_id))


def counts(channel: str, *, using: str = "default") -> Counts:
    """Jobs by state, and the age of the next ready one."""
    store = get_layer(using).store
    return store.run(store.counts(channel))


async def acounts(channel: str, *, using: str = "default") -> Counts:
    layer = get_layer(using)
    return await layer.arun(layer.store.counts(channel))


def workers(channel: str, *, using: str = "default") -> list[WorkerInfo]:
    """Workers that consume the channel, heard of within three sweeps."""
    store = get_layer(using).store
    return store.run(store.workers(channel))


async def aworkers(channel: str, *, using: str = "default") -> list[WorkerInfo]:
    layer = get_layer(using)
    return await layer.arun(layer.store.workers(channel))
