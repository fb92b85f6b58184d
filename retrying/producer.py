"""Sending work: ``enqueue`` and ``aenqueue``."""

from __future__ import annotations

from typing import Any, Unpack

from .exceptions import InvalidJob
from .job import Job, from_ms
from .joblayer import JobLayer
from .layers import get_layer
from .message import JobOptions, check_channel, check_json
from .store.calls import Enqueued, NewJob


def enqueue(channel: str, message: dict[str, Any], *, using: str = "default", **options: Unpack[JobOptions]) -> Job:
    """Store a job for ``channel``; from sync code (``aenqueue`` from async).

    ``message``: JSON values only, with a ``type`` that names the handler. ``using``: alias of the channel layer.
    ``options``: ``job_id``, ``delay``, ``run_at``, ``priority``, ``expires``, ``topic``, ``policy``, ``unique``,
    ``unique_until``, ``unique_for``, ``key``; see JobOptions.

    Returns the job; the first one, as a ``duplicate``, when ``job_id`` is known already or ``unique`` is held: nothing
    was written then. Raises InvalidJob (nothing written), ChannelFull, StoreFull, StoreUnavailable (it may have been
    stored: repeat it with the same ``job_id``).
    """
    layer = get_layer(using)
    job = prepare(layer, channel, message, options)
    return _stored(channel, job, options, layer.send_one(channel, job))


async def aenqueue(
    channel: str, message: dict[str, Any], *, using: str = "default", **options: Unpack[JobOptions]
) -> Job:
    """``enqueue`` for async code."""
    layer = get_layer(using)
    job = prepare(layer, channel, message, options)
    return _stored(channel, job, options, await layer.asend_one(channel, job))


def prepare(layer: JobLayer, channel: str, message: dict[str, Any], options: JobOptions) -> NewJob:
    """The job of a message, checked; nothing is written. Raises InvalidJob."""
    check_channel(channel)
    if not isinstance(message, dict):
        raise InvalidJob(f"message takes a dict with a 'type', got {type(message).__name__}")
    if not isinstance(message.get("type"), str) or not message["type"]:
        raise InvalidJob("message needs a 'type': the name of the handler that runs it, e.g. 'report.build'")
    check_json(message)
    return layer.job(channel, message, options)


def _stored(channel: str, job: NewJob, options: JobOptions, result: Enqueued) -> Job:
    held = result.id != job.id  # another job holds the unique name
    return Job(
        id=result.id,
        channel=channel,
        state=result.state,
        attempt=result.attempt,
        priority=result.priority,
        created_at=None if result.created is None else from_ms(result.created),
        due_at=None if result.due is None else from_ms(result.due),
        topic=result.topic or None,
        unique=job.unique if result.new or held else None,
        key=job.key if result.new else None,
        # A random id that is known is that of this very request, sent again because its reply was lost.
        duplicate=held or (not result.new and options.get("job_id") is not None),
    )
