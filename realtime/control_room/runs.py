"""Doing something to all jobs that match: in pieces of less than a second, each a POST of its own.

The state of a run travels in its form, signed: nothing runs on when nobody watches, and what a piece did is done
whatever becomes of the next one. Begun again it goes on with what is left: jobs that it was done to match no more.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from django.core import signing
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.urls import reverse

from retrying import jobs
from retrying.find import Finding, find
from retrying.job import State, from_ms
from retrying.redact import redact
from retrying.verbs import VERBS, How, Outcome, Verb, apply, jobs_in_words, report

from . import asking, screens
from .access import action, guarded, record, refusal
from .filters import Filters
from .forms import filters_of, problem_of, rate_of

#: Jobs looked for at once, and seconds for which a piece of a run works.
PIECE = 60
PIECE_SECONDS = 0.7
#: Most jobs that are counted one by one before the question is asked.
COUNTED = 10_000
#: Seconds within which a run's next piece must be asked for.
RUN_SECONDS = 86400
SALT = "realtime.control_room.run"


def begin(request: HttpRequest, verb: Verb) -> HttpResponse:
    """Count, ask, and show the page that works through them."""
    filters = filters_of(request)
    rate, wrong = rate_of(request)
    if problem := problem_of(filters, verb) or wrong:
        return asking.done(request, problem, ok=False)
    count, exact = matching(filters)
    if asking.asked(request):
        progress = Run(verb.name, filters.address(), rate, count if exact else None)
        sentence = f"{verb.name}, all that match: begun"
        record(request, sentence, target=filters.target, deletion=verb.name == "purge")
        return _show(request, progress)
    if not count and exact:
        return asking.done(request, "Nothing matches any more; nothing was done.", ok=False)
    what = jobs_in_words(count, filters.state, filters.channel)
    if not exact:
        what = f"all {filters.state} jobs that match, {count:,} at least"
    matched = f" They match: {filters.words}." if filters.words else ""
    paced = f" {rate:g} a second: that takes {count / rate:,.0f} s." if rate else ""
    question, yes = verb.question.format(what), f"{verb.name.capitalize()} {what}"
    return asking.ask(request, question, verb.detail + matched + paced, yes=yes, danger=verb.destructive)


def matching(filters: Filters) -> tuple[int, bool]:
    """How many jobs match, and whether that is all: where it can't be told at a look, those found in a bounded time."""
    if not filters.narrowed and filters.state not in (State.CANCELLED, State.EXPIRED):
        return sum(getattr(jobs.counts(channel), filters.state) for channel in filters.channels()), True
    found = _find(filters, None, limit=COUNTED)
    return len(found.rows), found.cursor is None


def _find(filters: Filters, cursor: str | None, limit: int) -> Finding:
    return find(
        filters.channels(), filters.state, filters.match, text=filters.text, limit=limit, cursor=cursor, messages=False,
        shown=redact,
    )  # fmt: skip


@dataclass
class Run:
    """All that match, being worked through. ``total`` None: not known."""

    verb: str
    query: str
    rate: float | None
    total: int | None
    cursor: str = ""
    looked: int = 0
    done: int = 0
    held: int = 0
    moved: dict[str, int] = field(default_factory=dict)
    due: str = ""
    over: bool = False

    @property
    def filters(self) -> Filters:
        return Filters.of(QueryDict(self.query))

    @property
    def outcome(self) -> Outcome:
        moved = Counter({State(state) if state else None: count for state, count in self.moved.items()})
        return Outcome(self.done, moved, self.held, self.due)

    @property
    def seen(self) -> int:
        """Jobs that were come to so far."""
        return self.done + self.held + sum(self.moved.values())

    @property
    def until(self) -> datetime | None:
        """When the last of those that were scheduled may start; None when they weren't."""
        return from_ms(int(float(self.due))) if self.rate and self.due else None

    def work(self) -> None:
        """A piece of it: less than a second's."""
        verb, filters = VERBS[self.verb], self.filters
        until = time.monotonic() + PIECE_SECONDS
        while not self.over and time.monotonic() < until:
            found = _find(filters, self.cursor or None, PIECE)
            these = [(row.job.channel, row.job.id) for row in found.rows]
            outcome = apply(verb, these, State(filters.state), How(rate=self.rate, due=self.due, reason=asking.REASON))
            self.looked += found.looked
            self.done += outcome.done
            self.held += outcome.held
            self.due = outcome.due
            for state, count in outcome.moved.items():
                self.moved[state or ""] = self.moved.get(state or "", 0) + count
            self.cursor, self.over = found.cursor or "", found.cursor is None


@action("view")
def run(request: HttpRequest) -> HttpResponseBase:
    """The next piece of a run."""
    try:
        state = signing.loads(request.POST.get("run", ""), salt=_salt(request), max_age=RUN_SECONDS)
        progress = Run(**state)
    except (signing.BadSignature, TypeError):
        words = "This run can't go on: it was begun more than a day ago, or by somebody else. What it did is done."
        return refusal(request, words, status=400)
    return guarded(_run, VERBS[progress.verb].right)(request, progress)


def _salt(request: HttpRequest) -> str:
    return f"{SALT}.{request.user.pk}"


def _run(request: HttpRequest, progress: Run) -> HttpResponse:
    progress.work()
    if progress.over:
        sentence = f"{progress.verb}, all that match: {report(VERBS[progress.verb], progress.outcome)}"
        record(request, sentence, target=progress.filters.target, deletion=progress.verb == "purge")
    screens.forget()
    return _show(request, progress)


def _show(request: HttpRequest, progress: Run) -> HttpResponse:
    verb, filters = VERBS[progress.verb], progress.filters
    context = {
        "section": "jobs",
        "run": progress,
        "verb": verb,
        "what": f"{filters.state} jobs" + (f" of “{filters.channel}”" if filters.channel else ""),
        "matching": filters.words,
        "report": report(verb, progress.outcome),
        "most": progress.total or 0,
        "token": signing.dumps(asdict(progress), salt=_salt(request), compress=True),
        "back": f"{reverse('control_room:jobs')}?{filters.address()}",
    }
    return screens.render(request, "standing", "control_room/run.html", context, query={"channel": filters.channel})


def standing(query: QueryDict) -> dict[str, Any]:
    """How many jobs are where: to be watched while a run goes on."""
    channel = query.get("channel", "")
    rows = [(name, jobs.counts(name)) for name in ([channel] if channel else jobs.channels())]
    busy = [row for row in rows if row[1].ready or row[1].running or row[1].scheduled or row[1].dead]
    return {"rows": busy or rows[:1]}


screens.add("standing", template="control_room/parts/standing.html", state=standing)
