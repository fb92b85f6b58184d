"""One attempt of a delivery: claim it in the database, send, judge, record, and say what becomes of the job."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings
from django.utils import timezone

from retrying import Bury, CurrentJob, Discard, Snooze

from . import records
from .actions import CANCELLED
from .delivery import DeliveryFailed, Verdict, judge, send
from .models import Attempt, Delivery

logger = logging.getLogger(__name__)
Outcome = Attempt.Outcome


async def run(delivery_id: str, generation: int, number: int, job: CurrentJob) -> None:
    """Run attempt ``number``. Returns when the delivery is done (now or before).

    Raises DeliveryFailed (try again), Bury (never again), Discard (cancelled, or redelivered since), Snooze.
    """
    delivery = await database_sync_to_async(records.start_attempt)(delivery_id, generation, number, job.worker)
    if delivery is None:
        await _explain_no_start(delivery_id, generation)
    elif not delivery.endpoint.enabled:
        reason = f"its endpoint is disabled: {delivery.endpoint.disabled_reason}"
        await _finish(delivery, verdict=Verdict(outcome=Outcome.GAVE_UP, reason=reason), last=True)
        raise Bury(reason)
    else:
        await _attempt(delivery, job)


async def _attempt(delivery: Delivery, job: CurrentJob) -> None:
    last = job.is_last_attempt
    try:
        exchange = await send(
            url=delivery.endpoint.url,
            payload=delivery.payload,
            webhook_id=delivery.pk,
            secret=delivery.endpoint.secret,
            cap_seconds=settings.WEBHOOK_TIMEOUT_SECONDS,
        )
    except asyncio.CancelledError:
        await _finish(delivery, verdict=_stopped(job.cancelled), last=last)
        raise
    except Exception as error:
        logger.exception("delivery %s attempt %d failed within our own code", delivery.pk, delivery.attempt)
        reason = f"internal error: {type(error).__name__}"
        await _finish(delivery, verdict=Verdict(outcome=Outcome.FAILED, reason=reason), last=last)
        raise
    verdict = judge(exchange, now=timezone.now())
    await _finish(delivery, verdict=verdict, exchange=exchange, last=last)
    if verdict.outcome == Outcome.FAILED:
        raise DeliveryFailed(verdict.reason, verdict.retry_after)
    if verdict.outcome != Outcome.DELIVERED:
        raise Bury(verdict.reason)


def _stopped(why: str) -> Verdict:
    """What an attempt comes to that was stopped from outside; ``why``: see CurrentJob.cancelled."""
    if why.startswith("cancel"):
        reason = f"{CANCELLED} while it was being sent; the receiver may have got it"
        return Verdict(outcome=Outcome.CANCELLED, reason=reason)
    if why == "timeout":
        return Verdict(outcome=Outcome.FAILED, reason="the attempt took longer than its timeout")
    return Verdict(outcome=Outcome.LOST, reason=f"its worker stopped ({why or 'cancelled'}); another attempt follows")


async def _explain_no_start(delivery_id: str, generation: int) -> None:
    """A job whose attempt the row refused: done already, cancelled, replaced, or of a row that is gone."""
    delivery = await database_sync_to_async(records.current)(delivery_id)
    if delivery is None:
        raise Bury(f"there is no delivery {delivery_id}")
    if delivery.generation != generation or delivery.state == Delivery.State.CANCELLED:
        raise Discard(delivery.reason or "redelivered since")
    if delivery.state == Delivery.State.FAILED:
        raise Bury(delivery.reason)
    if delivery.state == Delivery.State.PENDING:
        # The store counts this delivery's attempts lower than the row does: its data is older. The next one is higher.
        raise Snooze(1)


async def _finish(delivery: Delivery, **how: Any) -> None:
    if not await database_sync_to_async(records.finish_attempt)(delivery, **how):
        logger.warning(
            "delivery %s attempt %d ended after it had been closed: lost, or cancelled", delivery.pk, delivery.attempt
        )
