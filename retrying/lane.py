"""One channel in one worker: claims jobs for free slots and settles finished ones, both in one round trip."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from . import reconnect
from .attempt import Attempt, End, Ending, ending_of, trace_of
from .exceptions import AttemptTimeout, Bury, RetryingError
from .link import Link
from .message import new_id
from .routes import Handler, NoHandler
from .settlement import report, results, settle
from .slot import CANCEL_SECONDS, Slot
from .store.calls import Call, Claim, Claimed, Renewed, Settled
from .sweeper import sweep

if TYPE_CHECKING:
    from .conf import ChannelSettings, Settings
    from .group import Group
    from .joblayer import JobLayer
    from .reports import Reports
    from .routes import Route

logger = logging.getLogger("retrying.worker")

#: Told of the end of every attempt, once the store has answered: the attempt, how it ended, the store's answer.
OnEnd = Callable[[Attempt, Ending, "Settled | tuple[Settled, int | None]"], object]

#: Most jobs that one claim asks for, and most successes that it reports: bounds one script's time on the server.
MAX_BATCH = 200
#: Seconds that a last word to the store may take at shutdown.
TELL_SECONDS = 5.0
#: Seconds between two looks for timeouts and leases about to end.
TICK = 0.2
#: Share of the lease before whose end an attempt that could not be renewed is stopped; never less than two ticks.
FENCE_MARGIN = 0.1


class Lane:
    """Feeds slots with the jobs of one channel; how many it may use at a time, its group says."""

    def __init__(
        self,
        route: Route,
        layer: JobLayer,
        worker_id: str,
        *,
        settings: Settings,
        channel_settings: ChannelSettings,
        group: Group,
        on_end: OnEnd | None,
        on_failure: Callable[[], object],
    ) -> None:
        """``on_failure``: called when a part of the lane failed for good. ``on_end``: see Worker."""
        self.route = route
        self.channel = route.channel
        self.layer = layer
        self.store = layer.store
        self.worker_id = worker_id
        self.settings = settings
        self.keep_succeeded = channel_settings.keep_succeeded
        self.total_concurrency = channel_settings.total_concurrency
        self.throttle = channel_settings.throttle
        self.link = Link(route.channel)
        self.group = group
        group.lanes.append(self)
        #: No more jobs are taken.
        self.stopping = False
        #: Jobs in hand, by id: handlers that run, and ends that the store doesn't know yet.
        self.attempts: dict[str, Attempt] = {}
        #: Slots of the group in use: handlers that run, and jobs being claimed.
        self.load = 0
        #: Attempts that ended so far.
        self.done = 0
        self.slots: list[Slot] = [route.slot(self) for _ in range(group.size)]
        self._wanting: dict[Slot, None] = {}
        self._succeeded: list[Attempt] = []
        self._wake = asyncio.Event()
        #: There may be ready jobs: the last claim took all it asked for, or something rang.
        self._look = True
        #: The doorbell was taken: it must be answered or passed on.
        self._rang = False
        #: The channel's rate lets no more jobs pass before a time that a timer waits for; a bell doesn't matter.
        self._held = False
        #: Slots wait, and the last look found nothing.
        self._hungry = asyncio.Event()
        self._due_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        #: A claim is on its way: jobs may be leased that we don't know of yet.
        self._claiming = False
        #: No job is in hand; when stopping also: no handler runs.
        self._empty = asyncio.Event()
        self._on_end = on_end
        self._on_failure = on_failure

    def start(self) -> None:
        for work in (self._feed(), self._listen(), sweep(self)):
            self.spawn(work)
        for slot in self.slots:
            slot.start()

    async def drain(self, timeout: float, hurry: asyncio.Event) -> None:
        """Take no more jobs, and let running ones end: at most ``timeout`` seconds, or until ``hurry``.
        What is left then is cancelled and given back uncharged."""
        self.stopping = True
        deadline = time.monotonic() + timeout
        while self.attempts or (self._claiming and not self.link.down):
            self._empty.clear()
            waits = [asyncio.create_task(event.wait()) for event in (self._empty, hurry)]
            await asyncio.wait(waits, timeout=max(0, deadline - time.monotonic()), return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if hurry.is_set() or time.monotonic() >= deadline:
                break
        left = [attempt for attempt in self.attempts.values() if not attempt.settled]
        for attempt in left:
            attempt.settled = True
            self._interrupt(attempt, "the worker stops")
        if left:
            self._empty.clear()
            cancelled = asyncio.create_task(self._empty.wait())
            await asyncio.wait([cancelled], timeout=CANCEL_SECONDS)
            cancelled.cancel()
            logger.warning("released at shutdown: %d running jobs of channel %s", len(left), self.channel)
            await self._tell(self.store.release(self.channel, [attempt.lease for attempt in left]))
        if ends := list(self._succeeded):
            leases, kept = [attempt.lease for attempt in ends], results(ends)
            call = self.store.claim(
                self.channel, self.worker_id, new_id(),
                wanted=0, succeeded=leases, results=kept, keep=self.keep_succeeded,
            )  # fmt: skip
            await self._tell(call)
        await self._tell(self.store.leave(self.channel, self.worker_id))

    async def stop(self) -> None:
        """End every task; jobs that are still in hand come back when their leases end."""
        self.stopping = True
        if self._due_timer is not None:
            self._due_timer.cancel()
        while self._tasks:  # what ends may have begun something else meanwhile
            await reconnect.end(self._tasks)
        await asyncio.gather(*(slot.close() for slot in self.slots))

    # What slots say

    def want(self, slot: Slot) -> None:
        """``slot`` waits for a job."""
        if not self.stopping:
            self._wanting[slot] = None
            self._wake.set()

    def wake(self) -> None:
        """Something changed: look again at what there is to do."""
        self._wake.set()

    def look(self) -> None:
        """There may be ready jobs."""
        self._look = True
        self._held = False
        self._wake.set()

    @property
    def looking(self) -> bool:
        """Whether it could run another job, and there may be one."""
        return self._look and bool(self._wanting)

    def forget(self, slot: Slot) -> None:
        self._wanting.pop(slot, None)

    def handler_ended(self, attempt: Attempt, ending: Ending) -> None:
        """The handler of ``attempt`` runs no more, and the attempt ends so, unless its end was decided before."""
        self._ended(attempt)
        if attempt.settled:
            self._drop(attempt)
            if attempt.unrenewed:
                self.spawn(self._give_back(attempt))
        else:
            self._settle(attempt, ending)

    def release(self, attempt: Attempt) -> None:
        """Give ``attempt`` back uncharged: its handler never began."""
        self._ended(attempt)
        if not attempt.settled:
            self._settle(attempt, Ending(End.RELEASE))

    # What time and the renewal say

    def tick(self) -> None:
        """Look for attempts past their timeout, and for leases that could not be renewed in time."""
        now = time.monotonic()
        margin = max(self.settings.LEASE_SECONDS * FENCE_MARGIN, 2 * TICK)
        for attempt in list(self.attempts.values()):
            if attempt.settled:
                continue
            if now >= attempt.lease_until - margin:
                attempt.unrenewed = True
                self.lose(attempt, "it could not be renewed in time")
            elif attempt.timeout_at is not None and now >= attempt.timeout_at and not attempt.stop_reason:
                limit = f"the attempt took longer than its timeout of {attempt.policy.timeout} s"
                self._stop_handler(attempt, "timeout", AttemptTimeout(limit))

    def renewed(self, attempt: Attempt, answer: Renewed) -> None:
        if answer is Renewed.LOST:
            self.lose(attempt, "it was given to another worker")
        elif answer is Renewed.CANCELLING and not attempt.stop_reason:
            self._stop_handler(attempt, "cancelled on request", asyncio.CancelledError())

    def lose(self, attempt: Attempt, why: str) -> None:
        """The lease of ``attempt`` is no longer ours: its handler is told, and nothing that it reports counts."""
        if attempt.settled:
            return
        attempt.settled = attempt.told = True
        logger.warning("lease lost: %s %s", why, attempt)
        self._interrupt(attempt, "lease lost")
        self._drop(attempt)

    def _stop_handler(self, attempt: Attempt, reason: str, error: BaseException) -> None:
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

    # Claiming

    async def _feed(self) -> None:
        while True:
            wanted = 0 if self.stopping else min(len(self._wanting), self.group.allows(self), MAX_BATCH)
            batch = self._succeeded[:MAX_BATCH]
            if not (batch or self._rang or (wanted and self._look)):
                if self._wanting and not self._look and not self._held:
                    self._hungry.set()
                await self._wake.wait()
                self._wake.clear()
                continue
            self._rang = False
            self._hungry.clear()
            self.group.took(self, wanted)
            self.load += wanted
            self._claiming = True
            token, sent, claim = await self._claim(wanted, batch)
            self._claiming = False
            self.load -= wanted - len(claim.jobs)
            del self._succeeded[: len(batch)]
            for attempt, answer in zip(batch, claim.settled, strict=True):
                self._told(attempt, Ending(End.SUCCESS), answer)
            if wanted:
                self._look = len(claim.jobs) >= wanted
                self._held = claim.held is not None
            if not self._held or wanted:
                self._watch_due(claim.held if self._held else claim.next_due)
            for job in claim.jobs:
                self._begin(job, token, sent)
            if len(claim.jobs) < wanted:
                self.group.changed()
            if not self.attempts:
                self._empty.set()

    async def _claim(self, wanted: int, batch: list[Attempt]) -> tuple[str, float, Claim]:
        """The token, when the request that was answered was sent, and the answer."""
        token = new_id()
        leases, kept = [attempt.lease for attempt in batch], results(batch)
        sent = 0.0

        async def claim(failures: int) -> Claim:
            nonlocal sent
            sent = time.monotonic()
            call = self.store.claim(
                self.channel, self.worker_id, token,
                wanted=wanted, succeeded=leases, results=kept, keep=self.keep_succeeded, limit=self.total_concurrency,
                throttle=self.throttle, repeated=failures > 0,
            )  # fmt: skip
            return await self.store.arun(call)

        answer = await self.link.until_answered(claim)
        return token, sent, answer

    def _begin(self, job: Claimed, token: str, sent: float) -> None:
        lease_until = sent + self.settings.LEASE_SECONDS
        problem = ""
        message: dict[str, Any] = {}
        try:
            message = self.layer.decode(job.payload)
        except ValueError as error:
            problem = f"its message can't be decoded: {error}"
        message_type = message.get("type")
        if not problem and (not isinstance(message_type, str) or not message_type):
            problem = "its message has no type"
        try:
            handler = self.route.handler(message_type if isinstance(message_type, str) else "")
        except NoHandler as error:
            problem = problem or str(error)
            handler = Handler(self.settings.channel(self.channel).policy, cancellable=True)
        policy = handler.policy
        if job.policy:
            try:
                policy = policy.merged_json(job.policy)
            except (ValueError, TypeError) as error:
                problem = problem or f"its policy can't be read: {error}"
        if not problem and policy.deadline is not None and job.age / 1000 >= policy.deadline:
            problem = f"its deadline of {policy.deadline} s after it was enqueued has passed"
        attempt = Attempt(
            self.channel, job, token, message_type=str(message_type),
            policy=policy, cancellable=handler.cancellable, worker=self.worker_id, lease_until=lease_until,
        )  # fmt: skip
        if job.id in self.attempts:
            # An earlier attempt lost its lease, and its handler is a thread that can't be cancelled: no job runs
            # twice at once in one process.
            self._ended(attempt)
            self._settle(attempt, Ending(End.SNOOZE, delay=1.0))
            return
        self.attempts[job.id] = attempt
        if problem:
            self._ended(attempt)
            self._settle(attempt, Ending(End.BURIAL, reason=problem, error=problem, trace=trace_of(Bury(problem))))
            return
        slot = None if self.stopping else next((slot for slot in self._wanting if slot.wants), None)
        if slot is None:
            self.release(attempt)  # meanwhile the instance that asked for it ended, or the worker was told to stop
            return
        del self._wanting[slot]
        attempt.slot = slot
        logger.debug("started %s", attempt)
        slot.deliver(attempt, message)

    async def _listen(self) -> None:
        """Wait for the doorbell while slots are hungry; the poll is the floor when a ring is lost."""
        bell = self.store.keys(self.channel).bell
        failures = 0
        while True:
            await self._hungry.wait()
            try:
                rung = await self.store.connections.async_().blpop([bell], timeout=self.settings.POLL_SECONDS)
            except (RedisError, OSError):
                await asyncio.sleep(reconnect.delay(failures))
                failures += 1
                rung = None
            else:
                failures = 0
            self._rang = self._rang or rung is not None
            self._hungry.clear()
            self.look()

    def _watch_due(self, next_due: int | None) -> None:
        if self._due_timer is not None:
            self._due_timer.cancel()
            self._due_timer = None
        if next_due is not None and not self.stopping:
            self._due_timer = asyncio.get_running_loop().call_later(next_due / 1000 + 0.001, self.look)

    # Settling

    def _ended(self, attempt: Attempt) -> None:
        """No handler runs for ``attempt`` any more: its slot is free."""
        attempt.ended = True
        self.load -= 1
        self.done += 1
        self.group.changed()

    def _settle(self, attempt: Attempt, ending: Ending) -> None:
        attempt.settled = True
        attempt.ending = ending
        if attempt.reports is not None:
            self.spawn(self._settle_after(attempt.reports, attempt, ending))
        elif ending.end is End.SUCCESS:
            self._succeeded.append(attempt)
            self._wake.set()
        else:
            self.spawn(self._settle_now(attempt, ending))

    async def _settle_after(self, reports: Reports, attempt: Attempt, ending: Ending) -> None:
        await reports.finish()
        attempt.reports = None
        self._settle(attempt, ending)

    async def _settle_now(self, attempt: Attempt, ending: Ending) -> None:
        call = settle(self.store, attempt, ending)
        (answer,) = await self.link.until_answered(lambda _: self.store.arun(call))
        self._told(attempt, ending, answer)

    async def _give_back(self, attempt: Attempt) -> None:
        """No handler runs for ``attempt`` any more, and nobody vanished: should the store not have given it away yet,
        it costs no rescue."""
        call = self.store.release(self.channel, [attempt.lease])
        await self.link.until_answered(lambda _: self.store.arun(call))

    def _told(self, attempt: Attempt, ending: Ending, answer: Settled | tuple[Settled, int | None]) -> None:
        """The store answered to the end of ``attempt``."""
        attempt.told = True
        self._drop(attempt)
        report(attempt, ending, answer)
        if self._on_end is not None:
            self._on_end(attempt, ending, answer)

    def _drop(self, attempt: Attempt) -> None:
        """Forget ``attempt`` once its handler has ended and the store knows."""
        if attempt.ended and attempt.told and self.attempts.get(attempt.lease.job_id) is attempt:
            del self.attempts[attempt.lease.job_id]
        if not self.attempts or (self.stopping and all(item.ended for item in self.attempts.values())):
            self._empty.set()

    # Small things

    @property
    def consuming(self) -> bool:
        """Whether jobs of the channel are being taken: the store answered within two sweeps."""
        return not self.stopping and self.link.heard_within(2 * self.settings.SWEEP_SECONDS + 1)

    async def _tell(self, call: Call[Any]) -> None:
        try:
            await asyncio.wait_for(self.store.arun(call), TELL_SECONDS)
        except (RetryingError, TimeoutError) as error:
            logger.warning("not told to the store at shutdown channel=%s: %s", self.channel, error)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` until the lane stops. When it raises, the worker ends."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A listener that dies silently makes a deaf worker: better none at all, somebody will notice.
            logger.critical("channel %s: a part of the worker failed, the worker ends", self.channel, exc_info=error)
            self._on_failure()
