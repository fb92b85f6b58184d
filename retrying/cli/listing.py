"""``jobs``: those of one state, narrowed down, of one channel or of all; ``show``: all about one."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from textwrap import indent
from typing import Any

from django.core.management.base import CommandError
from msgspec import structs

from ..find import Row, find
from ..inspection import Known, arguments, as_json, attempts, events, inspect
from ..job import State, from_ms
from ..redact import redact, redact_text
from . import options
from .options import Commands
from .output import Output, plain


def add(commands: Commands) -> None:
    listing = commands.add(jobs, "List jobs of one state, those that came last first.")
    options.channel(listing, optional=True)
    options.states(listing, list(State), "default: dead", State.DEAD)
    listing.add_argument("--limit", type=options.whole, default=50, help="at most so many (50)")
    listing.add_argument("--cursor", help="go on where a page ended")
    options.filters(listing)
    one = commands.add(show, "Show all of a job: arguments, attempts with tracebacks, times, events; secrets hidden.")
    options.channel(one)
    one.add_argument("job", help="id of the job")


def jobs(given: Namespace, out: Output) -> None:
    found: list[Row] = []
    cursor, match, channels = given.cursor, options.match(given), options.chosen(given)
    while len(found) < given.limit:
        page = find(
            channels, given.state, match, text=given.text, limit=given.limit - len(found), cursor=cursor, shown=redact,
            using=given.layer,
        )  # fmt: skip
        found += page.rows
        cursor = page.cursor
        if cursor is None:
            break
    if out.as_json:
        out.json({"jobs": [_told(row) for row in found], "cursor": cursor})
        return
    rows = [_line(row) if given.channel else {"channel": row.job.channel, **_line(row)} for row in found]
    out.table(rows, empty=f"no {given.state} jobs in {given.channel or 'any channel'}")
    if cursor is not None:
        out.line(f"there are more: --cursor {cursor}")


def _told(row: Row) -> dict[str, Any]:
    facts = {**structs.asdict(row.job), "error": redact_text(row.job.error)}
    return plain({**facts, "type": row.name, "arguments": arguments(row.message)})


def _line(row: Row) -> dict[str, Any]:
    """What one looks for in a list."""
    job = row.job
    when = job.finished_at or job.due_at or job.started_at or job.created_at
    why = ": ".join(filter(None, (job.reason, redact_text(job.error)))) or job.worker
    return {
        "id": job.id, "type": row.name, "attempt": job.attempt, "failures": job.failures, "time": when, "why": why,
        "arguments": as_json(arguments(row.message) or {}),
    }  # fmt: skip


def show(given: Namespace, out: Output) -> None:
    found = inspect(given.channel, given.job, using=given.layer)
    if found is None:
        raise unknown(given.channel, given.job)
    facts, tried = _facts(found), attempts(found)
    happened = list(reversed(events(found.job, using=given.layer)))
    message = arguments(found.row.message)
    if out.as_json:
        out.json({
            **plain(facts), "arguments": message, "attempts": [asdict(one) for one in tried],
            "events": [{"at": from_ms(one.at).isoformat(), "event": one.name, **redact(one.data)} for one in happened],
        })  # fmt: skip
        return
    out.facts({**facts, "arguments": as_json(message) if found.row.message is not None else "can't be decoded"})
    for one in tried:
        out.line(f"\nattempt {one.number}: {one.outcome}{f', {one.worker}' if one.worker else ''}")
        if one.trace or one.error:
            out.line(indent(one.trace.strip() or f"{one.error}: {one.said}", "    "))
    if happened:
        out.line("\nevents")
    for event in happened:
        out.line(f"    {from_ms(event.at):%Y-%m-%d %H:%M:%SZ}  {event.name}  {as_json(redact(event.data))}")


def _facts(found: Known) -> dict[str, Any]:
    facts = {"type": found.row.name, **structs.asdict(found.job)}
    del facts["duplicate"]  # says something of what enqueue returns only
    facts["error"] = redact_text(found.job.error)
    return facts | {"first_started_at": found.first_started_at, "lease_until": found.lease_until}


def unknown(channel: str, job_id: str) -> CommandError:
    return CommandError(f"{channel} has no job {job_id}: it never had, it was purged, or succeeded long ago.")
