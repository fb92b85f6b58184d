"""Looks for alerts beside a worker: one of all workers at a time does, and tells what is new and what is over."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from asgiref.sync import sync_to_async

from ..exceptions import RetryingError
from ..layers import get_layer
from ..message import new_id
from ..signals import alert as signal
from ..store import Store
from .alerts import Alert, aalerts

logger = logging.getLogger("retrying.worker")

#: Seconds between two looks.
LOOK_SECONDS = 30.0


class Watch:
    """Of the workers of one layer (``using``)."""

    def __init__(self, *, using: str = "default", seconds: float = LOOK_SECONDS) -> None:
        self._id = new_id()
        self._using = using
        self._seconds = seconds

    async def run(self, _: Callable[[str], None]) -> None:
        """For ever. A store that is away is others' business to tell of; what else fails is said, and tried again."""
        while True:
            try:
                await self.look()
            except (RetryingError, OSError) as error:
                logger.debug("no look for alerts: %s", error)
            except Exception:
                logger.exception("no look for alerts")
            await asyncio.sleep(self._seconds * random.uniform(1.0, 1.2))

    async def look(self) -> None:
        """Look, if it is this worker's turn, and tell."""
        layer = get_layer(self._using)
        store: Store = layer.store
        if not await layer.arun(store.turn(self._id, self._seconds)):
            return
        found = {one.name: one for one in await aalerts(using=self._using)}
        new, over = await layer.arun(store.alarm(new_id(), list(found)))
        for name in over:
            logger.warning("alert is over: %s", name)
            await self._tell(_named(name), raised=False)
        for name in new:
            logger.warning("alert: %s. %s", found[name].text, found[name].advice)
            await self._tell(found[name], raised=True)

    @staticmethod
    async def _tell(alert: Alert, *, raised: bool) -> None:
        for _, answer in await sync_to_async(signal.send_robust)(Alert, alert=alert, raised=raised):
            if isinstance(answer, Exception):
                logger.error("a receiver of retrying.signals.alert failed", exc_info=answer)


def _named(name: str) -> Alert:
    kind, channel, schedule, *_ = (*name.split(" "), "")
    return Alert(kind=kind, channel=channel, schedule=schedule, text=f"{kind} of {schedule or channel} is over")
