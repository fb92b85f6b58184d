"""Schedules: when each runs next and ran last, pausing one, and running one now."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, QueryDict

from retrying import InvalidSchedule, schedule

from . import asking, screens, snapshot
from .access import action, page, record


def state(query: QueryDict) -> dict[str, Any]:
    missed = {alert.schedule for alert in snapshot.health().alerts if alert.kind == "schedule_missed"}
    return {"rows": [{"status": status, "missed": status.name in missed} for status in snapshot.schedules()]}


@page
def schedules(request: HttpRequest) -> HttpResponse:
    return screens.render(request, "schedules", "control_room/schedules.html")


@action("manage")
def act(request: HttpRequest, what: str) -> HttpResponse:
    """Pause or resume the schedule that was POSTed, or run its job now."""
    name = request.POST.get("schedule", "")
    if what not in ("pause", "resume", "run"):
        raise Http404("A schedule can be paused, resumed and run.")
    try:
        if what == "resume":
            sentence = f"{name} goes on with its next slot." if schedule.resume(name) else ""
        elif not asking.asked(request):
            return _ask(request, name, what)
        elif what == "run":
            sentence = f"{name} runs now, as job {schedule.run(name)}."
        else:
            sentence = f"{name} is paused." if schedule.pause(name) else ""
    except InvalidSchedule as error:
        return asking.done(request, f"Nothing was done: {error}.", ok=False)
    if not sentence:
        return asking.done(request, f"Nothing was done: {name} was {what}d already.", ok=False)
    record(request, sentence, target=name)
    return asking.done(request, sentence)


def _ask(request: HttpRequest, name: str, what: str) -> HttpResponse:
    if what == "run":
        detail = "One job more, now, also while it is paused; its slots go on as they would."
        return asking.ask(request, f"Run {name} now?", detail, yes="Run it now")
    detail = "No job is made of its slots until it is resumed; those of the pause are not made up for."
    return asking.ask(request, f"Pause the schedule {name}?", detail, yes="Pause it")


screens.add("schedules", template="control_room/parts/schedules.html", state=state)
