"""A slot for handlers that are plain functions: no application stands between."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from asgiref.sync import SyncToAsync
from django.db import close_old_connections

from . import hooks
from .attempt import SUCCESS, Attempt, End, Ending, ending_of
from .context import Running, current_slot
from .reconnect import end
from .slot import CANCEL_SECONDS
from .threads import SlotThread, close_used_connections

if TYPE_CHECKING:
    from .lane import Lane

logger = logging.getLogger("retrying.worker")


class Runner(Protocol):
    """Runs the handlers of a channel's jobs, and says how their attempts end."""

    async def run(self, attempt: Attempt, message: dict[str, Any], thread: SlotThread) -> Ending:
        """On the loop, when the attempt can be cancelled; what is sync in it runs in ``thread``."""

    def run_in_thread(self, attempt: Attempt, message: dict[str, Any]) -> Ending:
        """In one of the worker's threads, when it can't be."""


class DirectSlot(Running):
    """Runs one job at a time, each in a context of its own: as an asyncio task, or as one call in a thread."""

    def __init__(self, lane: Lane, runner: Runner) -> None:
        self.lane = lane
        self._runner = runner
        self._thread = SlotThread(lane.threads)
        #: The job's handler began.
        self._began = False
        #: Of the last job, whichever it was: the task that ran its handler on the loop, the call that did in a thread.
        self._task: asyncio.Task[None] | None = None
        self._call: asyncio.Future[tuple[Attempt, Ending]] | None = None
        self._context = contextvars.copy_context()
        self._context.run(current_slot.set, self)
        self._context.run(self._thread.enter)

    def start(self) -> None:
        self.lane.want(self)

    @property
    def wants(self) -> bool:
        return self._attempt is None

    def deliver(self, attempt: Attempt, message: dict[str, Any]) -> None:
        self._attempt = attempt
        self._began = False
        context, loop = self._context.copy(), self.lane.loop
        if attempt.cancellable:
            self._task = loop.create_task(self._run(attempt, message), context=context)
        else:
            work = partial(context.run, self._run_in_thread, attempt, message)
            # As sync_to_async() does it, for the async_to_sync() of handlers: their coroutines belong on our loop.
            work = partial(_ADAPTER.thread_handler, loop, (None, None, None), [], work)
            self._call = self.lane.threads.submit(work)
            self._call.add_done_callback(self._ran_in_thread)

    def cancel(self, attempt: Attempt) -> None:
        # Cancelled before its first step a task would end without a word; _run() sees that the attempt was settled.
        if self._attempt is attempt and attempt.cancellable and self._began and self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        # Not for ever: a handler may swallow its cancellation, and a sync one can't be cancelled.
        if self._task is not None:
            await end([self._task], patience=CANCEL_SECONDS)
        if self._call is not None:
            await asyncio.wait([self._call], timeout=CANCEL_SECONDS)
            self._call.cancel()
        if self._attempt is None:
            await self._thread.close_connections()
        self._thread.close()

    async def _run(self, attempt: Attempt, message: dict[str, Any]) -> None:
        self._began = True
        try:
            if attempt.settled:
                raise asyncio.CancelledError
            if hooks.observers:
                hooks.began(attempt)
            ending = await self._runner.run(attempt, message, self._thread)
        except BaseException as error:  # SystemExit included: a handler must not take the worker with it
            ending = _ending(attempt, error)
        if attempt.observed is not None:
            hooks.ended(attempt, ending)
        self._ended(attempt, ending)

    def _run_in_thread(self, attempt: Attempt, message: dict[str, Any]) -> tuple[Attempt, Ending]:
        try:
            close_old_connections()
            try:
                if attempt.settled:
                    raise asyncio.CancelledError
                if hooks.observers:
                    hooks.began(attempt)
                ending = self._runner.run_in_thread(attempt, message)
            finally:
                close_used_connections()
        except BaseException as error:
            ending = _ending(attempt, error)
        if attempt.observed is not None:
            hooks.ended(attempt, ending)
        return attempt, ending

    def _ran_in_thread(self, work: asyncio.Future[tuple[Attempt, Ending]]) -> None:
        if not work.cancelled():  # by close()
            self._ended(*work.result())

    def _ended(self, attempt: Attempt, ending: Ending) -> None:
        self._attempt = None
        self.lane.hand.handler_ended(attempt, ending)
        self.lane.want(self)


def _ending(attempt: Attempt, error: BaseException) -> Ending:
    if attempt.settled:
        return SUCCESS  # nobody asks any more
    ending = ending_of(attempt, error)
    if ending.end in (End.RETRY, End.BURIAL):
        logger.debug("attempt failed %s", attempt, exc_info=error)
    return ending


#: Made once: only its ways of calling something in a thread are used.
_ADAPTER = SyncToAsync(lambda: None)
