"""A slot for handlers that are plain functions: no application stands between, an attempt is one asyncio task."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from .attempt import Attempt, Ending, ending_of
from .context import CurrentJob, current_slot
from .reconnect import end
from .slot import CANCEL_SECONDS
from .threads import SlotThread

if TYPE_CHECKING:
    from .lane import Lane

#: Runs the handler of an attempt and says how it ends; what is sync in it belongs in the thread.
Run = Callable[[Attempt, dict[str, Any], SlotThread], Awaitable[Ending]]


class DirectSlot:
    """Runs one job at a time with ``run``, each in a context of its own."""

    def __init__(self, lane: Lane, run: Run) -> None:
        self.lane = lane
        self.current: CurrentJob | None = None
        self._run = run
        self._thread = SlotThread(lane.threads)
        #: The job's handler began.
        self._began = False
        self._attempt: Attempt | None = None
        self._task: asyncio.Task[None] | None = None
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
        if self._attempt is None:
            await self._thread.close_connections()
        self._thread.close()

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
