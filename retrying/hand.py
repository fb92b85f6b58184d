"""The jobs that a lane has in hand: from their lease to the store's answer to their end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .attempt import SUCCESS, Attempt, End, Ending, ending_of
from .exceptions import AttemptTimeout
from .logs import transition, transitions
from .settlement import report, settle
from .store.calls import Lease, Renewed, Settled

if TYPE_CHECKING:
    from .lane import Lane
    from .reports import Reports

#: Told of the end of every attempt, once the store has answered: the attempt, how it ended, the store's answer.
OnEnd = Callable[[Attempt, Ending, "Settled | tuple[Settled, int | None]"], object]

#: Seconds between two looks for timeouts and leases about to end.
TICK = 0.2
#: Share of the lease before whose end an attempt that could not be renewed is stopped; never less than two ticks.
FENCE_MARGIN = 0.1


class Hand:
    """Ends attempts, each once: what was decided first counts, whatever its handler does later."""

    def __init__(self, lane: Lane, on_end: OnEnd | None) -> None:
        self.lane = lane
        self._on_end = on_end
        #: By the job's id: handlers that run, and ends that the store doesn't know yet.
        self.attempts: dict[str, Attempt] = {}
        #: Attempts that succeeded; the next claim tells the store.
        self.succeeded: list[Attempt] = []
        #: Attempts that ended so far.
        self.done = 0
        #: Nothing is in hand; when the lane is stopping also: no handler runs.
        self._empty = asyncio.Event()

    # Handlers that end

    def handler_ended(self, attempt: Attempt, ending: Ending) -> None:
        """The handler of ``attempt`` runs no more, and the attempt ends so, unless its end was decided before."""
        self._ended(attempt)
        if attempt.settled:
            self._drop(attempt)
            if attempt.unrenewed:
                self.lane.spawn(self._give_back(attempt))
        else:
            self._settle(attempt, ending)

    def refuse(self, attempt: Attempt, ending: Ending) -> None:
        """``attempt`` ends so, and its handler never began."""
        self._ended(attempt)
        if not attempt.settled:
            self._settle(attempt, ending)

    def told_successes(self, attempts: list[Attempt], answers: list[Settled]) -> None:
        """``told`` for many that succeeded: as little as possible for each."""
        quiet = self._on_end is None and not transitions.isEnabledFor(logging.DEBUG)
        in_hand = self.attempts
        for attempt, answer in zip(attempts, answers, strict=True):
            if quiet and answer is not Settled.LOST and in_hand.get(attempt.job.id) is attempt:
                attempt.told = True
                del in_hand[attempt.job.id]
            else:
                self.told(attempt, attempt.ending or SUCCESS, answer)
        self.check_empty()

    def told(self, attempt: Attempt, ending: Ending, answer: Settled | tuple[Settled, int | None]) -> None:
        """The store answered to the end of ``attempt``."""
        attempt.told = True
        self._drop(attempt)
        report(attempt, ending, answer)
        if self._on_end is not None:
            self._on_end(attempt, ending, answer)

    def _ended(self, attempt: Attempt) -> None:
        attempt.ended = True
        self.done += 1
        self.lane.freed()

    def _settle(self, attempt: Attempt, ending: Ending) -> None:
        attempt.settled = True
        attempt.ending = ending
        if attempt.reports is not None:
            self.lane.spawn(self._settle_after(attempt.reports, attempt, ending))
        elif ending.end is End.SUCCESS:
            self.succeeded.append(attempt)
            self.lane.wake()
        else:
            self.lane.spawn(self._settle_now(attempt, ending))

    async def _settle_after(self, reports: Reports, attempt: Attempt, ending: Ending) -> None:
        await reports.finish()
        attempt.reports = None
        self._settle(attempt, ending)

    async def _settle_now(self, attempt: Attempt, ending: Ending) -> None:
        call = settle(self.lane.store, attempt, ending)
        (answer,) = await self.lane.link.until_answered(lambda _: self.lane.store.arun(call))
        self.told(attempt, ending, answer)

    async def _give_back(self, attempt: Attempt) -> None:
        """No handler runs for ``attempt`` any more, and nobody vanished: should the store not have given it away yet,
        it costs no rescue."""
        call = self.lane.store.release(self.lane.channel, [attempt.lease])
        await self.lane.link.until_answered(lambda _: self.lane.store.arun(call))

    def _drop(self, attempt: Attempt) -> None:
        """Forget ``attempt`` once its handler has ended and the store knows."""
        if attempt.ended and attempt.told and self.attempts.get(attempt.lease.job_id) is attempt:
            del self.attempts[attempt.lease.job_id]
        self.check_empty()

    def check_empty(self) -> None:
        if not self.attempts or (self.lane.stopping and all(item.ended for item in self.attempts.values())):
            self._empty.set()

    # What time and the renewal say

    def tick(self) -> None:
        """Look for attempts past their timeout, and for leases that could not be renewed in time."""
        now = time.monotonic()
        margin = max(self.lane.settings.LEASE_SECONDS * FENCE_MARGIN, 2 * TICK)
        for attempt in list(self.attempts.values()):
            if attempt.settled:
                continue
            if now >= attempt.lease_until - margin:
                attempt.unrenewed = True
                self._lose(attempt, "it could not be renewed in time")
            elif attempt.timeout_at is not None and now >= attempt.timeout_at and not attempt.stop_reason:
                limit = f"the attempt took longer than its timeout of {attempt.policy.timeout} s"
                self._stop(attempt, "timeout", AttemptTimeout(limit))

    def renewed(self, attempt: Attempt, answer: Renewed) -> None:
        if answer is Renewed.LOST:
            self._lose(attempt, "it was given to another worker")
        elif answer is Renewed.CANCELLING and not attempt.stop_reason:
            self._stop(attempt, "cancelled on request", asyncio.CancelledError())

    def _lose(self, attempt: Attempt, why: str) -> None:
        """The lease of ``attempt`` is no longer ours: its handler is told, and nothing that it reports counts."""
        if attempt.settled:
            return
        attempt.settled = attempt.told = True
        transition(logging.WARNING, "lease lost", attempt, reason=why)
        self._interrupt(attempt, "lease lost")
        self._drop(attempt)

    def _stop(self, attempt: Attempt, reason: str, error: BaseException) -> None:
        if attempt.cancellable:
            # Settled before its cancellation: a handler that swallows it must not turn this into a success.
            attempt.stop_reason = reason
            self._settle(attempt, ending_of(attempt, error))
        self._interrupt(attempt, reason)

    @staticmethod
    def _interrupt(attempt: Attempt, reason: str) -> None:
        attempt.stop_reason = reason
        if attempt.slot is not None:
            attempt.slot.cancel(attempt)

    # Shutdown

    async def until_empty(self, seconds: float, hurry: asyncio.Event | None = None) -> None:
        """Wait until nothing is in hand (when stopping: until no handler runs), at most so long, or until ``hurry``."""
        self._empty.clear()
        events = (self._empty, hurry) if hurry else (self._empty,)
        waits = [asyncio.create_task(event.wait()) for event in events]
        await asyncio.wait(waits, timeout=max(0, seconds), return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def interrupt_all(self) -> list[Lease]:
        """Cancel every handler that still runs; nothing that they report counts. Returns their leases."""
        left = [attempt for attempt in self.attempts.values() if not attempt.settled]
        for attempt in left:
            attempt.settled = True
            self._interrupt(attempt, "the worker stops")
        return [attempt.lease for attempt in left]
