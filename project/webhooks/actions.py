"""What people do with deliveries, from a browser or a terminal. Each may be repeated: doing it twice changes nothing.

The row comes first, its job after the commit. A crash, or a store that is away, between the two leaves a row without
a job, which the sweep finds.
"""

from __future__ import annotations

from channels.db import database_sync_to_async

from retrying import State, StoreFull, StoreUnavailable, aenqueue, enqueue, jobs

from . import records
from .models import CHANNEL, Delivery
from .targets import BadInput, check_order

CANCELLED = "cancelled by its owner"


class NotFound(LookupError):
    """There is no such delivery, or it belongs to somebody else: the same answer for both."""

    def __init__(self, delivery_id: str) -> None:
        super().__init__(f"you have no delivery {delivery_id[:64]!r}")


def job_of(delivery: Delivery) -> dict[str, object]:
    """The arguments that enqueue ``delivery``; always the same id for one generation, so twice is one job.

    ``after``: attempts of this generation that the row has seen. A store that lost the job counts from 1 again.
    """
    return {
        "channel": CHANNEL,
        "message": {
            "type": "deliver",
            "delivery": delivery.pk,
            "generation": delivery.generation,
            "after": delivery.attempt,
        },
        "job_id": delivery.job_id,
        "run_at": delivery.send_at,
        "topic": delivery.topic,
    }


async def submit(
    owner_id: int, *, url: str, payload: str, send_at: str | None = None, command_id: str | None = None
) -> tuple[Delivery, bool]:
    """Check, store and enqueue a delivery. Returns the row and whether it is queued; if not, the sweep will do it.

    Raises BadInput; nothing was stored then.
    """
    order = check_order(url, payload, send_at)
    delivery = await database_sync_to_async(records.create)(owner_id, order, command_id)
    return delivery, await _queue(delivery)


async def retry_now(owner_id: int, delivery_id: str) -> Delivery:
    """Start a waiting delivery's next attempt now. Raises NotFound, StoreUnavailable."""
    delivery = await _find(owner_id, delivery_id)
    if delivery.state == Delivery.State.PENDING:
        # The row first, or a store that lost the job would make it wait for its old time again.
        await database_sync_to_async(records.forget_send_at)(delivery)
        if await jobs.aretry_now(CHANNEL, delivery.job_id) is None:
            await aenqueue(**job_of(delivery))
    return delivery


async def cancel(owner_id: int, delivery_id: str) -> Delivery:
    """Cancel a pending delivery; one that is being sent right now is asked to stop. Raises NotFound, StoreUnavailable.

    The row is closed before its job is: a job that is left over finds a closed row and does nothing.
    """
    delivery = await _find(owner_id, delivery_id)
    if delivery.state != Delivery.State.PENDING:
        return delivery
    close = database_sync_to_async(records.close)
    closed = await close(delivery, Delivery.State.CANCELLED, CANCELLED, if_idle=True)
    try:
        state = await jobs.acancel(CHANNEL, delivery.job_id, CANCELLED)
    except StoreUnavailable:
        if not closed:
            raise
        state = None
    if not closed and state != State.RUNNING:
        # The open attempt was of a worker that is gone.
        await close(await _find(owner_id, delivery_id), Delivery.State.CANCELLED, CANCELLED)
    return await _find(owner_id, delivery_id)


async def redeliver(owner_id: int, delivery_id: str, generation: int | None = None) -> tuple[Delivery, bool]:
    """Send a finished delivery again, under the same webhook-id; as ``submit``, says whether it is queued.

    ``generation``: the one that the person saw; if there is a newer one, somebody was faster and nothing happens.
    Raises NotFound, BadInput when the endpoint is disabled.
    """
    delivery = await _find(owner_id, delivery_id)
    if generation in {None, delivery.generation} and delivery.state != Delivery.State.PENDING:
        if not delivery.endpoint.enabled:
            raise BadInput(delivery=f"its endpoint is disabled: {delivery.endpoint.disabled_reason}")
        await database_sync_to_async(records.next_generation)(delivery)
        delivery = await _find(owner_id, delivery_id)
    return delivery, await _queue(delivery)


async def _queue(delivery: Delivery) -> bool:
    if delivery.state != Delivery.State.PENDING:
        return True
    try:
        await aenqueue(**job_of(delivery))
    except (StoreUnavailable, StoreFull):
        return False
    return True


def queue_again(delivery: Delivery) -> None:
    """The sweep's way of enqueueing. Raises StoreUnavailable, StoreFull."""
    enqueue(**job_of(delivery))


async def _find(owner_id: int, delivery_id: str) -> Delivery:
    delivery = await database_sync_to_async(records.find)(owner_id, delivery_id)
    if delivery is None:
        raise NotFound(delivery_id)
    return delivery
