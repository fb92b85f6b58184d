"""Requests to the store as values: what to send and how to read the reply. Running them is ``Store``'s business."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from ..exceptions import NotUnique
from ..job import Counts, Job, State, WorkerInfo
from .scripts import Script

T = TypeVar("T")
Arg = str | bytes | int | float


class Settled(IntEnum):
    """What the store says to the end of an attempt."""

    DONE = 1
    REPEATED = 0
    """This token had already ended its attempt: a repeated request."""
    LOST = -1
    """The lease was given to another worker: nothing was changed."""


class Call(msgspec.Struct, Generic[T], frozen=True):
    """One run of a script. Safe to repeat: see each script's header."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[Arg, ...]
    parse: Callable[[Any], T]
    #: The arguments to use when the call is repeated after its reply was lost, if they differ.
    repeat_args: tuple[Arg, ...] | None = None
    #: What is sent after it was answered; whether that succeeds is nobody's business.
    then: Call[Any] | None = None


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """What ``enqueue`` stores; times in ms. A Struct: it is made in a tenth of a dataclass' time."""

    id: str
    payload: bytes
    priority: int = 0
    delay: int | None = None
    run_at: int | None = None
    expires: int | None = None
    topic: str | None = None
    policy: str | None = None
    #: A name that one job holds at a time: until it has ended, until it has started, or for so many ms.
    unique: str | None = None
    unique_until_started: bool = False
    unique_for: int | None = None
    key: str | None = None

    def args(self) -> tuple[Arg, ...]:
        return (self.id, self.payload, self._options())

    def _options(self) -> bytes:
        """What differs from the defaults, for the script; most jobs have nothing."""
        if not (
            self.priority or self.delay or self.run_at or self.expires is not None
            or self.topic or self.policy or self.unique or self.key
        ):  # fmt: skip
            return b""
        options = {
            "priority": self.priority or None,
            "delay": self.delay,
            "run_at": self.run_at,
            "expires": self.expires,
            "topic": self.topic or None,
            "policy": self.policy or None,
            "unique": self.unique or None,
            "hold": "started" if self.unique_until_started else self.unique_for,
            "key": self.key or None,
        }
        return msgspec.msgpack.encode({name: value for name, value in options.items() if value is not None})

    def stored(self, now: int) -> Enqueued:
        """As the store has it when it was new at that time (ms of the server's clock)."""
        due = self.run_at if self.run_at is not None else now + (self.delay or 0)
        if due > now:
            return Enqueued(True, State.SCHEDULED, due, now, 0, self.id, self.priority, self.topic or "")
        return Enqueued(True, State.READY, None, now, 0, self.id, self.priority, self.topic or "")


class Enqueued(msgspec.Struct, frozen=True):
    """``new``: False when the id is known or the unique name held; the rest tells of that job. Times in ms."""

    new: bool
    state: State
    due: int | None
    created: int | None
    attempt: int
    id: str
    priority: int
    topic: str


class Piece(NamedTuple):
    """What came of a piece of many jobs: how many were ``new`` and how many ``known``; ``stored``: items of the batch
    so far; ``waiting``: jobs of the channel, ready or scheduled."""

    new: int
    known: int
    stored: int
    waiting: int


class Claimed(NamedTuple):
    """A job with its lease."""

    id: str
    payload: bytes
    attempt: int
    #: Ms since it was enqueued, by the server's clock.
    age: int
    #: Ms since the epoch.
    created: int
    priority: int = 0
    policy: str = ""
    topic: str = ""
    failures: int = 0
    rescues: int = 0
    releases: int = 0


class Claim(NamedTuple):
    """``next_due``: ms from now until something is due by itself: a scheduled job, a look at a key; None: nothing is.
    ``held``: ms from now before which the channel's rate lets no more jobs pass; None: it isn't at its limit."""

    next_due: int | None
    held: int | None
    settled: list[Settled]
    jobs: list[Claimed]


class Lease(NamedTuple):
    """What a worker shows to end or prolong its attempt."""

    job_id: str
    token: str


class Result(NamedTuple):
    """What an attempt returned, and ms to keep the job with it."""

    value: bytes
    keep: int


