"""The two consumers of a delivery: the one that a browser talks to, and the one that `runworker deliveries` runs."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import msgspec

from realtime.consumers import CommandError, JobConsumer, command
from retrying import current_job
from retrying.consumers import BackgroundConsumer

from . import actions, attempts, present
from .models import CHANNEL, topic_of
from .targets import BadInput


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


class DeliveryWorker(BackgroundConsumer):
    """Sends one delivery for each job. Retries, their delays and the timeout: RETRYING["CHANNELS"]["deliveries"]."""

    async def deliver(self, message: dict[str, Any]) -> None:
        job = current_job()
        await attempts.run(message["delivery"], message["generation"], message["after"] + job.attempt, job)
