"""One job: what is known of it, each of its attempts, what happened to it, and what can be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, QueryDict

from retrying.exceptions import InvalidJob
from retrying.find import Row
from retrying.job import Job, State, from_ms
from retrying.layers import get_layer
from retrying.message import check_channel, check_job_id
from retrying.redact import redact, redact_text
from retrying.store.calls import Cursor, Position, TopicEvent
from retrying.verbs import VERBS_OF

from . import related, screens
from .access import page
from .present import SHOWN, Text, arguments, as_json, cut, why

#: The end of a topic's log that is searched for the job's events, and how many of these are shown.
EVENTS_READ = 500
EVENTS_SHOWN = 50
#: Characters of an event's data; what transitions put there is told in words.
EVENT_CHARS = 300
SAID = ("attempt", "failures", "max_retries", "rescues", "worker", "reason", "text")


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
    """An attempt. ``error``: path of the exception's class; ``vanished``: its worker did."""

    number: int
    worker: str
    error: str
    said: str
    trace: Text | None
    vanished: bool
    outcome: str

    @property
    def text(self) -> str:
        """What ``download`` calls its traceback."""
        return f"traceback-{self.number}"


@dataclass(frozen=True, slots=True)
class Moment:
    """An event; ``key`` is its place in the log."""

    key: str
    at: datetime
    words: str
    data: str


def known(channel: str, job_id: str) -> Known:
    """Raises Http404 when there is no such job, or can't be."""
    try:
        check_channel(channel)
        check_job_id(job_id)
    except InvalidJob as error:
        raise Http404(f"There can be no such job: {error}") from error
    layer = get_layer()
    found = layer.store.run(layer.store.inspect(channel, job_id))
    if not found.fields:
        raise Http404(f"{channel} has no job {job_id}: it never had, it was purged, or it succeeded long ago.")
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


def state(query: QueryDict) -> dict[str, Any]:
    """What the page shows."""
    found = known(query.get("channel", ""), query.get("job", ""))
    job, message = found.job, found.row.message
    happened = events(job)
    return {
        "job": job,
        "name": found.row.name,
        "why": why(job),
        "known": found,
        "verbs": VERBS_OF[job.state] if job.created_at else (),
        "arguments": cut(as_json(arguments(message), indent=2)) if message is not None else None,
        "payload_bytes": len(found.payload),
        "attempts": attempts(found),
        "forgotten": max(0, job.attempt - len(found.workers)),
        "moments": [_moment(event) for event in happened[:EVENTS_SHOWN]],
        "milestones": _milestones(found),
        "progress": next((event.data for event in happened if event.name == "progress"), None),
        "related": related.links(job.channel, job.id),
        "shown": SHOWN,
    }


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
    shown = None
    if text:
        whole = redact_text(text)
        shown = Text(whole[-SHOWN:], len(whole))  # what matters is at a traceback's end
    return Tried(number, found.workers.get(number, ""), path, said[:1000], shown, vanished, outcome)


def _milestones(found: Known) -> list[tuple[str, datetime]]:
    job = found.job
    times = [
        ("enqueued", job.created_at),
        ("first started", found.first_started_at),
        ("last started", job.started_at if job.started_at != found.first_started_at else None),
        (job.state.value, job.finished_at),
        ("may start" if not job.failures else "next attempt", job.due_at),
    ]
    return [(words, at) for words, at in times if at is not None]


def events(job: Job) -> list[TopicEvent]:
    """The job's events in its topic's log, the newest first; none without a topic."""
    if job.topic is None:
        return []
    layer = get_layer()
    (end,) = layer.store.run(layer.store.ends(job.channel, [job.topic]))
    if not end.epoch:
        return []
    after = Position(end.epoch, max(0, end.offset - EVENTS_READ))
    found = layer.store.run(layer.store.read_topic(job.channel, job.topic, after, EVENTS_READ))
    return [event for event in reversed(found.events) if event.job == job.id]


def _moment(event: TopicEvent) -> Moment:
    known = [f"{name.replace('_', ' ')} {value}" for name, value in event.data.items() if name in SAID and value]
    if due := event.data.get("due"):
        known.append(f"due {from_ms(due):%Y-%m-%d %H:%M:%S} UTC")
    told = {*SAID, "due", "error"}
    rest = {name: value for name, value in event.data.items() if name not in told and value is not None}
    text = ", ".join([*known, *([as_json(redact(rest))] if rest else [])])
    if len(text) > EVENT_CHARS:
        text = f"{text[:EVENT_CHARS]}…"
    return Moment(f"{event.epoch}-{event.offset}", from_ms(event.at), event.name, text)


@page
def job(request: HttpRequest, channel: str, job_id: str) -> HttpResponse:
    """The page of one job."""
    query = {"channel": channel, "job": job_id}
    extra = {"section": "jobs", "channel": channel, "job_id": job_id}
    return screens.render(request, "job", "control_room/job.html", extra, query=query)


@page
def download(request: HttpRequest, channel: str, job_id: str, part: str) -> HttpResponse:
    """The whole of a text that the page cuts: ``arguments``, or ``traceback-<attempt>``; redacted as there."""
    found = known(channel, job_id)
    kind, _, number = part.partition("-")
    if kind == "arguments" and not number:
        text = as_json(redact(found.row.message), indent=2)
    elif kind == "traceback" and number.isdecimal() and int(number) in found.errors:
        text = redact_text(found.errors[int(number)])
    else:
        raise Http404("There is no such text of this job.")
    answer = HttpResponse(text, content_type="text/plain; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{part}.txt"'
    answer["X-Content-Type-Options"] = "nosniff"
    return answer


screens.add("job", template="control_room/parts/job.html", state=state)
