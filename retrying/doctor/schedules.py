"""Schedules: does anybody turn their slots into jobs?"""

from __future__ import annotations

from collections.abc import Iterator

from ..exceptions import InvalidSchedule
from ..schedule import Status, statuses
from .findings import Finding, Severity


def examine_schedules(using: str) -> Iterator[Finding]:
    """Every schedule that the project declares; nothing when its application can't be loaded (said elsewhere)."""
    try:
        found = statuses(using=using)
    except InvalidSchedule as error:
        yield Finding(Severity.PROBLEM, "settings", f"No worker can start: {error}.")
        return
    for status in found:
        yield from _examine(status)


def _examine(status: Status) -> Iterator[Finding]:
    topic = f"schedule {status.name}"
    if status.paused:
        yield Finding(
            Severity.WARNING,
            topic,
            f"{status.name} ({status.line}) is paused: its slots are not made jobs.",
            f"When the reason is gone: python manage.py retrying schedule resume {status.name}",
        )
    elif not status.workers:
        yield Finding(
            Severity.PROBLEM,
            topic,
            f"{status.name} ({status.line}) does not run: no worker consumes {status.channel}.",
            f"Start one: python manage.py runworker {status.channel}",
        )
