"""Jobs that several callers of one event loop send at the same time go together, in few requests."""

from __future__ import annotations

import asyncio
import copy
import sys
from collections import deque
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .calls import Enqueued, NewJob

if TYPE_CHECKING:
    from . import Store

#: Most jobs and bytes that one request stores: bounds what is in memory, and one script's time on the server.
MAX_JOBS = 500
MAX_BYTES = 512 * 1024
#: So many are not kept waiting for more: the server works on them while this process makes the next ones.
ENOUGH = 13
#: Requests on their way at a time: while the server works on one, the next one comes.
MAX_REQUESTS = 12

Waiting = tuple[NewJob, "asyncio.Future[Enqueued | None]"]


class Outbox:
    """Of one channel and event loop.

    A job that comes while nothing is on its way goes at once; where several went together before, with all that come in
    the same turn of the event loop. Those that come meanwhile wait for the reply, or until there are ``ENOUGH``. Each
    caller gets what became of its own.
    """

    def __init__(self, store: Store, channel: str) -> None:
        self._store = store
        self._channel = channel
        self._capacity: int | None = None
        self._waiting: deque[Waiting] = deque()
        self._bytes = 0
        self._requests = 0
        self._together = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def put(self, job: NewJob, capacity: int | None) -> Enqueued | None:
        """Store a job; None when ``capacity`` (jobs waiting in the channel) would be exceeded.

        Raises as Store.arun. Cancelled, it may have been stored.
        """
        self._capacity = capacity
        if self._requests:
            return await self._wait(job)
        if self._together:
            future = self._wait(job)
            self._begin()
            return await future
        self._requests = 1
        try:
            return await self._store.arun(self._store.enqueue_one(self._channel, job, capacity=capacity))
        finally:
            self._requests -= 1
            if self._waiting:
                self._begin()

    def _wait(self, job: NewJob) -> asyncio.Future[Enqueued | None]:
        future: asyncio.Future[Enqueued | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        self._bytes += len(job.payload)
        if (len(self._waiting) >= ENOUGH or self._bytes >= MAX_BYTES) and self._requests < MAX_REQUESTS:
            self._begin(self._next())
        return future

    def _begin(self, batch: Sequence[Waiting] = ()) -> None:
        """Send a batch; without one, those that wait when the present turn of the event loop has ended."""
        self._requests += 1
        task = _at_once(self._send(batch)) if batch else asyncio.create_task(self._send(batch))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, batch))

    def _ended(self, batch: Sequence[Waiting], task: asyncio.Task[None]) -> None:
        """Cancelled when the loop ends, maybe before its first step, it leaves callers that still wait to another."""
        self._tasks.discard(task)
        if task.cancelled():
            for _, future in batch:
                future.cancel()
            self._requests -= 1
            if self._waiting:
                self._begin()

    def _next(self) -> list[Waiting]:
        """Take what goes in one request."""
        batch: list[Waiting] = []
        size = 0
        while self._waiting and len(batch) < MAX_JOBS and size < MAX_BYTES:
            job, future = self._waiting.popleft()
            self._bytes -= len(job.payload)
            if not future.done():  # else nobody waits any more
                size += len(job.payload)
                batch.append((job, future))
        return batch

    async def _send(self, batch: Sequence[Waiting]) -> None:
        while batch := batch or self._next():
            self._together = len(batch) > 1
            await self._store_batch(batch)
            batch = ()
        self._requests -= 1  # not later: who is told and sends again finds that nothing is on its way

    async def _store_batch(self, batch: Sequence[Waiting]) -> None:
        jobs = [job for job, _ in batch]
        try:
            found = await self._store.arun(self._store.enqueue_each(self._channel, jobs, capacity=self._capacity))
        except asyncio.CancelledError:  # the loop ends
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    own = copy.copy(error)  # an exception grows a traceback where it is raised
                    own.__cause__ = error.__cause__
                    future.set_exception(own)
        else:
            for (_, future), one in zip(batch, found, strict=True):
                if not future.done():
                    future.set_result(one)


def _at_once(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that has begun: by its turn, all that is sent meanwhile would have been made."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
    return asyncio.create_task(work)
