"""What waits on a channel, and what was given up there. All of it blocks for a moment, from async tests too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..job import Job
from ..joblayer import JobLayer
from ..layers import get_layer
from ..message import check_channel
from ..store.calls import Call, text
from ..store.scripts import script

#: Jobs that one script reads.
PAGE = 200


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """``job``: with its ``reason`` and ``error``; ``message``: {} when it can't be decoded."""

    job: Job
    message: dict[str, Any]


def enqueued(channel: str, *, using: str = "default") -> list[dict[str, Any]]:
    """Messages that wait on ``channel``: ready ones in the order in which they would run, those that wait for their
    key, then scheduled ones."""
    return [message for _, message in _waiting(channel, using)]


def assert_enqueued(channel: str, *, count: int | None = None, using: str = "default", **fields: Any) -> list[Job]:
    """Fail unless messages with these fields (``type`` is one of them) wait on ``channel``.

    ``count``: exactly so many, None = at least one. Returns their jobs: when they are due, their priority and id.
    """
    waiting = _waiting(channel, using)
    found = [
        job
        for job, message in waiting
        if all(name in message and message[name] == value for name, value in fields.items())
    ]
    if len(found) != count if count is not None else not found:
        expected = "at least one job" if count is None else f"{count} job{'' if count == 1 else 's'}"
        there = "\n".join(f"  {job.state} {job.id}: {message}" for job, message in waiting) or "  nothing"
        raise AssertionError(
            f"expected {expected} on {channel!r} with {fields or 'any message'}, found {len(found)}. "
            f"Waiting there:\n{there}"
        )
    return found


def dead_letters(channel: str, *, using: str = "default") -> list[DeadLetter]:
    """Jobs of ``channel`` that were given up, the oldest first."""
    return [DeadLetter(job, message) for job, message in _jobs(channel, "dead", get_layer(using))]


def _waiting(channel: str, using: str) -> list[tuple[Job, dict[str, Any]]]:
    layer = get_layer(using)
    return [found for name in ("ready", "parked", "scheduled") for found in _jobs(channel, name, layer)]


def _jobs(channel: str, name: str, layer: JobLayer) -> Iterator[tuple[Job, dict[str, Any]]]:
    check_channel(channel)
    store, first = layer.store, 0
    while True:
        call: Call[list[Any]] = Call(
            script("page", "retrying.testing"), store.keys(channel).sent, (0, 0, name, first, PAGE), list
        )
        page = store.run(call)
        for job_id, flat in page:
            fields = {text(flat[i]): flat[i + 1] for i in range(0, len(flat), 2)}
            payload = fields.pop("payload", b"")
            try:
                message = layer.decode(payload)
            except ValueError:
                message = {}
            job = Job.from_fields(channel, text(job_id), {field: text(value) for field, value in fields.items()})
            yield job, message
        if len(page) < PAGE:
            return
        first += PAGE
