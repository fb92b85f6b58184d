"""The overview: how every channel stands."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict

from retrying import jobs

from . import screens
from .access import page


def state(query: QueryDict) -> dict[str, Any]:
    return {"rows": [{"name": name, "counts": jobs.counts(name)} for name in jobs.channels()]}


@page
def overview(request: HttpRequest) -> HttpResponse:
    return screens.render(request, "overview", "control_room/overview.html")


screens.add("overview", template="control_room/parts/overview.html", state=state)
