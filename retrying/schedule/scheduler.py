"""The part of a worker that turns due slots into jobs. Every worker has one, and none of them leads."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import groupby

from ..job import from_ms
from ..link import Link
from ..store import Store
from ..store.calls import DueSlot, Looked, Looks, ScheduleLook
from .declaration import Schedule

logger = logging.getLogger("retrying.worker")

#: Longest pause (seconds) between two looks: the server's clock may jump, and a state that nobody looks at ends.
LOOK_SECONDS = 60.0
#: Most slots of one schedule that one request asks for.
BATCH = 100
#: How much later than the slot a worker asks for it (seconds): asking too early is asking twice.
AFTER = 0.001


class Scheduler:
    """Makes jobs of the slots of ``schedules`` for ever.

    The time is the server's: what it said last, plus the time that passed since by the monotonic clock. A wrong clock
    of this machine changes nothing, and the script refuses a slot that isn't due.
    """

    def __init__(self, schedules: Iterable[Schedule], store: Store) -> None:
        self._store = store
        by_channel = sorted(schedules, key=lambda schedule: schedule.channel)
        self._channels = {
            channel: list(group) for channel, group in groupby(by_channel, key=lambda schedule: schedule.channel)
        }

    async def run(self, look: Callable[[str], None]) -> None:
        """Until cancelled; does nothing when there are no schedules. ``look``: has this worker look for jobs of a
        channel, because the bell alone may have called one that can't answer."""
        async with asyncio.TaskGroup() as group:
            for channel, schedules in self._channels.items():
                group.create_task(_Channel(channel, schedules, self._store, look).run())


class _Channel:
    """The schedules of one channel: one request asks for all that are due."""

    def __init__(self, channel: str, schedules: Sequence[Schedule], store: Store, look: Callable[[str], None]) -> None:
        self._channel = channel
        self._schedules = schedules
        self._store = store
        self._wake = look
        self._link = Link(channel)
        #: What the server said last of each schedule, [] before it said anything.
        self._known: list[Looked] = []
        #: When a slot counts from, for this worker: what was asked under an older line in between is not for it.
        self._since: list[datetime] = []
        #: The server's time (ms) less the monotonic one (s), as of its last answer.
        self._offset = 0.0

    async def run(self) -> None:
        lines = ", ".join(f"{schedule.name} ({schedule.timing.line})" for schedule in self._schedules)
        logger.info("schedules of %s: %s", self._channel, lines)
        while True:
            looks = await self._link.until_answered(self._look)
            self._offset = looks.now - time.monotonic() * 1000
            if not self._since:
                self._since = [from_ms(known.since) for known in looks.schedules]
            self._known = looks.schedules
            if any(known.made for known in looks.schedules):
                self._wake(self._channel)
            self._tell(looks)
            await asyncio.sleep(self._pause())

    async def _look(self, failures: int) -> Looks:
        # Made anew for every try: what is due, and what was missed, changes while the store is away.
        looks = [ScheduleLook(schedule.name, *self._wants(number)) for number, schedule in enumerate(self._schedules)]
        return await self._store.arun(self._store.slots(self._channel, looks))

    def _wants(self, number: int) -> tuple[str, Sequence[DueSlot]]:
        schedule = self._schedules[number]
        if not self._known:
            return schedule.timing.line, []
        due = schedule.timing.due(self._mark(number), self._now())
        return "", [schedule.slot(slot) for slot in due[:BATCH]]

    def _mark(self, number: int) -> datetime:
        mark = self._known[number].mark
        return self._since[number] if mark is None else max(self._since[number], from_ms(mark))

    def _now(self) -> datetime:
        return from_ms(round(self._offset + time.monotonic() * 1000))

    def _pause(self) -> float:
        """Seconds until the next slot, or look."""
        now = self._now()
        nearest = min(schedule.timing.next(self._mark(number)) for number, schedule in enumerate(self._schedules))
        return min(LOOK_SECONDS, max(0.0, (nearest - now).total_seconds()) + AFTER)

    def _tell(self, looks: Looks) -> None:
        for schedule, known in zip(self._schedules, looks.schedules, strict=True):
            if known.made:
                logger.debug("slots=%d schedule=%s channel=%s", known.made, schedule.name, self._channel)
            if known.missed:
                logger.warning("slots missed schedule=%s channel=%s", schedule.name, self._channel)
