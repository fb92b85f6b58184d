"""One job: what is known of it, each of its attempts, what happened to it, and what can be done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, QueryDict

from retrying.exceptions import InvalidJob
from retrying.inspection import Known, arguments, as_json, attempts, events, inspect, milestones
from retrying.job import from_ms
from retrying.redact import redact, redact_text
from retrying.store.calls import TopicEvent
from retrying.verbs import VERBS_OF

from . import related, screens
from .access import page
from .present import SHOWN, cut, end, why

#: Events that are shown.
EVENTS_SHOWN = 50
#: Characters of an event's data; what transitions put there is told in words.
EVENT_CHARS = 300
SAID = ("attempt", "failures", "max_retries", "rescues", "worker", "reason", "text")


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
        found = inspect(channel, job_id)
    except InvalidJob as error:
        raise Http404(f"There can be no such job: {error}") from error
    if found is None:
        raise Http404(f"{channel} has no job {job_id}: it never had, it was purged, or it succeeded long ago.")
    return found


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
        "attempts": [
            {"tried": tried, "trace": end(tried.trace), "part": f"traceback-{tried.number}"}
            for tried in attempts(found)
        ],
        "forgotten": max(0, job.attempt - len(found.workers)),
        "moments": [_moment(event) for event in happened[:EVENTS_SHOWN]],
        "milestones": milestones(found),
        "progress": next((event.data for event in happened if event.name == "progress"), None),
        "related": related.links(job.channel, job.id),
        "shown": SHOWN,
    }


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
