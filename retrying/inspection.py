"""All that is known of one job: its message, attempts, times and events; what people see of it, redacted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .find import Row
from .job import Job, State, from_ms
from .layers import get_layer
from .message import check_channel, check_job_id
from .redact import redact, redact_text
from .store.calls import Cursor, Position, TopicEvent

#: The end of a topic's log that is searched for the job's events.
EVENTS_READ = 500


@dataclass(frozen=True, slots=True)
class Known:
    """All that the store holds of a job. ``now``, by its clock, and ``lease_until``: when its worker's right ends."""

    row: Row
    now: datetime
    lease_until: datetime | None
    payload: bytes
    #: Number of an attempt -> what it raised ("": its worker vanished), and who ran it; the newest that are kept.
    errors: Mapping[int, str]
    workers: Mapping[int, str]
    first_started_at: datetime | None

    @property
    def job(self) -> Job:
        return self.row.job


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt. ``error``: path of the exception's class; ``vanished``: its worker did; ``trace``: "" without one."""

    number: int
    worker: str
    error: str
    said: str
    trace: str
    vanished: bool
    outcome: str


def inspect(channel: str, job_id: str, *, using: str = "default") -> Known | None:
    """None when there is no such job. Raises InvalidJob when there can't be."""
    check_channel(channel)
    check_job_id(job_id)
    layer = get_layer(using)
    found = layer.store.run(layer.store.inspect(channel, job_id))
    if not found.fields:
        return None
    words = {name: value.decode(errors="replace") for name, value in found.fields.items() if name != "payload"}
    job = Job.from_fields(channel, job_id, words)
    payload = found.fields.get("payload", b"")
    try:
        message = layer.decode(payload) if payload else None
    except ValueError:
        message = None

    def numbered(prefix: str) -> dict[int, str]:
        return {int(name.partition(":")[2]): value for name, value in words.items() if name.startswith(prefix)}

    workers = numbered("worker:")
    if job.attempt:
        workers[job.attempt] = job.worker
    first = words.get("first") or words.get("started")
    return Known(
        row=Row(job, message, Cursor("0", job_id)),
        now=from_ms(found.now),
        lease_until=None if found.lease is None else from_ms(found.lease),
        payload=payload,
        errors=numbered("error:"),
        workers=workers,
        first_started_at=from_ms(int(first)) if first else None,
    )


def attempts(found: Known) -> list[Tried]:
    """The newest first, as far as they are kept."""
    return [_tried(found, number) for number in sorted(found.workers.keys() | found.errors.keys(), reverse=True)]


def _tried(found: Known, number: int) -> Tried:
    job, trace = found.job, found.errors.get(number)
    last = number == job.attempt
    path, _, text = (trace or "").partition("\n")
    vanished = trace == ""
    if vanished:
        outcome = "its worker vanished"
    elif trace is not None:
        outcome = "failed"
    elif last and job.state in (State.RUNNING, State.SUCCEEDED):
        outcome = job.state.value
    elif last and job.state in (State.CANCELLED, State.DEAD):
        outcome = f"{job.state.value}: {job.reason}"
    else:
        outcome = "given back, or snoozed"
    lines = text.strip().splitlines()
    said = redact_text(job.error if last and trace else lines[-1] if lines else "")
    return Tried(number, found.workers.get(number, ""), path, said[:1000], redact_text(text), vanished, outcome)


def milestones(found: Known) -> list[tuple[str, datetime]]:
    """What happened when, and what comes next."""
    job = found.job
    times = [
        ("enqueued", job.created_at),
        ("first started", found.first_started_at),
        ("last started", job.started_at if job.started_at != found.first_started_at else None),
        (job.state.value, job.finished_at),
        ("may start" if not job.failures else "next attempt", job.due_at),
    ]
    return [(words, at) for words, at in times if at is not None]


def events(job: Job, *, using: str = "default") -> list[TopicEvent]:
    """The job's events in its topic's log, the newest first; none without a topic."""
    if job.topic is None:
        return []
    layer = get_layer(using)
    (end,) = layer.store.run(layer.store.ends(job.channel, [job.topic]))
    if not end.epoch:
        return []
    after = Position(end.epoch, max(0, end.offset - EVENTS_READ))
    found = layer.store.run(layer.store.read_topic(job.channel, job.topic, after, EVENTS_READ))
    return [event for event in reversed(found.events) if event.job == job.id]


def arguments(message: dict[str, Any] | None) -> Any:
    """What a message says beside its type: the arguments of a task, the fields of a consumer's message. Redacted."""
    if message is None:
        return None
    if {"args", "kwargs", "backend", "queue"} <= message.keys():
        kept: dict[str, Any] = {"args": message["args"], "kwargs": message["kwargs"]}
    else:
        kept = {name: value for name, value in message.items() if name != "type"}
    return redact(kept)


def as_json(value: Any, *, indent: int | None = None) -> str:
    """JSON for people; what isn't JSON (bytes) as Python writes it."""
    return json.dumps(value, ensure_ascii=False, indent=indent, default=repr)
