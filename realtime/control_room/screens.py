"""Screens: what a page shows live, made once a second at most in each process for all browsers that look at it.

A screen is a template and a function that reads what the template shows. The page is rendered with it once; from then
on the browser is given the part again whenever it has changed, over the socket (``consumers``) or, where sockets are
blocked, by asking (``part_view``), and changes the page only where it differs.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import render as render_template
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import mark_safe

from retrying.exceptions import StoreUnavailable

from . import snapshot
from .access import Access, access_of
from .shared import Shared

logger = logging.getLogger(__name__)

#: Where the pages look for the socket; the project's URLRouter must have it there (see ``routing``).
SOCKET_PATH = "/ws/control-room/"
#: Characters of a query that a screen is given.
QUERY_LENGTH = 4000
STORE_AWAY = "The store (Redis) does not answer. Nothing is lost; this page goes on when it is back."

State = Callable[[QueryDict], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Screen:
    """``state(query)`` reads what ``template`` shows, depending on nothing else; looked at again every ``every`` s."""

    name: str
    template: str
    state: State
    every: float


@dataclass(frozen=True, slots=True)
class Part:
    """What a browser is given. ``digest``: one of the headline and one of the rest, with a dot between: whether it has
    them already; ``ok``: the first line is good news."""

    digest: str
    headline: str
    html: str
    ok: bool
    problem: str = ""

    def answer(self, seen: str) -> dict[str, Any]:
        """As JSON; without what the browser has seen."""
        answer: dict[str, Any] = {"digest": self.digest, "ok": self.ok, "problem": self.problem}
        headline, _, rest = seen.partition(".")
        if not self.digest.startswith(f"{headline}."):
            answer["headline"] = self.headline
        if not self.digest.endswith(f".{rest}"):
            answer["html"] = self.html
        return answer


_screens: dict[str, Screen] = {}
_states: Shared[Mapping[str, Any]] = Shared()
_parts: Shared[Part] = Shared()


def add(name: str, *, template: str, state: State, every: float = 1.0) -> None:
    """Declare a screen."""
    _screens[name] = Screen(name, template, state, every)


def find(name: str) -> Screen | None:
    """The screen of this name."""
    return _screens.get(name)


def part(screen: Screen, query: str, allowed: Access) -> Part:
    """The screen's part for who has this access. Raises StoreUnavailable, and Http404 of what isn't there."""
    query = query[:QUERY_LENGTH]
    return _parts.get((screen.name, query, allowed), lambda: _make(screen, query, allowed), screen.every)


def part_or_problem(screen: Screen, query: str, allowed: Access) -> Part:
    """The same; where it can't be had, a part without content that says why."""
    try:
        return part(screen, query, allowed)
    except StoreUnavailable:
        return _problem(STORE_AWAY)
    except Http404 as error:
        return _problem(str(error) or "This is not there any more.")
    except Exception:
        logger.exception("The part %r of the control room could not be made", screen.name)
        return _problem("This part of the page could not be made; the server's log says why.")


def forget() -> None:
    """Something was changed: read everything again at the next look."""
    _states.clear()
    _parts.clear()
    snapshot.forget()


def render(
    request: HttpRequest,
    name: str,
    template: str,
    extra: Mapping[str, Any] | None = None,
    *,
    query: Mapping[str, str] | None = None,
) -> HttpResponse:
    """A page with the live part of a screen in it, as ``{{ live }}``.

    ``query``: what the screen is given, where that isn't the query of the address. Raises StoreUnavailable, Http404.
    """
    screen = _screens[name]
    text = request.GET.urlencode() if query is None else _encode(query)
    shown = part(screen, text, request.access)  # type: ignore[attr-defined]
    live = format_html(
        '<div id="live" data-screen="{}" data-query="{}" data-digest="{}" data-parts="{}">{}</div>',
        name,
        text,
        shown.digest,
        reverse("control_room:parts", args=[name]),
        mark_safe(shown.html),  # noqa: S308 -- rendered by a template, which escapes
    )
    headline = mark_safe(shown.headline)  # noqa: S308 -- likewise
    return page(request, template, {"section": name, **(extra or {}), "live": live, "headline": headline})


def page(request: HttpRequest, template: str, context: Mapping[str, Any], status: int = 200) -> HttpResponse:
    """A page in the control room's frame."""
    frame = {"access": access_of(request.user), "socket_path": SOCKET_PATH}
    return render_template(request, template, {**frame, **context}, status=status)


def part_view(request: HttpRequest, name: str) -> HttpResponse:
    """For browsers whose sockets are blocked: the part as JSON, without what was seen (``?seen=``)."""
    screen = find(name)
    if screen is None:
        raise Http404(f"There is no screen {name!r}.")
    query = request.GET.copy()
    seen = str(query.pop("seen", [""])[0])
    found = part_or_problem(screen, query.urlencode(), request.access)  # type: ignore[attr-defined]
    return JsonResponse(found.answer(seen))


def _make(screen: Screen, query: str, allowed: Access) -> Part:
    state = _states.get((screen.name, query), lambda: screen.state(QueryDict(query)), screen.every)
    news = snapshot.health()
    html = render_to_string(screen.template, {**state, "access": allowed, "query": query})
    headline = render_to_string("control_room/parts/headline.html", {"headline": news})
    return Part(f"{_digest(headline)}.{_digest(html)}", headline, html, news.ok)


def _problem(words: str) -> Part:
    return Part(f"-.{_digest(words)}", "", "", ok=False, problem=words)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _encode(query: Mapping[str, str]) -> str:
    made = QueryDict(mutable=True)
    for name, value in query.items():
        made[name] = value
    return made.urlencode()
