"""What time alone moves on in a channel: due jobs, leases of vanished workers, retention. Every worker sweeps."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from .store.calls import Swept

if TYPE_CHECKING:
    from .lane import Lane

logger = logging.getLogger("retrying.worker")

#: What one sweep does at most of each kind (LIMIT of sweep.lua): as much means that more is waiting.
LIMIT = 200


async def sweep(lane: Lane) -> None:
    """For ever. There is no leader; it is also the worker's sign of life."""
    store = lane.store

    async def once(_: int) -> Swept:
        await lane.layer.adopt(lane.channel)
        return await store.arun(store.sweep(lane.channel, lane.worker_id, keep=lane.keep_succeeded))

    while True:
        swept = await lane.link.until_answered(once)
        if swept.newer:
            logger.warning(
                "left for a newer worker: %d jobs of a format unknown to this one channel=%s", swept.newer, lane.channel
            )
        for rescue in swept.rescued:
            logger.warning(
                "%s job=%s channel=%s vanished_worker=%s rescues=%d",
                "dead (poison)" if rescue.buried else "rescued",
                rescue.job_id, lane.channel, rescue.worker, rescue.rescues,
            )  # fmt: skip
        if swept.rescued or swept.promoted:
            lane.look()
        if max(len(swept.rescued), swept.promoted, swept.purged) < LIMIT:
            await asyncio.sleep(lane.settings.SWEEP_SECONDS * random.uniform(0.8, 1.0))