class Retry(NamedTuple):
    """An attempt that is to be tried again. ``delay`` in ms; ``charged``: it counts against the policy."""

    lease: Lease
    delay: int
    charged: bool
    error: str
    max_retries: int | None
    #: Ms after the job was enqueued.
    deadline: int | None = None
    #: What the attempt raised, for the job's history: see attempt.trace_of.
    trace: str = ""
    #: Type of its message; dead letters are grouped by it.
    name: str = ""


class Burial(NamedTuple):
    """An attempt whose job becomes a dead letter."""

    lease: Lease
    reason: str
    error: str
    max_retries: int | None
    trace: str = ""
    name: str = ""


class Renewed(IntEnum):
    """What the store says to a renewal."""

    PROLONGED = 1
    CANCELLING = 2
    """Prolonged, and somebody asked the job to stop."""
    LOST = -1


class Rescue(NamedTuple):
    """A job whose worker vanished; ``buried``: once too often."""

    job_id: str
    worker: str
    rescues: int
    buried: bool


class Swept(NamedTuple):
    promoted: int
    purged: int
    #: Jobs of a newer format, left for newer workers.
    newer: int
    rescued: list[Rescue]
    #: What the worker was told last, "<ms> <word>"; "" = nothing.
    told: str


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a topic's log: after the event ``offset`` of ``epoch``."""

    epoch: int
    offset: int


@dataclass(frozen=True, slots=True)
class TopicEvent:
    """One event of a topic. ``at``: ms of the server's clock; ``data``: see the event's name."""

    epoch: int
    offset: int
    at: int
    job: str
    name: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Slice:
    """A piece of a topic's log.

    ``position``: the end of the log, (0, 0) when there is none. ``recovered`` False: events after the asked position
    are gone (or never were); ``events`` then begins with the oldest there is.
    """

    events: list[TopicEvent]
    position: Position
    recovered: bool


class Cursor(NamedTuple):
    """A place in the list of a state's jobs: after the job with that score in its sorted set."""

    score: str
    job_id: str


class Found(NamedTuple):
    """A job that matches, its place in the list, and its payload if that was asked for."""

    job: Job
    place: Cursor
    payload: bytes


class Look(NamedTuple):
    """``cursor``: where to go on, None at the end; ``looked``: jobs that were looked at."""

    found: list[Found]
    cursor: Cursor | None
    looked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What to look for; "" and None: anything. ``older`` and ``newer`` in ms since the job's end or, of one that hasn't
    ended, since it was enqueued."""

    key: str = ""
    #: Class of what the last attempt raised, without its module.
    error: str = ""
    #: Type of the message; of a task its path. The script narrows dead letters down by it, the caller looks for it.
    name: str = ""
    older: int | None = None
    newer: int | None = None


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Dead letters with the same error class and message type ("": unknown). Times in ms."""

    error: str
    name: str
    count: int
    first: int
    last: int
    #: Id of the one that died last.
    newest: str


class ErrorGroups(NamedTuple):
    """A piece of a channel's groups; ``dead`` letters and ``total`` groups that there are."""

    dead: int
    total: int
    groups: list[ErrorGroup]


class Inspected(NamedTuple):
    """All that is kept of a job. ``now`` and ``lease``, the end of its lease, in ms; ``fields`` as stored."""

    now: int
    lease: int | None
    fields: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Page:
    """Jobs of one state, those that came last first. ``cursor`` leads to the next page; None: there is none."""

    jobs: list[Job]
    cursor: str | None


class Purged(NamedTuple):
    """``before``: ms up to which ended jobs are forgotten; ``skip``: jobs to pass over next, -1 at the end."""

    done: int
    before: int
    skip: int


class Redriven(NamedTuple):
    """``before``: ms up to which dead letters count; ``due``: ms at which the next one is due; ``left``: those that
    stay dead, because another job holds their unique name."""

    done: int
    more: bool
    before: str
    due: str
    left: int


class DueSlot(NamedTuple):
    """A slot of a schedule that is to become ``job``; times in ms. ``until``: later than this it counts as missed."""

    at: int
    until: int | None
    job: NewJob

    def args(self) -> tuple[Arg, ...]:
        job = self.job
        start = self.at if job.run_at is None else job.run_at
        until = "" if self.until is None else self.until
        return (self.at, until, job.id, job.payload, job.priority, start, job.policy or "")


