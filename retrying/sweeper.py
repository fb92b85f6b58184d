"""What time alone moves on in a channel: due jobs, leases of vanished workers, retention. Every worker sweeps."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from .exceptions import RetryingError
from .logs import log_transition
from .store.calls import Swept

if TYPE_CHECKING:
    from .lane import Lane

logger = logging.getLogger("retrying.worker")

#: What one sweep does at most of each kind (LIMIT of sweep.lua): as much means that more is waiting.
LIMIT = 50
#: Seconds that a look for messages of plain channels_redis may take: the layer's own server may be another one, and
#: away, and must not hold up what is done for the jobs.
ADOPT_SECONDS = 2.0


async def _adopt(lane: Lane, adopting: bool) -> bool:
    """Take over what processes of the plain layer left. Returns whether that went well; ``adopting``: last time."""
    try:
        async with asyncio.timeout(ADOPT_SECONDS):
            await lane.layer.adopt(lane.channel)
    except (RetryingError, RedisError, OSError) as error:  # a TimeoutError is an OSError
        if adopting:
            logger.warning(
                "no look at messages of plain channels_redis, jobs go on channel=%s: %s",
                lane.channel, str(error) or f"the layer's server did not answer in {ADOPT_SECONDS:g} s",
            )  # fmt: skip
        return False
    return True


async def sweep(lane: Lane) -> None:
    """For ever. There is no leader; it is also the worker's sign of life."""
    store = lane.store

    async def once(_: int) -> Swept:
        keep, facts = lane.channel_settings.keep_succeeded, lane.presence.facts(lane)
        return await store.arun(store.sweep(lane.channel, lane.worker_id, keep=keep, facts=facts))

    adopting = True
    await lane.link.until_answered(lambda _: store.arun(store.remember(lane.channel)))
    while True:
        began = time.monotonic()
        adopting = await _adopt(lane, adopting)
        swept = await lane.link.until_answered(once)
        lane.presence.hear(swept.told)
        if swept.newer:
            logger.warning(
                "left for a newer worker: %d jobs of a format unknown to this one channel=%s", swept.newer, lane.channel
            )
        for rescue in swept.rescued:
            told = {"job": rescue.job_id, "channel": lane.channel, "vanished_worker": rescue.worker}
            if rescue.buried:
                told["reason"] = "its workers vanished too often"
            event = "dead" if rescue.buried else "rescued"
            log_transition(logging.WARNING, event, {**told, "rescues": rescue.rescues})
        if swept.rescued or swept.promoted:
            lane.intake.look()
        if max(len(swept.rescued), swept.promoted, swept.purged) < LIMIT:
            pause = lane.settings.SWEEP_SECONDS * random.uniform(0.8, 1.0)
            await asyncio.sleep(began + pause - time.monotonic())
