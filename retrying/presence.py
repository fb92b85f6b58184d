"""A worker as others see it: what it says of itself with each sweep, and what it is told in the answer."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .heartbeat import memory_mib

if TYPE_CHECKING:
    from .lane import Lane

logger = logging.getLogger("retrying.worker")


class Presence:
    """One per worker. ``stop(reason)``: has it end gracefully."""

    def __init__(self, worker_id: str, *, stop: Callable[[str], object]) -> None:
        self._worker_id = worker_id
        self._stop = stop
        self._started = time.time()
        #: When (ms of the store's clock) it was told what it obeys: each of its channels may repeat an older word.
        self._told = 0
        self.lanes: Sequence[Lane] = ()
        #: Told to begin no jobs.
        self.quiet = False

    def facts(self, lane: Lane) -> str:
        """What it says of itself as a consumer of a channel: a JSON object, see WorkerInfo."""
        return json.dumps(
            {
                "running": len(lane.hand.attempts),
                "concurrency": lane.group.size,
                "memory_mib": round(memory_mib(), 1),
                "started": round(self._started * 1000),
                "quiet": self.quiet,
                "stopping": lane.stopping,
            }
        )

    def hear(self, told: str) -> None:
        """Obey ``"<ms> <word>"``, once."""
        at, _, word = told.partition(" ")
        if not at or int(at) <= self._told:
            return
        self._told = int(at)
        if word == "stop":
            self._stop("it was told to")
        elif self.quiet != (word == "quiet"):
            self.quiet = word == "quiet"
            logger.info("worker %s %s", self._worker_id, "begins no more jobs" if self.quiet else "works again")
            for lane in self.lanes:
                lane.intake.look()
