"""How jobs come into a lane: claimed for slots that wait, when there may be some; successes travel along."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from . import reconnect
from .attempt import Attempt, End, Ending, encodable, trace_of
from .exceptions import Bury
from .logs import transition, transitions
from .message import new_id
from .routes import Handler, NoHandler
from .settlement import results
from .store.calls import Call, Claim, Claimed

if TYPE_CHECKING:
    from .lane import Lane
    from .slot import Slot

#: Most jobs that one claim asks for, and most successes that it reports: such a script takes the server less than 5 ms.
MAX_BATCH = 100
#: Fewer slots than this are fed by one claim: for less, its round trip costs more than the wait.
MIN_HALF = 32


class Intake:
    """Asks the store for jobs: one request at a time, and none while there is nothing to ask for."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        #: Most jobs to claim at once. Of many slots one half is fed while the other half works: neither the server nor
        #: this process waits for the other then.
        self._most = min(MAX_BATCH, max(MIN_HALF, lane.group.size // 2))
        #: Claims whose jobs have not begun here: they may be leased without anyone knowing of them yet.
        self.claiming = 0
        #: Claimed jobs that have not begun: each has one of the waiting slots to itself.
        self._arriving = 0
        self._wanting: dict[Slot, None] = {}
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

    # What there is to do

    def want(self, slot: Slot) -> None:
        self._wanting[slot] = None
        self._wake.set()

    def forget(self, slot: Slot) -> None:
        self._wanting.pop(slot, None)

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
        """Whether it could take another job, and there may be one."""
        return self._look and self._free > 0

    @property
    def _free(self) -> int:
        return max(0, len(self._wanting) - self._arriving)

    async def listen(self) -> None:
        """Wait for the doorbell while slots are hungry; the poll is the floor when a ring is lost. For ever."""
        connections = self.lane.store.connections
        keys = self.lane.store.keys(self.lane.channel)
        poll = self.lane.settings.POLL_SECONDS
        failures = 0
        async with connections.blocking_wire(poll) as doorbell:
            while True:
                await self._hungry.wait()
                rung, some = False, True
                try:
                    rung = await doorbell.ask("BLPOP", keys.bell, poll) is not None
                    # A claim that finds nothing is several commands, and most workers wait most of the time.
                    if not rung and self._due_timer is None:
                        some = await connections.async_wire().ask("EXISTS", *keys.waiting) > 0
                except (RedisError, OSError):  # whether the server is there the claim tells
                    await asyncio.sleep(reconnect.delay(failures))
                    failures += 1
                else:
                    failures = 0
                self._rang = self._rang or rung
                if some:
                    self._hungry.clear()
                    self.look()

    def stop(self) -> None:
        if self._due_timer is not None:
            self._due_timer.cancel()

    def _watch_due(self, next_due: int | None) -> None:
        if self._due_timer is not None:
            self._due_timer.cancel()
            self._due_timer = None
        if next_due is not None and not self.lane.stopping:
            self._due_timer = asyncio.get_running_loop().call_later(next_due / 1000 + 0.001, self.look)

    # Claiming

    async def feed(self) -> None:
        """Claim, for ever."""
        lane, hand = self.lane, self.lane.hand
        while True:
            wanted = 0
            if not (lane.stopping or lane.presence.quiet):
                wanted = min(self._free, lane.group.allows(lane), self._most)
            batch = hand.succeeded[:MAX_BATCH]
            if not (batch or self._rang or (wanted and self._look)):
                if self._free and not self._look and not self._held:
                    self._hungry.set()
                await self._wake.wait()
                self._wake.clear()
                continue
            self._rang = False
            self._hungry.clear()
            lane.group.took(lane, wanted)
            lane.load += wanted
            self.claiming += 1
            token, sent, claim = await self._claim(wanted, batch)
            lane.load -= wanted - len(claim.jobs)
            del hand.succeeded[: len(batch)]
            hand.told_successes(batch, claim.settled)
            if wanted:
                self._held = claim.held is not None
                # A claim moves 50 due jobs: with more of them, more can be had than it found. One that found none left
                # them to others, as its channel is paused or at its limit: other channels of its group are next.
                more = bool(claim.jobs) and claim.next_due == 0 and not self._held
                self._look = more or len(claim.jobs) >= wanted
            if not self._held or wanted:
                # Held for long, it looks with each sweep: the rate may have been changed, or the server's memory lost.
                longest = round(1000 * lane.settings.SWEEP_SECONDS)
                self._watch_due(claim.next_due if claim.held is None else min(claim.held, longest))
            if len(claim.jobs) < wanted:
                lane.group.changed()
            self._arriving += len(claim.jobs)
            beginning = self._begin_all(claim.jobs, token, sent)
            if claim.jobs and self.looking:
                lane.spawn(beginning)  # the next claim is sent first: the store works on it while these jobs begin
            else:
                await beginning  # and then the doorbell is asked, which takes as long as a job

    async def _claim(self, wanted: int, batch: list[Attempt]) -> tuple[str, float, Claim]:
        """The token, when the request that was answered was sent, and the answer."""
        token = new_id()
        sent = 0.0

        async def claim(failures: int) -> Claim:
            nonlocal sent
            sent = time.monotonic()
            return await self.lane.store.arun(self.call(token, wanted, batch, repeated=failures > 0))

        answer = await self.lane.link.until_answered(claim)
        return token, sent, answer

    def call(self, token: str, wanted: int, succeeded: list[Attempt], *, repeated: bool = False) -> Call[Claim]:
        """The request that tells of ``succeeded`` and claims ``wanted`` jobs."""
        lane = self.lane
        return lane.store.claim(
            lane.channel, lane.worker_id, token,
            wanted=wanted, succeeded=[attempt.lease for attempt in succeeded], results=results(succeeded),
            keep=lane.channel_settings.keep_succeeded, limit=lane.channel_settings.total_concurrency,
            throttle=lane.channel_settings.throttle, repeated=repeated,
        )  # fmt: skip

    def last_calls(self) -> list[Call[Claim]]:
        """The requests that tell of every success that the store doesn't know, and claim nothing."""
        succeeded = list(self.lane.hand.succeeded)  # a claim that is answered meanwhile takes some from its front
        batches = (succeeded[start : start + MAX_BATCH] for start in range(0, len(succeeded), MAX_BATCH))
        return [self.call(new_id(), 0, batch) for batch in batches]

    async def _begin_all(self, jobs: list[Claimed], token: str, sent: float) -> None:
        waiting = len(self._wanting)
        try:
            for job in jobs:
                self._begin(job, token, sent)
        finally:  # also when the worker ends by it, which waits for nothing then
            self._arriving -= len(jobs)
            self.claiming -= 1
            if waiting - len(self._wanting) < len(jobs):
                self.wake()  # what could not be run left its slot to another job
            self.lane.hand.check_empty()

    def _begin(self, job: Claimed, token: str, sent: float) -> None:
        lane, hand = self.lane, self.lane.hand
        attempt, message, problem = self._read(job, token, sent + lane.settings.LEASE_SECONDS)
        before = hand.attempts.get(job.id)
        if before is not None and not before.ended:
            # An earlier attempt lost its lease, and its handler is a thread that can't be cancelled: no job runs
            # twice at once in one process. (One that ended was given back, and this claim overtook the store's answer.)
            hand.refuse(attempt, Ending(End.SNOOZE, delay=1.0))
            return
        hand.attempts[job.id] = attempt
        if problem:
            hand.refuse(attempt, Ending(End.BURIAL, reason=problem, error=problem, trace=trace_of(Bury(problem))))
            return
        slot = None if lane.stopping else self._free_slot()
        if slot is None:
            # Meanwhile the instance that asked for it ended, or the worker was told to stop.
            hand.refuse(attempt, Ending(End.RELEASE))
            return
        attempt.slot = slot
        if transitions.isEnabledFor(logging.DEBUG):
            transition(logging.DEBUG, "started", attempt)
        slot.deliver(attempt, message)

    def _free_slot(self) -> Slot | None:
        while self._wanting:
            slot = next(iter(self._wanting))
            del self._wanting[slot]
            if slot.wants:
                return slot
            # Else its application gave up waiting, and does something else: it says so when it waits again. Counted as
            # one that wants, a job would be claimed and given back as fast as the server answers.
        return None

    def _read(self, job: Claimed, token: str, lease_until: float) -> tuple[Attempt, dict[str, Any], str]:
        """The attempt, its message, and why it can't be run: "" when it can."""
        lane = self.lane
        problem = ""
        message: dict[str, Any] = {}
        carried: Mapping[str, str] | None = None
        try:
            message, carried = lane.layer.open(job.payload)
        except ValueError as error:
            problem = f"its message can't be decoded: {error}"
        message_type = message.get("type")
        if not problem and (not isinstance(message_type, str) or not message_type):
            problem = "its message has no type"
        try:
            handler = lane.route.handler(message_type if isinstance(message_type, str) else "")
        except NoHandler as error:
            problem = problem or str(error)
            handler = Handler(lane.channel_settings.policy, cancellable=True)
        policy = handler.policy
        if job.policy:
            try:
                policy = policy.merged_json(job.policy)
            except (ValueError, TypeError) as error:
                problem = problem or f"its policy can't be read: {error}"
        if not problem and policy.deadline is not None and job.age / 1000 >= policy.deadline:
            problem = f"its deadline of {policy.deadline} s after it was enqueued has passed"
        attempt = Attempt(
            lane.channel, job, token, message_type=encodable(str(message_type or "")),
            policy=policy, cancellable=handler.cancellable, worker=lane.worker_id, lease_until=lease_until,
        )  # fmt: skip
        if carried is not None:
            attempt.carried = carried
        return attempt, message, encodable(problem)
