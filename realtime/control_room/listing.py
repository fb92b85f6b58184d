"""Jobs by state, a page at a time, narrowed down by what the address says."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict
from django.template.loader import render_to_string
from django.utils.safestring import mark_safe

from retrying import jobs
from retrying.find import MAX_READ, Finding, find
from retrying.job import Counts, State
from retrying.redact import redact
from retrying.verbs import VERBS_OF

from . import screens
from .access import page
from .filters import MERGED, Filters
from .present import line

PER_PAGE = 50
PART = "control_room/parts/jobs.html"


def state(query: QueryDict) -> dict[str, Any]:
    """What the list shows."""
    filters = Filters.of(query)
    channels = jobs.channels()
    shown: dict[str, Any] = {"filters": filters, "tabs": _tabs(filters, channels), "problem": filters.problem}
    looked_in = [filters.channel] if filters.channel else channels
    if not shown["problem"] and len(looked_in) > MERGED:
        shown["problem"] = f"There are {len(looked_in)} channels, too many for one list: choose one."
    if shown["problem"]:
        return shown
    found = search(filters, looked_in)
    return {
        **shown,
        "lines": [line(row) for row in found.rows],
        "looked": found.looked,
        "read": found.read,
        "most_read": MAX_READ,
        "next": filters.address(page=found.cursor) if found.cursor else "",
        "first": filters.address() if filters.page else "",
        "full": len(found.rows) >= PER_PAGE,
        "past": bool(filters.page and not found.rows and not found.cursor),
        "many_channels": not filters.channel,
    }


def search(filters: Filters, channels: list[str], *, cursor: str | None = None, limit: int = PER_PAGE) -> Finding:
    """A page of what matches."""
    return find(
        channels, filters.state, filters.match, text=filters.text, limit=limit, cursor=cursor or filters.page or None,
        shown=redact,
    )  # fmt: skip


def _tabs(filters: Filters, channels: list[str]) -> list[dict[str, Any]]:
    """The states, with how many jobs are in each: what the store can count in one look."""
    chosen = [filters.channel] if filters.channel and not filters.problem else channels
    sums: list[Counts] = [jobs.counts(channel) for channel in chosen[:MERGED]] if len(chosen) <= MERGED else []
    return [
        {
            "state": state,
            "address": filters.address(state=state.value),
            "current": state == filters.state,
            "count": _count(sums, state),
        }
        for state in (
            State.READY, State.RUNNING, State.SCHEDULED, State.DEAD, State.SUCCEEDED, State.CANCELLED, State.EXPIRED
        )
    ]  # fmt: skip


def _count(sums: list[Counts], state: State) -> int | None:
    """None where it isn't known at a look: the store keeps cancelled and expired jobs in one list."""
    if not sums:
        return None
    if state in (State.CANCELLED, State.EXPIRED):
        return None if sum(counts.finished - counts.succeeded for counts in sums) else 0
    found: int = sum(getattr(counts, state) for counts in sums)
    return found


@page
def listing(request: HttpRequest) -> HttpResponse:
    """The page. One that has to read messages is made once, not every second."""
    filters = Filters.of(request.GET)
    verbs = VERBS_OF.get(State(filters.state), ()) if not filters.problem else ()
    extra = {
        "section": "jobs",
        "filters": filters,
        "states": list(State),
        "channels": jobs.channels(),
        "verbs": verbs,
        "hidden": filters.values(),
        "may_act": any(request.access.allows("purge" if verb == "purge" else "manage") for verb in verbs),  # type: ignore[attr-defined]
    }
    if not filters.reads:
        return screens.render(request, "jobs", "control_room/jobs.html", extra)
    shown = render_to_string(PART, {**state(request.GET), "access": request.access})  # type: ignore[attr-defined]
    still = mark_safe(f'<div id="still">{shown}</div>')  # noqa: S308 -- rendered by a template, which escapes
    return screens.page(request, "control_room/jobs.html", {**extra, "still": still})


screens.add("jobs", template=PART, state=state)
