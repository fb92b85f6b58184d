"""What the forms under a list of jobs say."""

from __future__ import annotations

from django.http import HttpRequest, QueryDict

from retrying.job import State
from retrying.verbs import VERBS_OF, Verb

from .filters import Filters


def filters_of(request: HttpRequest) -> Filters:
    """What the list showed."""
    sent = QueryDict(mutable=True)
    for name, value in request.POST.items():
        if name.startswith("filter-"):
            sent[name.removeprefix("filter-")] = str(value)
    return Filters.of(sent)


def problem_of(filters: Filters, verb: Verb) -> str:
    """Why the verb can't be done to what they leave; "" when it can."""
    if filters.problem:
        return filters.problem
    if verb.name not in VERBS_OF[State(filters.state)]:
        return f"{verb.name.capitalize()} is nothing that could be done to {filters.state} jobs."
    return ""


def rate_of(request: HttpRequest) -> tuple[float | None, str]:
    """Jobs per second (None: without limit), and what is wrong with it."""
    text = request.POST.get("rate", "").strip()
    if not text:
        return None, ""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0.001 <= rate <= 100_000:
        return None, f"“{text[:40]}” is no rate: write how many jobs a second, from 0.001 to 100000, or nothing."
    return rate, ""
