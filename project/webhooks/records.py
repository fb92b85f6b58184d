"""Every change to a delivery's rows once it exists. All are conditional on state, generation and attempt number.

A worker may be stopped for minutes and wake up when another one has long gone on with its delivery: what it then
writes must find no row to change. So nothing here saves an object; each function says whether it changed the row.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from retrying import Job, State

from .delivery import Exchange, Verdict
from .models import Attempt, Delivery, Endpoint
from .targets import BadInput, Order

Outcome = Attempt.Outcome

#: How a pending row ends when its job ended without telling the row.
ROW_STATES = {
    State.DEAD: Delivery.State.FAILED,
    State.EXPIRED: Delivery.State.FAILED,
    State.CANCELLED: Delivery.State.CANCELLED,
}


def create(owner_id: int, order: Order, command_id: str | None) -> Delivery:
    """The row of a new delivery, or the one that the same command made before. Raises BadInput: endpoint disabled."""
    again = {"owner_id": owner_id, "command_id": command_id}
    if command_id is not None and (known := _with_endpoint().filter(**again).first()):
        return known
    try:
        with transaction.atomic():
            endpoint, _ = Endpoint.objects.get_or_create(owner_id=owner_id, url=order.url)
            if not endpoint.enabled:
                raise BadInput(url=f"this endpoint is disabled: {endpoint.disabled_reason}")
            return Delivery.objects.create(endpoint=endpoint, payload=order.payload, send_at=order.send_at, **again)
    except IntegrityError:  # the same command on a second socket was faster
        return _with_endpoint().get(**again)


def current(delivery_id: str) -> Delivery | None:
    """The row as it is now, whoever owns it."""
    return _with_endpoint().filter(pk=delivery_id).first()


def find(owner_id: int, delivery_id: str) -> Delivery | None:
    return _with_endpoint().filter(pk=delivery_id, owner_id=owner_id).first()


def start_attempt(delivery_id: str, generation: int, number: int, worker: str) -> Delivery | None:
    """Claim attempt ``number`` for ``worker`` and close earlier open attempts as lost.

    None when the row is finished, of another generation, or has seen this attempt or a newer one.
    """
    with transaction.atomic():
        row = Delivery.objects.filter(
            pk=delivery_id, generation=generation, state=Delivery.State.PENDING, attempt__lt=number
        )
        if not row.update(attempt=number):
            return None
        Attempt.objects.filter(delivery_id=delivery_id, outcome=Outcome.RUNNING).update(
            outcome=Outcome.LOST, ended_at=timezone.now(), error=f"its worker vanished; attempt {number} took over"
        )
        Attempt.objects.create(delivery_id=delivery_id, generation=generation, number=number, worker=worker[:200])
        return _with_endpoint().get(pk=delivery_id)


def finish_attempt(
    delivery: Delivery, *, verdict: Verdict, exchange: Exchange | None = None, error: str = "", last: bool
) -> bool:
    """Record how the attempt that ``delivery`` was started with ended; ``last``: no retry follows a failure.

    ``exchange`` is None when the attempt ended without one. False when a newer attempt has taken over: nothing changed.
    """
    now = timezone.now()
    fields: dict[str, Any] = {"outcome": verdict.outcome, "ended_at": now, "retry_after": verdict.retry_after}
    if exchange is None:
        fields["error"] = (error or verdict.reason)[:1000]
    else:
        fields |= {
            "status_code": exchange.status_code,
            "duration_ms": exchange.duration_ms,
            "error": "" if verdict.outcome == Outcome.DELIVERED else verdict.reason,
            "request_headers": exchange.request_headers,
            "response_headers": exchange.response_headers,
            "response_excerpt": exchange.excerpt,
        }
    with transaction.atomic():
        attempt = Attempt.objects.filter(
            delivery_id=delivery.pk,
            generation=delivery.generation,
            number=delivery.attempt,
            outcome=Outcome.RUNNING,
        )
        if not attempt.update(**fields):
            return False
        state = _final_state(verdict.outcome, last=last)
        if state is not None:
            _pending(delivery).filter(attempt=delivery.attempt).update(
                state=state, reason=verdict.reason, finished_at=now
            )
        if verdict.endpoint_gone:
            Endpoint.objects.filter(pk=delivery.endpoint_id, enabled=True).update(
                enabled=False, disabled_reason=f"{verdict.reason} ({now:%Y-%m-%d %H:%M} UTC)"
            )
        return True


def _final_state(outcome: Outcome, *, last: bool) -> Delivery.State | None:
    """The state in which an attempt with this outcome leaves its delivery; None: still pending."""
    if outcome == Outcome.DELIVERED:
        return Delivery.State.DELIVERED
    if outcome in {Outcome.GAVE_UP, Outcome.BLOCKED} or (outcome == Outcome.FAILED and last):
        return Delivery.State.FAILED
    if outcome == Outcome.CANCELLED:
        return Delivery.State.CANCELLED
    return None


def close(delivery: Delivery, state: Delivery.State, reason: str, *, if_idle: bool = False) -> bool:
    """End a pending delivery from outside of an attempt. ``if_idle``: only when no attempt of it is open.

    False when the row was no longer as ``delivery`` shows it.
    """
    now = timezone.now()
    with transaction.atomic():
        if if_idle and delivery.attempts.filter(outcome=Outcome.RUNNING).exists():
            return False
        # An attempt that began since then has raised the number, and this finds no row.
        if (
            not _pending(delivery)
            .filter(attempt=delivery.attempt)
            .update(state=state, reason=reason[:1000], finished_at=now)
        ):
            return False
        ended = Outcome.CANCELLED if state == Delivery.State.CANCELLED else Outcome.LOST
        delivery.attempts.filter(outcome=Outcome.RUNNING).update(outcome=ended, ended_at=now, error=reason[:1000])
        return True


def close_by_job(delivery: Delivery, job: Job) -> bool:
    """End a pending delivery whose job ended without it (rescued too often, cancelled while running, expired)."""
    state = ROW_STATES.get(job.state)
    if state is None:
        return False
    reason = job.reason or job.error or f"its job is {job.state}"
    return close(delivery, state, reason)


def next_generation(delivery: Delivery) -> bool:
    """Make a finished delivery pending again, for a job of its own. False when that was already done."""
    return bool(
        Delivery.objects.filter(pk=delivery.pk, generation=delivery.generation)
        .exclude(state=Delivery.State.PENDING)
        .update(
            generation=delivery.generation + 1,
            attempt=0,
            state=Delivery.State.PENDING,
            reason="",
            send_at=None,
            finished_at=None,
            swept_at=None,
        )
    )


def forget_send_at(delivery: Delivery) -> None:
    """Send a pending delivery now that was to wait for its time."""
    if delivery.send_at is not None and delivery.send_at > timezone.now():
        _pending(delivery).update(send_at=None)
        delivery.send_at = None


def unfinished(limit: int, seen_before: datetime) -> list[Delivery]:
    """Pending deliveries for the sweep, those it hasn't looked at for the longest time first."""
    rows = _with_endpoint().filter(state=Delivery.State.PENDING)
    new = list(rows.filter(swept_at=None).order_by("created_at")[:limit])
    old = rows.filter(swept_at__lt=seen_before).order_by("swept_at")[: limit - len(new)]
    return [*new, *old]


def mark_swept(deliveries: list[Delivery]) -> None:
    Delivery.objects.filter(pk__in=[delivery.pk for delivery in deliveries]).update(swept_at=timezone.now())


def _pending(delivery: Delivery) -> Any:
    return Delivery.objects.filter(pk=delivery.pk, generation=delivery.generation, state=Delivery.State.PENDING)


def _with_endpoint() -> Any:
    return Delivery.objects.select_related("endpoint")
