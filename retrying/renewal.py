"""Keeps leases alive, in a thread of its own: a handler that blocks the event loop must not lose its lease."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .attempt import Attempt
from .exceptions import RetryingError

if TYPE_CHECKING:
    from .conf import Settings
    from .lane import Lane

logger = logging.getLogger("retrying.worker")

#: Renewals in a lease.
PER_LEASE = 6
#: Most leases in one request.
MAX_BATCH = 500
#: Exit status after a hard timeout: EX_SOFTWARE of sysexits.h; the supervisor starts a new process.
HARD_TIMEOUT_STATUS = 70


class Renewal(threading.Thread):
    """Renews the leases of all lanes a few times within a lease, and enforces the hard timeout."""

    def __init__(self, lanes: Sequence[Lane], loop: asyncio.AbstractEventLoop, settings: Settings) -> None:
        super().__init__(name="retrying-renewal", daemon=True)
        self._lanes = lanes
        self._loop = loop
        self._lease = settings.LEASE_SECONDS
        self._hard_timeout = settings.HARD_TIMEOUT_SECONDS
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        pause = self._lease / PER_LEASE
        while not self._stopping.wait(pause):
            pause = self._lease / PER_LEASE
            for lane in self._lanes:
                in_hand = list(lane.hand.attempts.values())
                # Those whose lease is gone too: a thread that never returns keeps its slot for ever.
                self._enforce_hard_timeout(in_hand)
                attempts = [attempt for attempt in in_hand if not attempt.told]
                for start in range(0, len(attempts), MAX_BATCH):
                    if not self._renew(lane, attempts[start : start + MAX_BATCH]):
                        pause = min(pause, 1.0)

    def _renew(self, lane: Lane, attempts: list[Attempt]) -> bool:
        sent = time.monotonic()
        try:
            answers = lane.store.run(lane.store.renew(lane.channel, [attempt.lease for attempt in attempts]))
        except RetryingError as error:
            logger.warning("leases could not be renewed channel=%s: %s", lane.channel, error)
            return False
        except Exception:
            logger.exception("leases could not be renewed channel=%s", lane.channel)
            return False
        for attempt, answer in zip(attempts, answers, strict=True):
            if answer > 0:
                attempt.lease_until = sent + self._lease
            if answer != 1:
                self._loop.call_soon_threadsafe(lane.hand.renewed, attempt, answer)
        return True

    def _hard_end(self, attempt: Attempt) -> float:
        """A policy that allows more than the hard timeout means it; one without a timeout too."""
        allowed = attempt.policy.timeout
        return float("inf") if allowed is None else attempt.started + max(self._hard_timeout, allowed)

    def _enforce_hard_timeout(self, attempts: list[Attempt]) -> None:
        now = time.monotonic()
        stuck = [attempt for attempt in attempts if not attempt.ended and now > self._hard_end(attempt)]
        if not stuck:
            return
        logger.critical("past the hard timeout of %s s, the process exits: %s", self._hard_timeout, stuck[0])
        for lane in self._lanes:
            others = [item.lease for item in list(lane.hand.attempts.values()) if item not in stuck and not item.told]
            try:
                for call in lane.intake.last_calls():  # first: what succeeded is not to be given back
                    lane.store.run(call)
                lane.store.run(lane.store.release(lane.channel, others))
            except Exception:  # the process ends anyway; the leases end by themselves
                logger.exception("jobs could not be given back channel=%s", lane.channel)
        logging.shutdown()
        os._exit(HARD_TIMEOUT_STATUS)