class ScheduleLook(NamedTuple):
    """What a worker asks of one schedule. ``line``: when its slots are; "" unless it looks for the first time."""

    name: str
    line: str
    slots: Sequence[DueSlot]


class Looked(NamedTuple):
    """Of one schedule; times in ms. Slots up to ``since`` are never made, those up to ``mark`` are decided on."""

    since: int
    mark: int | None
    paused: bool
    made: int
    missed: int


class Looks(NamedTuple):
    """``now``: ms of the server's clock."""

    now: int
    schedules: list[Looked]


class ScheduleState(NamedTuple):
    """Times in ms. ``since`` None: no worker has looked yet; ``last``: the newest slot that became a job."""

    now: int
    since: int | None
    mark: int | None
    last: int | None
    paused: int | None


def text(value: bytes | str | int) -> str:
    """What the server sent, as text; broken UTF-8 is replaced."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def pairs(flat: Sequence[bytes]) -> dict[str, str]:
    return {text(flat[i]): text(flat[i + 1]) for i in range(0, len(flat), 2)}


def enqueued_parser(jobs: Sequence[NewJob]) -> Callable[[Any], list[Any]]:
    """Reads an Enqueued for each of ``jobs``, None for one that was refused; an empty list when all of them were."""

    def parse(reply: int | list[Any]) -> list[Enqueued | None]:
        if isinstance(reply, int):
            return [job.stored(reply) for job in jobs]
        if not reply:
            return []
        now, *others = reply
        found: list[Enqueued | None] = [job.stored(now) for job in jobs]
        for number, *known in others:
            found[number - 1] = _known(known) if known else None
        return found

    return parse


def one_parser(job: NewJob) -> Callable[[Any], Enqueued | None]:
    """Reads an Enqueued for ``job``, None when it was refused."""

    def parse(reply: int | list[Any]) -> Enqueued | None:
        if isinstance(reply, int):
            return job.stored(reply)
        _, (_, *known) = reply
        return _known(known) if known else None

    return parse


def _known(words: Sequence[bytes]) -> Enqueued:
    state, due, created, attempt, id, priority, topic = words
    return Enqueued(
        False,
        State(text(state)),
        int(due) if due else None,
        int(created) if created else None,
        int(attempt),
        text(id),
        int(priority),
        text(topic),
    )


def parse_piece(reply: list[int]) -> Piece:
    return Piece(*reply)


def parse_claim(reply: list[Any]) -> Claim:
    now, next_due, held, settled, jobs = reply
    return Claim(
        max(0, int(next_due) - now) if next_due else None,
        max(0, int(held) - now) if held else None,
        [_SETTLED[status] for status in settled],
        [_claimed(now, *job) for job in jobs],
    )


def _claimed(now: int, id: bytes, payload: bytes, attempt: int | bytes, created: bytes, *rest: bytes) -> Claimed:
    since = int(created)
    if not rest:  # a plain job's first attempt
        return Claimed(id.decode(), payload, int(attempt), now - since, since)
    fields: dict[str, Any] = {}
    for i in range(0, len(rest), 2):
        name = rest[i].decode()
        fields[name] = text(rest[i + 1]) if name in _TEXTS else int(rest[i + 1])
    return Claimed(id.decode(), payload, int(attempt), now - since, since, **fields)


_SETTLED = {int(status): status for status in Settled}
#: What isn't a number of what comes with a claimed job.
_TEXTS = ("policy", "topic")


def parse_retried(reply: list[Any]) -> list[tuple[Settled, int | None]]:
    return [(Settled(status), int(due) if due else None) for status, due in reply]


def parse_settled(reply: list[Any]) -> list[Settled]:
    return [Settled(status) for status in reply]


def parse_renewed(reply: list[Any]) -> list[Renewed]:
    return [Renewed(status) for status in reply]


def parse_swept(reply: list[Any]) -> Swept:
    promoted, purged, newer, rescued, told = reply
    rescues = [Rescue(text(job), text(worker), count, bool(buried)) for job, worker, count, buried in rescued]
    return Swept(promoted, purged, newer, rescues, text(told))


def parse_state(reply: list[bytes]) -> State | None:
    """Of one job."""
    (state,) = parse_states(reply)
    return state


def parse_states(reply: list[bytes]) -> list[State | None]:
    return [State(text(state)) if state else None for state in reply]


def parse_redrives(reply: list[Any]) -> tuple[str, list[tuple[State | None, str]]]:
    due, answers = reply
    return text(due), [(State(text(state)) if state else None, text(other)) for state, other in answers]


def redrive_parser(job_id: str) -> Callable[[list[Any]], State | None]:
    def parse(reply: list[Any]) -> State | None:
        ((state, other),) = parse_redrives(reply)[1]
        if other:
            raise NotUnique(
                f"job {job_id!r} stays dead: job {other!r} holds its unique name; redrive it when that has ended"
            )
        return state

    return parse


class Seen(NamedTuple):
    """What the store knows of a channel; times in ms. ``minutes`` and ``spans``: copies of its counters, the oldest
    first, None of one that did nothing; ``total``: the counters now."""

    now: int
    counts: Counts
    paused: int | None
    workers: list[WorkerInfo]
    total: bytes
    minutes: list[bytes | None]
    spans: list[bytes | None]


def parse_stats(reply: list[Any]) -> Seen:
    now, counts, paused, workers, total, minutes, spans = reply
    return Seen(
        int(now),
        parse_counts(counts),
        None if paused < 0 else paused,
        parse_workers(workers),
        total,
        minutes,
        spans,
    )


def parse_counts(reply: list[int]) -> Counts:
    scheduled, ready, running, dead, finished, oldest, succeeded = reply
    return Counts(
        scheduled=scheduled,
        ready=ready,
        running=running,
        dead=dead,
        finished=finished,
        oldest_seconds=oldest / 1000,
        succeeded=succeeded,
    )


def parse_workers(reply: list[Any]) -> list[WorkerInfo]:
    return [WorkerInfo.of(*(text(value) for value in reply[i : i + 4])) for i in range(0, len(reply), 4)]


def parse_whole(reply: list[bytes]) -> dict[str, bytes]:
    return {text(reply[i]): reply[i + 1] for i in range(0, len(reply), 2)}


def job_parser(channel: str, job_id: str) -> Callable[[list[bytes]], Job | None]:
    def parse(reply: list[bytes]) -> Job | None:
        return Job.from_fields(channel, job_id, pairs(reply)) if reply else None

    return parse


def look_parser(channel: str) -> Callable[[list[Any]], Look]:
    def found(job: list[bytes]) -> Found:
        id, payload = text(job[0]), b""
        if job[-2] == b"payload":  # the last one, and no text
            *job, _, payload = job
        fields = pairs(job[1:])
        return Found(Job.from_fields(channel, id, fields), Cursor(fields["score"], id), payload)

    def parse(reply: list[Any]) -> Look:
        score, job_id, looked, jobs = reply
        return Look([found(job) for job in jobs], Cursor(text(score), text(job_id)) if score else None, looked)

    return parse


def page_parser(channel: str) -> Callable[[list[Any]], Page]:
    look = look_parser(channel)

    def parse(reply: list[Any]) -> Page:
        found, cursor, _ = look(reply)
        return Page([item.job for item in found], f"{cursor.score}:{cursor.job_id}" if cursor else None)

    return parse


def parse_groups(reply: list[Any]) -> ErrorGroups:
    dead, total, rows = reply
    groups = []
    for name, count, first, last, newest in rows:
        error, _, message_type = text(name).partition(" ")
        groups.append(ErrorGroup(error, message_type, count, int(first), int(last), text(newest)))
    return ErrorGroups(dead, total, groups)


def parse_inspected(reply: list[Any]) -> Inspected:
    now, lease, fields = reply
    return Inspected(now, int(lease) if lease else None, parse_whole(fields))


def parse_purged(reply: list[Any]) -> Purged:
    done, before, skip = reply
    return Purged(done, int(before), skip)


def parse_redriven(reply: bytes) -> Redriven:
    _token, done, more, before, due, left = text(reply).split()
    return Redriven(int(done), more == "1", before, due, int(left))


def parse_looks(reply: list[Any]) -> Looks:
    now, schedules = reply
    return Looks(
        int(now),
        [
            Looked(int(since), int(mark) if mark else None, paused == 1, made, missed)
            for since, mark, paused, made, missed in schedules
        ],
    )


def parse_schedule_state(reply: list[bytes]) -> ScheduleState:
    now, *rest = reply
    return ScheduleState(int(now), *(int(value) if value else None for value in rest))
