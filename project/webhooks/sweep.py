"""Bring rows and jobs together again: the row is the truth, and a pending row has a living job."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from retrying import StoreFull, StoreUnavailable, jobs

from . import actions, records
from .models import CHANNEL

logger = logging.getLogger(__name__)

BATCH = 500


@dataclass(slots=True)
class Swept:
    """What one sweep did; ``store_away``: it stopped early because the store didn't answer or is full."""

    looked_at: int = 0
    enqueued: int = 0
    closed: int = 0
    store_away: bool = False


def sweep(*, batch: int = BATCH, again_after: timedelta = timedelta(seconds=5)) -> Swept:
    """Look for the jobs of at most ``batch`` pending rows that weren't looked at within ``again_after``.

    No job (the store was wiped, or a process died between commit and enqueue): enqueued again under the same id.
    A job that ended without its row (rescued too often, cancelled, expired): the row is closed with the job's reason.
    """
    done = Swept()
    rows = records.unfinished(batch, timezone.now() - again_after)
    for delivery in rows:
        try:
            job = jobs.get(CHANNEL, delivery.job_id)
            if job is None:
                actions.queue_again(delivery)
                done.enqueued += 1
                logger.warning("delivery %s had no job; enqueued again as %s", delivery.pk, delivery.job_id)
            elif records.close_by_job(delivery, job):
                done.closed += 1
                logger.warning("delivery %s is closed: its job is %s (%s)", delivery.pk, job.state, job.reason)
        except (StoreUnavailable, StoreFull) as error:
            done.store_away = True
            logger.warning("the sweep stops here: %s", error)
            break
        done.looked_at += 1
    records.mark_swept(rows[: done.looked_at])
    return done
