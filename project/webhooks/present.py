"""Deliveries as the JSON that the browser and `manage.py deliver --json` get."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings

from retrying import Job, StoreUnavailable, jobs

from . import records
from .delivery import USER_AGENT
from .models import CHANNEL, Attempt, Delivery

PAGE_SIZE = 50
#: How long a page waits for the job store, in seconds, before it shows the rows alone.
STORE_PATIENCE_SECONDS = 2.0

Json = dict[str, Any]


async def page_of(owner_id: int, before: datetime | None = None) -> Json:
    """A user's deliveries, newest first, older than ``before``."""
    rows = await database_sync_to_async(_rows)(owner_id, before)
    shown = rows[:PAGE_SIZE]
    found = await _jobs_of(shown)
    return {
        "deliveries": [_delivery(row, job) for row, job in zip(shown, found, strict=True)],
        "more": len(rows) > PAGE_SIZE,
    }


async def summary(delivery: Delivery) -> Json:
    """One delivery as it is in lists."""
    [job] = await _jobs_of([delivery])
    return _delivery(delivery, job)


async def detail(delivery: Delivery) -> Json:
    """One delivery with its attempts and a curl command that repeats its request."""
    [job] = await _jobs_of([delivery])
    attempts = await database_sync_to_async(list)(delivery.attempts.all())
    return _delivery(delivery, job) | {
        "attempts": [_attempt(attempt) for attempt in attempts],
        "curl": _curl(delivery, attempts),
    }


def _rows(owner_id: int, before: datetime | None) -> list[Delivery]:
    rows = Delivery.objects.filter(owner_id=owner_id).select_related("endpoint").order_by("-created_at")
    if before is not None:
        rows = rows.filter(created_at__lt=before)
    return list(rows[: PAGE_SIZE + 1])


async def _jobs_of(deliveries: Sequence[Delivery]) -> list[Job | None]:
    """The jobs of pending deliveries, None for others. A job that ended without its row closes the row on the way."""
    pending = {index: row for index, row in enumerate(deliveries) if row.state == Delivery.State.PENDING}
    found: list[Job | None] = [None] * len(deliveries)
    try:
        async with asyncio.timeout(STORE_PATIENCE_SECONDS):
            answers = await asyncio.gather(*(jobs.aget(CHANNEL, row.job_id) for row in pending.values()))
    except (StoreUnavailable, TimeoutError):
        return found
    for (index, row), job in zip(pending.items(), answers, strict=True):
        found[index] = job
        ended = job is not None and job.state in records.ROW_STATES
        if ended and await database_sync_to_async(records.close_by_job)(row, job):
            await database_sync_to_async(row.refresh_from_db)(fields=["state", "reason", "finished_at"])
    return found


def _delivery(delivery: Delivery, job: Job | None) -> Json:
    return {
        "id": delivery.pk,
        "url": delivery.endpoint.url,
        "state": str(delivery.state),
        "reason": delivery.reason,
        "payload": delivery.payload,
        "created_at": moment(delivery.created_at),
        "send_at": moment(delivery.send_at),
        "finished_at": moment(delivery.finished_at),
        "attempt": delivery.attempt,
        "generation": delivery.generation,
        # Of a finished one too, whose job is gone: its timeline still says "retry 2 of 8".
        "max_retries": settings.RETRYING["CHANNELS"][CHANNEL]["max_retries"],
        "job": _job(job) if delivery.state == Delivery.State.PENDING else None,
    }


def _job(job: Job | None) -> Json | None:
    if job is None:
        return None
    return {
        "state": str(job.state),
        "due_at": moment(job.due_at),
        "retries": job.failures,
        "max_retries": job.max_retries,
        "worker": job.worker,
        "cancel_requested": job.cancel_requested,
    }


def _attempt(attempt: Attempt) -> Json:
    return {
        "number": attempt.number,
        "generation": attempt.generation,
        "worker": attempt.worker,
        "started_at": moment(attempt.started_at),
        "ended_at": moment(attempt.ended_at),
        "outcome": str(attempt.outcome),
        "status_code": attempt.status_code,
        "duration_ms": attempt.duration_ms,
        "error": attempt.error,
        "retry_after": attempt.retry_after,
        "request_headers": attempt.request_headers,
        "response_headers": attempt.response_headers,
        "response_excerpt": attempt.response_excerpt,
    }


def moment(value: datetime | None) -> str | None:
    """ISO 8601 in UTC, always with microseconds."""
    return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _curl(delivery: Delivery, attempts: Sequence[Attempt]) -> str:
    """The newest attempt's request, signature and all, as a line for a shell."""
    sent = next((attempt.request_headers for attempt in reversed(attempts) if attempt.request_headers), None)
    headers = sent or {"Content-Type": "application/json", "User-Agent": USER_AGENT, "webhook-id": delivery.pk}
    words = ["curl", "-i", "-X", "POST", delivery.endpoint.url]
    for name, value in headers.items():
        if name.lower() not in {"host", "content-length", "connection"}:  # curl makes its own
            words += ["-H", f"{name}: {value}"]
    return shlex.join([*words, "--data-raw", delivery.payload])
