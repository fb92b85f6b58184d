"""A slot for handlers that are plain functions: no application stands between, an attempt is one asyncio task."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.db import close_old_connections, connections

from .attempt import Attempt, Ending, ending_of
from .context import CurrentJob, current_slot
from .reconnect import end
from .slot import CANCEL_SECONDS

if TYPE_CHECKING:
    from .lane import Lane

P = ParamSpec("P")
T = TypeVar("T")


class SlotThread(ThreadPoolExecutor):
    """The one thread of a slot, for whatever is sync in its handlers; started when something is.

    Its database connections live as in Django's request cycle: checked before each job, and after it those are closed
    that CONN_MAX_AGE doesn't keep.
    """

    def __init__(self) -> None:
        super().__init__(max_workers=1, thread_name_prefix="retrying-slot")
        #: Something ran in it since the last job's connections were looked at.
        self.used = False
        #: A connection is open.
        self.connected = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        self.used = True
        return super().submit(fn, *args, **kwargs)

    def begin_job(self) -> None:
        """To be called in the thread. Nobody else uses its connections: when none is open there is nothing to do."""
        if self.connected:
            close_old_connections()

    def end_job(self) -> None:
        """To be called in the thread. One pass does what Django does between two requests: it is paid for each job."""
        self.connected = False
        for connection in connections.all(initialized_only=True):
            connection.queries_log.clear()
            connection.close_if_unusable_or_obsolete()
            self.connected = self.connected or connection.connection is not None
        self.used = False

    async def close(self) -> None:
        """Only when nothing runs in it."""
        if self.connected or self.used:
            await asyncio.get_running_loop().run_in_executor(self, connections.close_all)
            self.connected = False
        self.shutdown(wait=False)

    async def begin_async_job(self) -> None:
        """Costs nothing unless a connection was kept open."""
        if self.connected:
            await asyncio.get_running_loop().run_in_executor(self, self.begin_job)

    async def end_async_job(self) -> None:
        """Costs nothing unless the job used the thread."""
        if self.used:
            await asyncio.get_running_loop().run_in_executor(self, self.end_job)


#: Runs the handler of an attempt and says how it ends; what is sync in it belongs in the thread.
Run = Callable[[Attempt, dict[str, Any], SlotThread], Awaitable[Ending]]


class DirectSlot:
    """Runs one job at a time with ``run``, each in a context of its own."""

    def __init__(self, lane: Lane, run: Run) -> None:
        self.lane = lane
        self.current: CurrentJob | None = None
        self._run = run
        self._thread = SlotThread()
        #: The job's handler began.
        self._began = False
        self._attempt: Attempt | None = None
        self._task: asyncio.Task[None] | None = None
        self._context = contextvars.copy_context()
        self._threads = ThreadSensitiveContext()
        self._context.run(self._prepare)

    def _prepare(self) -> None:
        # In this context sync_to_async() runs things in the slot's own thread: in the one that is otherwise shared, a
        # slow query of one job would hold up every other one.
        current_slot.set(self)
        SyncToAsync.thread_sensitive_context.set(self._threads)
        SyncToAsync.context_to_thread_executor[self._threads] = self._thread

    def start(self) -> None:
        self.lane.want(self)

    @property
    def wants(self) -> bool:
        return self._attempt is None

    def deliver(self, attempt: Attempt, message: dict[str, Any]) -> None:
        self._attempt = attempt
        self._began = False
        self.current = CurrentJob(attempt, self.lane.store, self.lane.spawn)
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._work(attempt, message), context=self._context.copy())

    def cancel(self, attempt: Attempt) -> None:
        # Cancelled before its first step a task would end without a word; _work() sees that the attempt was settled.
        if self._attempt is attempt and attempt.cancellable and self._began and self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        if self._task is not None:
            # Not for ever: the thread of a sync handler can't be cancelled.
            await end([self._task], patience=CANCEL_SECONDS)
        SyncToAsync.context_to_thread_executor.pop(self._threads, None)
        if self._attempt is None:
            await self._thread.close()

    async def _work(self, attempt: Attempt, message: dict[str, Any]) -> None:
        self._began = True
        try:
            if attempt.settled:
                raise asyncio.CancelledError
            ending = await self._run(attempt, message, self._thread)
        except BaseException as error:  # SystemExit included: a handler must not take the worker with it
            ending = ending_of(attempt, error)
        self._attempt = self.current = None
        self.lane.hand.handler_ended(attempt, ending)
        self.lane.want(self)
