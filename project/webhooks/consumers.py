"""The two consumers of a delivery: the one that a browser talks to, and the one that `runworker deliveries` runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

import msgspec
from channels.consumer import AsyncConsumer
from channels.db import database_sync_to_async
from django.conf import settings
from django.utils import timezone

from realtime.consumers import CommandError, JobConsumer, command
from retrying import Bury, Discard, Snooze, current_job

from . import actions, present, records
from .delivery import DeliveryFailed, Verdict, judge, send
from .models import CHANNEL, Attempt, Delivery, topic_of
from .targets import BadInput

logger = logging.getLogger(__name__)
Outcome = Attempt.Outcome


class Deliver(msgspec.Struct, forbid_unknown_fields=True):
    url: str
    payload: str
    send_at: str | None = None


class OneDelivery(msgspec.Struct, forbid_unknown_fields=True):
    delivery: str


class Redeliver(msgspec.Struct, forbid_unknown_fields=True):
    delivery: str
    generation: int | None = None


class DeliveriesConsumer(JobConsumer):
    """A signed-in user's deliveries: made and changed by commands, followed on the user's own topic."""

    channel = CHANNEL
    max_frame_bytes = 160 * 1024  # a payload of 64 KiB, escaped as a JSON string

    async def may_follow(self, topic: str) -> bool:
        return topic == topic_of(self.user_id)

    async def snapshot(self, topic: str) -> dict[str, Any]:
        return await present.page_of(self.user_id)

    @command
    async def deliver(self, args: Deliver, command_id: str) -> dict[str, Any]:
        delivery, queued = await _answered(
            actions.submit(
                self.user_id, url=args.url, payload=args.payload, send_at=args.send_at, command_id=command_id
            )
        )
        return {"delivery": await present.summary(delivery), "queued": queued}

    @command
    async def retry_now(self, args: OneDelivery, command_id: str) -> dict[str, Any]:
        return {"delivery": await present.summary(await _answered(actions.retry_now(self.user_id, args.delivery)))}

    @command
    async def cancel(self, args: OneDelivery, command_id: str) -> dict[str, Any]:
        return {"delivery": await present.summary(await _answered(actions.cancel(self.user_id, args.delivery)))}

    @command
    async def redeliver(self, args: Redeliver, command_id: str) -> dict[str, Any]:
        delivery, queued = await _answered(actions.redeliver(self.user_id, args.delivery, args.generation))
        return {"delivery": await present.summary(delivery), "queued": queued}

    @property
    def user_id(self) -> int:
        return int(self.user.pk)


async def _answered(action: Awaitable[Any]) -> Any:
    """The action's result, or what is wrong with the input as a CommandError."""
    try:
        return await action
    except BadInput as error:
        raise CommandError("bad_input", "Some of it can't be sent as it is.", fields=error.fields) from error
    except actions.NotFound as error:
        raise CommandError("not_found", str(error)) from error


class DeliveryWorker(AsyncConsumer):
    """Sends one delivery for each job. Retries, their delays and the timeout: RETRYING["CHANNELS"]["deliveries"]."""

    async def deliver(self, message: dict[str, Any]) -> None:
        job = current_job()
        number = message["after"] + job.attempt
        delivery = await database_sync_to_async(records.start_attempt)(
            message["delivery"], message["generation"], number, job.worker
        )
        if delivery is None:
            await _explain_no_start(message)
        elif not delivery.endpoint.enabled:
            reason = f"its endpoint is disabled: {delivery.endpoint.disabled_reason}"
            await _finish(delivery, verdict=Verdict(outcome=Outcome.GAVE_UP, reason=reason), last=True)
            raise Bury(reason)
        else:
            await _attempt(delivery, last=job.is_last_attempt)


async def _attempt(delivery: Delivery, *, last: bool) -> None:
    """Send, judge, record, and say what becomes of the job: by returning, DeliveryFailed or Bury."""
    try:
        exchange = await send(
            url=delivery.endpoint.url,
            payload=delivery.payload,
            webhook_id=delivery.pk,
            secret=delivery.endpoint.secret,
            cap_seconds=settings.WEBHOOK_TIMEOUT_SECONDS,
        )
    except asyncio.CancelledError:
        await _finish(delivery, verdict=_stopped(), last=False)
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


def _stopped() -> Verdict:
    if current_job().cancelled:
        reason = f"{actions.CANCELLED} while it was being sent; the receiver may have got it"
        return Verdict(outcome=Outcome.CANCELLED, reason=reason)
    return Verdict(outcome=Outcome.LOST, reason="its worker stopped; another attempt follows")


async def _explain_no_start(message: dict[str, Any]) -> None:
    """A job whose attempt the row refused: done already, cancelled, replaced, or of a row that is gone."""
    delivery = await Delivery.objects.filter(pk=message["delivery"]).afirst()
    if delivery is None:
        raise Bury(f"there is no delivery {message['delivery']}")
    if delivery.generation != message["generation"] or delivery.state == Delivery.State.CANCELLED:
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
