"""A job: one message on a channel, with its identity and state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache

import msgspec

#: Format of a stored job. A worker leaves jobs of a higher number to newer workers.
FORMAT = 1


class State(StrEnum):
    """Where a job is. The same words in the store, in code, on the websocket and in pages."""

    SCHEDULED = "scheduled"
    """Waits for its time (delay, ETA, retry). Claims and sweeps move it on when it is due; a crash changes nothing."""
    READY = "ready"
    """May be claimed. A crash changes nothing."""
    RUNNING = "running"
    """Leased to a worker. When the worker dies the lease ends and a sweep makes the job ready again (a rescue)."""
    SUCCEEDED = "succeeded"
    """The handler returned. Only a tombstone stays, for ``DEDUP_SECONDS``, unless ``KEEP_SUCCEEDED`` keeps more."""
    DEAD = "dead"
    """A dead letter: out of attempts or rescues, or given up. Kept until redriven, purged or ``DEAD_KEEP_DAYS`` old."""
    CANCELLED = "cancelled"
    """Ended on request, or by ``Discard``. Kept as long as dead letters."""
    EXPIRED = "expired"
    """Its first attempt had not begun when it expired. Kept as long as dead letters."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows of a job. Times are aware datetimes of the server's clock."""

    #: Unique within the channel; made by the caller or random.
    id: str
    channel: str
    state: State
    #: Ordinal of the last attempt: 0 before the first, then rising with every start, after rescues and releases too.
    #: Fence database rows on it.
    attempt: int = 0
    #: Attempts charged against the policy: the retries used so far.
    failures: int = 0
    #: Times the worker vanished in the middle.
    rescues: int = 0
    #: Times the job was given back uncharged.
    releases: int = 0
    #: Of the policy that applied to the last attempt; None before the first and for policies without end.
    max_retries: int | None = None
    #: -100..100, larger first.
    priority: int = 0
    created_at: datetime | None = None
    #: When a scheduled job may start.
    due_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    #: Worker of the last attempt, ``host:pid:random``; "" before the first.
    worker: str = ""
    #: Text of the last failure.
    error: str = ""
    #: Why it is dead or cancelled.
    reason: str = ""
    #: Name of the topic its events go to.
    topic: str | None = None
    #: A running job was asked to stop.
    cancel_requested: bool = False
    #: The name that it holds, or held, as the only one.
    unique: str | None = None
    #: What the channel's limits per key count it by.
    key: str | None = None
    #: It is ready, and waits for its key.
    parked: bool = False
    #: Of what ``enqueue`` returns: the job was there before, by its id or its unique name; nothing was written.
    duplicate: bool = False

    @classmethod
    def from_fields(cls, channel: str, job_id: str, fields: Mapping[str, str]) -> Job:
        """A job from its hash in the store."""

        def time(name: str) -> datetime | None:
            return from_ms(int(fields[name])) if fields.get(name) else None

        def number(name: str) -> int:
            return int(fields.get(name) or 0)

        return cls(
            id=job_id,
            channel=channel,
            state=State(fields["state"]),
            attempt=number("attempt"),
            failures=number("failures"),
            rescues=number("rescues"),
            releases=number("releases"),
            max_retries=number("max_retries") if fields.get("max_retries") else None,
            priority=number("priority"),
            created_at=time("created"),
            due_at=time("due") if fields["state"] == State.SCHEDULED else None,
            started_at=time("started"),
            finished_at=time("finished"),
            worker=fields.get("worker", ""),
            error=fields.get("error", ""),
            reason=fields.get("reason", ""),
            topic=fields.get("topic") or None,
            cancel_requested="cancel" in fields,
            unique=fields.get("unique"),
            key=fields.get("key"),
            parked="parked" in fields,
        )


@lru_cache(maxsize=64)  # jobs that are stored together have one time
def from_ms(ms: int) -> datetime:
    """An aware datetime from the server's milliseconds since the epoch."""
    return datetime.fromtimestamp(ms / 1000, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Jobs of a channel by state.

    ``oldest_seconds``: for how long a job has been waiting that could run, the first ones in line looked at; due jobs
    and those of dead workers count too, in case no worker is there to move them on.
    """

    scheduled: int
    ready: int
    running: int
    dead: int
    finished: int
    oldest_seconds: float
    #: Successes that KEEP_SUCCEEDED keeps; ``finished`` counts them, and cancelled and expired jobs, too.
    succeeded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """A worker that consumes a channel, as it said with its last sweep; one of an older release says less."""

    #: ``host:pid:random``.
    id: str
    seen_seconds_ago: float
    #: Jobs of the channel that it has in hand, and how many it runs at a time (with the other channels of a group).
    running: int = 0
    concurrency: int = 0
    #: Resident memory of its process.
    memory_mib: float = 0.0
    started_at: datetime | None = None
    #: It begins no jobs until it is told to work again.
    quiet: bool = False
    #: It ends: no new jobs, running ones may end.
    stopping: bool = False

    @property
    def host(self) -> str:
        return self.id.rpartition(":")[0].rpartition(":")[0]

    @property
    def pid(self) -> int:
        """0 when the id tells of none."""
        pid = self.id.rpartition(":")[0].rpartition(":")[2]
        return int(pid) if pid.isdecimal() else 0

    @classmethod
    def of(cls, id: str, silent_ms: str, facts: str, told: str) -> WorkerInfo:
        """From what the store has: ``facts``, a JSON object or ""; ``told``, "<ms> <word>" or ""."""
        try:
            said = json.loads(facts or "{}")
            known = cls(
                id=id,
                seen_seconds_ago=int(silent_ms) / 1000,
                running=int(said.get("running", 0)),
                concurrency=int(said.get("concurrency", 0)),
                memory_mib=float(said.get("memory_mib", 0.0)),
                started_at=from_ms(int(said["started"])) if "started" in said else None,
                quiet=bool(said.get("quiet")),
                stopping=bool(said.get("stopping")),
            )
        except (ValueError, TypeError, AttributeError):  # of another release
            known = cls(id=id, seen_seconds_ago=int(silent_ms) / 1000)
        word = told.partition(" ")[2]
        if word == "stop":
            return replace(known, stopping=True)
        return replace(known, quiet=word == "quiet") if word else known
