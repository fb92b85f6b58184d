"""``jobs``: those of one state, narrowed down, of one channel or of all; ``show``: all about one."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from django.core.management.base import CommandError
from msgspec import structs

from .. import jobs as jobs_
from ..find import Row, find
from ..job import State
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
    one = commands.add(show, "Show a job.")
    options.channel(one)
    one.add_argument("job", help="id of the job")


def jobs(given: Namespace, out: Output) -> None:
    found: list[Row] = []
    cursor, match, channels = given.cursor, options.match(given), options.chosen(given)
    while len(found) < given.limit:
        page = find(
            channels, given.state, match, text=given.text, limit=given.limit - len(found), cursor=cursor,
            using=given.layer,
        )  # fmt: skip
        found += page.rows
        cursor = page.cursor
        if cursor is None:
            break
    if out.as_json:
        out.json({"jobs": [plain({**structs.asdict(row.job), "type": row.name}) for row in found], "cursor": cursor})
        return
    rows = [_line(row) if given.channel else {"channel": row.job.channel, **_line(row)} for row in found]
    out.table(rows, empty=f"no {given.state} jobs in {given.channel or 'any channel'}")
    if cursor is not None:
        out.line(f"there are more: --cursor {cursor}")


def _line(row: Row) -> dict[str, Any]:
    """What one looks for in a list."""
    job = row.job
    when = job.finished_at or job.due_at or job.started_at or job.created_at
    why = ": ".join(filter(None, (job.reason, job.error))) or job.worker
    return {"id": job.id, "type": row.name, "attempt": job.attempt, "failures": job.failures, "time": when, "why": why}


def show(given: Namespace, out: Output) -> None:
    job = jobs_.get(given.channel, given.job, using=given.layer)
    if job is None:
        raise unknown(given.channel, given.job)
    values = plain(structs.asdict(job))
    del values["duplicate"]  # says something of what enqueue returns only
    if out.as_json:
        out.json(values)
        return
    width = max(map(len, values))
    for name, value in values.items():
        if value not in (None, ""):
            out.line(f"{name:{width}}  {value}")


def unknown(channel: str, job_id: str) -> CommandError:
    return CommandError(f"{channel} has no job {job_id}: it never had, it was purged, or succeeded long ago.")
