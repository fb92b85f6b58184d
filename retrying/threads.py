"""Threads for what is sync in handlers.

Handlers that are sync as a whole share the worker's threads: a call runs in whichever is free, and one thread runs many
short ones in a row, because to wake a thread for each, and the event loop for each answer, as concurrent.futures does,
costs more than most of them take. What is sync in an async
handler runs in a thread that its slot has to itself, so that all of it shares one database connection.

Database connections live as in Django's request cycle: checked before each job, and after it those are closed that
CONN_MAX_AGE doesn't keep.
"""

from __future__ import annotations

import asyncio
import threading
from _thread import LockType, allocate_lock
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple

import channels.consumer
import channels.db
from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext
from django.db import close_old_connections, connections

#: Of every thread's name.
NAME = "retrying-slot"
#: Seconds that threads get to close their connections.
CLOSE_SECONDS = 1.0
#: Of the slot whose handler runs.
_slot_thread: ContextVar[SlotThread | None] = ContextVar("retrying_slot_thread", default=None)


class _Call(NamedTuple):
    future: asyncio.Future[Any]
    function: Callable[[], Any]


class Threads:
    """As many threads as calls run at the same time, started as they are needed; those used last are used first.

    A thread that begins a call wakes another one if more calls wait and none is on its way: should it block, that one
    takes over at once; should it not, it has run them all before the other has got hold of the interpreter.
    """

    def __init__(self) -> None:
        #: Most threads; each slot that takes part adds one.
        self.size = 0
        self._started = 0
        self._calls: deque[_Call] = deque()
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._telling = False
        #: Held to change the two below.
        self._lock = allocate_lock()
        self._idle: list[LockType] = []
        #: A thread was woken or started, and will look for calls.
        self._coming = False
        #: Of threads that are to end.
        self._ends: dict[LockType, asyncio.Future[None]] = {}
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run ``function`` in a thread; to be called in an event loop."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        future = loop.create_future()
        self._calls.append(_Call(future, function))
        self._wake()
        return future

    async def close(self) -> None:
        """End the threads that do nothing, each with its connections; a handler that never returns is left alone."""
        with self._lock:
            self._closing = True
            idle, self._idle = self._idle, []
        for lock in idle:
            self._ends[lock] = asyncio.get_running_loop().create_future()
            lock.release()
        if ends := list(self._ends.values()):
            await asyncio.wait(ends, timeout=CLOSE_SECONDS)

    def _wake(self) -> None:
        with self._lock:
            if self._coming:
                return
            if self._idle:
                self._coming = True
                self._idle.pop().release()
            elif self._started < self.size:
                number = self._started + 1
                try:
                    threading.Thread(target=self._work, name=f"{NAME}-{number}", daemon=True).start()
                except RuntimeError:  # the machine gives no more
                    if not self._started:
                        self._calls.clear()
                        raise
                else:
                    self._coming = True
                    self._started = number
            # Else one of them is between two calls, and looks for the next one.

    def _work(self) -> None:
        asleep = allocate_lock()
        asleep.acquire()
        while True:
            with self._lock:
                self._coming = False  # before the look: who adds a call from here on wakes another thread
            self._run_calls()
            with self._lock:
                if self._calls:  # added after the look, too early to wake this thread
                    continue
                if self._closing:
                    break
                self._idle.append(asleep)
            asleep.acquire()
        connections.close_all()
        if (end := self._ends.get(asleep)) is not None:
            self._tell_soon(end, None, None)

    def _run_calls(self) -> None:
        while True:
            try:
                call = self._calls.popleft()
            except IndexError:
                return  # and keep nothing of the last call while the thread sleeps
            if self._calls:
                self._wake()
            if not call.future.done():  # else nobody waits any more
                value, error = _outcome(call.function)
                self._tell_soon(call.future, value, error)

    def _tell_soon(self, future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
        loop = future.get_loop()
        try:
            if loop is not self._loop:
                loop.call_soon_threadsafe(_tell, future, value, error)
                return
            self._done.append((future, value, error))
            if not self._telling:
                self._telling = True
                loop.call_soon_threadsafe(self._tell_all)
        except RuntimeError:  # the loop is closed
            pass

    def _tell_all(self) -> None:
        self._telling = False  # first: whatever is done from here on is told below, or comes here again
        while self._done:
            _tell(*self._done.popleft())


def _outcome(function: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return function(), None
    except BaseException as raised:  # it is the caller's
        return None, raised


def _tell(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    elif isinstance(error, StopIteration):  # which no future can carry
        future.set_exception(RuntimeError(f"a sync handler raised {error!r}"))
    else:
        future.set_exception(error)


class SlotThread(Executor):
    """Where a slot's handlers run what is sync in them: a thread of its own, started when it is needed.

    asgiref's executor for the slot's context: without one of its own, ``sync_to_async`` would run things in the one
    thread that all slots share, and a slow query of one job would hold up every other one.
    """

    def __init__(self, threads: Threads) -> None:
        #: What is submitted is a whole handler: it may run in any of the worker's threads.
        self.shared = False
        #: A connection was open when they were looked at last.
        self.connected = False
        self._threads = threads
        threads.size += 1
        self._context = ThreadSensitiveContext()
        self._own: ThreadPoolExecutor | None = None
        #: Calls that were submitted, and how many of them had been when the connections were looked at last.
        self._calls = self._looked = 0

    def enter(self) -> None:
        """From here on, ``sync_to_async`` in the running context runs things here."""
        _slot_thread.set(self)
        SyncToAsync.thread_sensitive_context.set(self._context)
        SyncToAsync.context_to_thread_executor[self._context] = self

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """asyncio's ``run_in_executor`` takes a future of the loop's as well, and uses it as it is."""
        if self.shared:
            return self._threads.submit(partial(fn, *args, **kwargs))
        return self._submit(fn, *args, **kwargs)

    async def begin_job(self) -> None:
        """Costs nothing unless a connection was kept open."""
        if self.connected:
            await asyncio.wrap_future(self._submit(close_old_connections))

    async def end_job(self) -> None:
        """Costs nothing unless something ran in the thread."""
        if self.used:
            await asyncio.wrap_future(self._submit(self._look, self._calls + 1))

    async def close_connections(self) -> None:
        """Only when nothing runs in it."""
        if self.connected or self.used:
            calls = self._calls + 1  # what a handler's own task submits meanwhile is looked at later
            await asyncio.wrap_future(self._submit(connections.close_all))
            self.connected, self._looked = False, calls

    def close(self) -> None:
        """Let go of the thread, with whatever still runs in it."""
        SyncToAsync.context_to_thread_executor.pop(self._context, None)
        if self._own is not None:
            self._own.shutdown(wait=False)

    @property
    def is_entered(self) -> bool:
        """Whether ``sync_to_async`` in the running context runs things in this thread: nobody has entered a context of
        their own since."""
        return not self.shared and SyncToAsync.thread_sensitive_context.get(None) is self._context

    @property
    def used(self) -> bool:
        """Something was submitted since the connections were looked at."""
        return self._calls != self._looked

    def _submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._calls += 1
        if self._own is None:
            self._own = ThreadPoolExecutor(max_workers=1, thread_name_prefix=NAME)
        return self._own.submit(fn, *args, **kwargs)

    def _look(self, calls: int) -> None:
        self.connected = close_used_connections()
        self._looked = calls


async def aclose_old_connections() -> None:
    """Channels' function of that name; in a slot it costs nothing where no connection can be open."""
    thread = _slot_thread.get()
    if thread is None or not thread.is_entered:
        await channels.db.aclose_old_connections()
    elif thread.used or thread.connected:
        if getattr(AsyncToSync.executors, "current", None) is not None:
            # Inside of async_to_sync, by a call that the thread runs: it would wait for itself.
            await channels.db.aclose_old_connections()
        elif thread.used:
            await thread.end_job()
        else:
            await thread.begin_job()


def spare_looks() -> None:
    """Have Channels' consumers call ``aclose_old_connections`` from here, in this process.

    They do it before each message, and have no other place for it. Their own goes through ``sync_to_async``, which is
    nearly half of a job's cost, even if it never comes to a thread. Elsewhere than in a slot it is what runs still.
    """
    if hasattr(channels.consumer, "aclose_old_connections"):
        channels.consumer.aclose_old_connections = aclose_old_connections


def close_used_connections() -> bool:
    """One pass over the thread's connections that does what Django does between two requests: it is paid for each job.

    Whether one is still open.
    """
    still_open = False
    for connection in connections.all(initialized_only=True):
        connection.queries_log.clear()
        connection.close_if_unusable_or_obsolete()
        still_open = still_open or connection.connection is not None
    return still_open
