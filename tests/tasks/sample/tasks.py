"""Tasks that do what their test tells them."""

from __future__ import annotations

import asyncio
import builtins
import datetime as dt
import threading
import time
from contextvars import ContextVar
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, connections

import retrying
from retrying import retry
from tests.tasks.compat import task

#: What ran, in order; of this process.
RAN: list[Any] = []


@task
def add(a: int, b: int = 1) -> int:
    RAN.append((a, b))
    return a + b


@task
async def add_async(a: int, b: int = 1) -> int:
    RAN.append((a, b))
    return a + b


@task
@retry(max_retries=2, backoff=5)
def fails(times: int) -> str:
    RAN.append(times)
    if len(RAN) <= times:
        raise ValueError(f"failure {len(RAN)}")
    return "at last"


@task(takes_context=True)
async def tell(context: Any) -> dict[str, Any]:
    result = context.task_result
    return {"attempt": context.attempt, "id": result.id, "workers": result.worker_ids, "status": result.status}


@task
async def nothing() -> None:
    """As little as a task can do."""


@task
def nothing_sync() -> None:
    """The same in a thread."""


@task
def raises(kind: str, *args: Any) -> None:
    """Raises what ``retrying`` or Python calls so."""
    RAN.append(kind)
    raise (getattr(retrying, kind, None) or getattr(builtins, kind))(*args)


@task
@retry(max_retries=0)
def spoils(items: list[Any]) -> None:
    items.append(object())  # no JSON any more
    raise KeyError("the fault")


@task
async def sleeps(seconds: float) -> str:
    RAN.append("began")
    await asyncio.sleep(seconds)
    return "slept"


@task
@retry(max_retries=0, timeout=0.5)
async def too_slow() -> None:
    await asyncio.sleep(60)


@task
@retry(max_retries=0, timeout=0.5)
async def swallows() -> str:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return "went on"
    return "slept"


@task
def returns(kind: str) -> Any:
    RAN.append(kind)
    return {"date": dt.date(2026, 1, 1), "tuple": (1, b"two"), "large": "x" * 2_000_000}[kind]


@task
async def says_who() -> list[Any]:
    job = retrying.current_job()
    return [job.id, job.channel, job.attempt]


@task
def says_who_in_thread() -> list[Any]:
    job = retrying.current_job()
    return [job.id, job.channel, job.attempt]


@task(priority=5)
def urgent() -> None:
    RAN.append("urgent")


@task(takes_context=True)
@retry(max_retries=30, backoff=1)
def stubborn(context: Any, times: int) -> list[int]:
    RAN.append(context.attempt)
    if context.attempt <= times:
        raise ValueError(f"number {context.attempt}")
    return [len(context.task_result.errors), len(context.task_result.worker_ids)]


COLOUR: ContextVar[str] = ContextVar("COLOUR", default="none")


@task
async def paints(colour: str) -> str:
    before = COLOUR.get()
    COLOUR.set(colour)
    return before


@task
def paints_in_thread(colour: str) -> str:
    before = COLOUR.get()
    COLOUR.set(colour)
    return before


@task
def asks_the_loop() -> list[Any]:
    """Which loop async_to_sync() finds, and which job is known there."""

    async def ask() -> list[Any]:
        return [id(asyncio.get_running_loop()), retrying.current_job().id]

    return async_to_sync(ask)()


#: Each thread's own, of those that ran ``counts_rows``.
CONNECTIONS: list[Any] = []


@task
def counts_rows(wait: float = 0.0) -> list[Any]:
    """Uses the database in a thread."""
    time.sleep(wait)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    CONNECTIONS.append(connections["default"])
    return [threading.current_thread().name, connection.connection is not None]


@task
async def counts_rows_async() -> list[Any]:
    return await sync_to_async(counts_rows.func)()


@task
@retry(max_retries=0)
def stops() -> None:
    """Raises what a future can't carry."""
    raise StopIteration
