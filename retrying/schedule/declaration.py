"""``@periodic``, and finding what was declared with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, TypeVar

from django.utils.timezone import get_default_timezone_name

from ..context import current_job
from ..exceptions import InvalidSchedule
from ..store.calls import DueSlot, NewJob
from .timing import Slot, Timing, timing

Handler = TypeVar("Handler", bound=Callable[..., Any])

#: As in a job's id, of which the name is a part.
NAME = re.compile(r"[a-zA-Z\d\-_.]{1,150}")
#: How a slot is written in a job's id, in UTC.
SLOT = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Periodic:
    """What ``@periodic`` attaches to a function as ``periodic``."""

    name: str
    timing: Timing


def periodic(
    *,
    cron: str | None = None,
    every: timedelta | None = None,
    tz: str | tzinfo | None = None,
    jitter: timedelta | float = timedelta(0),
    catch_up: str = "skip",
    name: str | None = None,
) -> Callable[[Handler], Handler]:
    """Let a task function, or a consumer's handler method, run at regular times: each slot is one job.

    It goes directly above the ``def``, and so under ``@task``, as ``@retry`` does; the same function is returned.
    A task is called without arguments, a handler gets a message with nothing but its ``type``.

    ``cron``: "minute hour day month weekday", a second before them if there are six; read in ``tz``, a zone or its
    name (None: the setting TIME_ZONE). ``every``: a timedelta of whole seconds, counted from 1970-01-01T00:00Z.
    ``jitter``: each job starts later by up to so much (timedelta or seconds). ``catch_up``: what becomes of slots at
    whose time no worker ran: "skip" none, "last" the newest one, "all" each (at most the newest 1,000).
    ``name``: 1-150 of A-Z a-z 0-9 - _ . (None: the function's module and name).

    Raises InvalidSchedule naming the field; TypeError when the thing decorated isn't a function.
    """
    found = timing(
        cron=cron, every=every, tz=tz, jitter=jitter, catch_up=catch_up,
        default_zone=get_default_timezone_name() if every is None and tz is None else "UTC",
    )  # fmt: skip

    def attach(handler: Handler) -> Handler:
        if isinstance(handler, type) or not hasattr(handler, "__code__"):
            raise TypeError(
                f"@periodic goes on a function or method, directly above its def (and under @task); got {handler!r}"
            )
        if hasattr(handler, "periodic"):
            raise InvalidSchedule(f"{handler.__qualname__} has a schedule already: write another function for a second")
        own: object = f"{handler.__module__}.{handler.__qualname__}" if name is None else name
        if not isinstance(own, str) or not NAME.fullmatch(own):
            raise InvalidSchedule(f"name takes 1-150 of A-Z a-z 0-9 - _ . and is {own!r}: pass another one")
        handler.periodic = Periodic(name=own, timing=found)  # type: ignore[attr-defined]
        return handler

    return attach


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A declared schedule and where its jobs go. ``make``: the job that has this id."""

    name: str
    channel: str
    timing: Timing
    make: Callable[[str], NewJob]

    def job(self, at: datetime) -> NewJob:
        """The job of the slot at that time."""
        return self.make(f"schedule:{self.name}:{at.astimezone(UTC):{SLOT}}")

    def slot(self, slot: Slot) -> DueSlot:
        """The request to make a job of ``slot``."""
        start = self.timing.start(self.name, slot.at)
        job = self.job(slot.at)
        until = None if slot.until is None else to_ms(slot.until)
        return DueSlot(to_ms(slot.at), until, NewJob(
            id=job.id, payload=job.payload, priority=job.priority, run_at=to_ms(start), policy=job.policy
        ))  # fmt: skip


def to_ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def scheduled_for() -> datetime | None:
    """The time of the slot that the running job was made for, in UTC; None: it isn't of a schedule, or was run by hand.

    Raises LookupError outside of a job.
    """
    kind, _, rest = current_job().id.partition("@")[0].partition(":")  # a task's ends with its channel
    slot = rest.partition(":")[2]
    try:
        return datetime.strptime(slot, SLOT).replace(tzinfo=UTC) if kind == "schedule" else None
    except ValueError:
        return None
