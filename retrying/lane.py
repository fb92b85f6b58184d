"""One channel in one worker: slots that run its jobs, the intake that claims them, the hand that holds them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from . import reconnect
from .exceptions import RetryingError
from .hand import Hand, OnEnd
from .intake import Intake
from .link import Link
from .slot import CANCEL_SECONDS, Slot
from .store.calls import Call
from .sweeper import sweep

if TYPE_CHECKING:
    from .conf import ChannelSettings, Settings
    from .group import Group
    from .joblayer import JobLayer
    from .presence import Presence
    from .routes import Route
    from .threads import Threads

logger = logging.getLogger("retrying.worker")

#: Seconds that a last word to the store may take at shutdown.
TELL_SECONDS = 5.0


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
        threads: Threads,
        presence: Presence,
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
        self.channel_settings = channel_settings
        self.link = Link(route.channel)
        self.threads = threads
        self.group = group
        self.presence = presence
        group.lanes.append(self)
        #: No more jobs are taken.
        self.stopping = False
        #: Slots of the group in use: handlers that run, and jobs being claimed.
        self.load = 0
        self.hand = Hand(self, on_end)
        self.intake = Intake(self)
        self.slots: list[Slot] = [route.slot(self) for _ in range(group.size)]
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_failure = on_failure

    def start(self) -> None:
        self.loop = asyncio.get_running_loop()
        for work in (self.intake.feed(), self.intake.listen(), sweep(self)):
            self.spawn(work)
        for slot in self.slots:
            slot.start()

    async def drain(self, timeout: float, hurry: asyncio.Event) -> None:
        """Take no more jobs, and let running ones end: at most ``timeout`` seconds, or until ``hurry``.
        What is left then is cancelled and given back uncharged."""
        self.stopping = True
        deadline = time.monotonic() + timeout
        while self.hand.attempts or (self.intake.claiming and not self.link.down):
            await self.hand.until_empty(deadline - time.monotonic(), hurry)
            if hurry.is_set() or time.monotonic() >= deadline:
                break
        if left := self.hand.interrupt_all():
            await self.hand.until_empty(CANCEL_SECONDS)
            logger.warning("released at shutdown: %d running jobs of channel %s", len(left), self.channel)
            await self._tell(self.store.release(self.channel, left))
        for call in self.intake.last_calls():
            await self._tell(call)
        await self._tell(self.store.leave(self.channel, self.worker_id))

    async def stop(self) -> None:
        """End every task; jobs that are still in hand come back when their leases end."""
        self.stopping = True
        self.intake.stop()
        while self._tasks:  # what ends may have begun something else meanwhile
            await reconnect.end(self._tasks)
        await asyncio.gather(*(slot.close() for slot in self.slots))

    def want(self, slot: Slot) -> None:
        """``slot`` waits for a job."""
        if not self.stopping:
            self.intake.want(slot)

    def freed(self) -> None:
        """A handler ended: a slot of the group is free."""
        self.load -= 1
        self.group.changed()

    def wake(self) -> None:
        """Something changed: look again at what there is to do."""
        self.intake.wake()

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
