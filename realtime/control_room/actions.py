"""What people do to jobs from the pages: to one, or to those they ticked; ``runs`` does it to all that match.

Asked before, POSTed, refused without the right, told after, and written into the admin's log.
"""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.urls import reverse

from retrying.job import State
from retrying.verbs import VERBS, VERBS_OF, How, Verb, apply, jobs_in_words, report

from . import asking, runs
from .access import action, guarded, record, refusal
from .filters import Filters
from .forms import filters_of, problem_of, rate_of
from .job import known

#: Jobs that may be ticked.
TICKED = 1000
#: Of these, how many are named in the admin's log.
LOGGED = 50


@action("view")
def one(request: HttpRequest, channel: str, job_id: str, verb: str) -> HttpResponseBase:
    """Do something to one job, as it was ``seen``."""
    if verb not in VERBS:
        return refusal(request, f"There is nothing called “{verb}” that could be done to a job.", status=404)
    return guarded(_one, VERBS[verb].right)(request, channel, job_id, VERBS[verb])


def _one(request: HttpRequest, channel: str, job_id: str, verb: Verb) -> HttpResponse:
    seen = request.POST.get("seen", "")
    listed = f"{reverse('control_room:jobs')}?{Filters(channel=channel, state=seen or State.DEAD).address()}"
    try:
        state = known(channel, job_id).job.state
    except Http404:
        return asking.done(request, f"It {_now(None, seen)}; nothing was done.", ok=False, to=listed)
    if verb.name not in VERBS_OF[state] or (seen and seen != state):
        return asking.done(request, f"It {_now(state, seen)}; nothing was done.", ok=False)
    if verb.name != "retry" and not asking.asked(request):
        question, yes = verb.question.format(f"this {state} job"), verb.name.capitalize()
        return asking.ask(request, question, verb.detail, yes=yes, danger=verb.destructive)
    outcome = verb.act(channel, [job_id], state, How(reason=asking.REASON))
    if outcome.held:
        words = "It stays dead: another job holds its unique name. Redrive it when that has ended."
        return asking.done(request, words, ok=False)
    if not outcome.done:
        (moved,) = outcome.moved
        return asking.done(request, f"It {_now(moved, state)}; nothing was done.", ok=False)
    sentence = f"The job was {verb.done}."
    record(request, f"{verb.name}: {sentence}", target=f"{channel}/{job_id}", deletion=verb.name == "purge")
    return asking.done(request, sentence, to=listed if verb.name == "purge" else "")


def _now(state: State | None, seen: str) -> str:
    """What became of a job that was in the state ``seen``."""
    just = "just " if seen and seen != state else ""
    words = {
        None: f"has {just}gone",
        State.SUCCEEDED: f"has {just}succeeded",
        State.RUNNING: f"has {just}started",
        State.READY: f"has {just}become ready",
        State.SCHEDULED: f"has {just}been scheduled",
    }
    return words.get(state, f"has {just}become {state}")


@action("view")
def many(request: HttpRequest) -> HttpResponseBase:
    """``do`` is a verb and "selected" or "all"; ``job``: what was ticked; ``filter-...``: what the list showed."""
    name, _, scope = request.POST.get("do", "").partition(" ")
    if name not in VERBS or scope not in ("selected", "all"):
        return refusal(request, "This form says nothing that could be done to jobs.", status=400)
    view = _selected if scope == "selected" else runs.begin
    return guarded(view, VERBS[name].right)(request, VERBS[name])


def _selected(request: HttpRequest, verb: Verb) -> HttpResponse:
    filters = filters_of(request)
    ticked = [(channel, job_id) for channel, _, job_id in (v.partition("/") for v in request.POST.getlist("job"))]
    rate, wrong = rate_of(request)
    problem = problem_of(filters, verb) or wrong
    if not ticked:
        problem = "No job was selected: tick those that are meant."
    elif len(ticked) > TICKED:
        problem = f"At most {TICKED:,} jobs can be selected; use “all that match”."
    if problem:
        return asking.done(request, problem, ok=False)
    what = jobs_in_words(len(ticked), filters.state)
    if not asking.asked(request):
        yes = f"{verb.name.capitalize()} {what}"
        return asking.ask(request, verb.question.format(what), verb.detail, yes=yes, danger=verb.destructive)
    outcome = apply(verb, ticked, State(filters.state), How(rate=rate, reason=asking.REASON))
    sentence = report(verb, outcome)
    names = " ".join("/".join(job) for job in ticked[:LOGGED])
    words = f"{verb.name}, {what} selected: {sentence} {names}"
    record(request, words, target=filters.target, deletion=verb.name == "purge")
    return asking.done(request, sentence, ok=outcome.done > 0)
