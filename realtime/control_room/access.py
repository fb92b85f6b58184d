"""Who may do what in the control room: staff, by three permissions; and what they did, in Django's admin log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal

from django.apps import apps
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from retrying.exceptions import StoreUnavailable

logger = logging.getLogger("realtime.control_room")

View = Callable[..., HttpResponseBase]
Right = Literal["view", "manage", "purge"]

NEEDED: dict[Right, str] = {
    "view": "You may not see the control room. It takes a staff account with the permission “Can see jobs …” "
    "(realtime.view_control_room); whoever administers this site can give it.",
    "manage": "You may look, but not change anything. That takes the permission realtime.manage_control_room.",
    "purge": "You may not delete jobs. That takes the permission realtime.purge_control_room.",
}


@dataclass(frozen=True, slots=True)
class Access:
    """What a user may do. Whoever may manage or purge may also look."""

    view: bool = False
    manage: bool = False
    purge: bool = False

    def allows(self, right: Right) -> bool:
        allowed: bool = getattr(self, right)
        return allowed


def access_of(user: Any) -> Access:
    """Nothing unless the user is active staff. Asks the database, once for each user object."""
    if not (user is not None and user.is_authenticated and user.is_active and user.is_staff):
        return Access()
    manage, purge = (user.has_perm(f"realtime.{name}_control_room") for name in ("manage", "purge"))
    return Access(manage or purge or user.has_perm("realtime.view_control_room"), manage, purge)


def page(view: View) -> View:
    """For pages: only reading, only for those who may look. Sets ``request.access``."""
    return never_cache(require_safe(guarded(view, "view")))


def action(right: Right) -> Callable[[View], View]:
    """For what changes something: POST only, and only for those who have the right. Sets ``request.access``."""

    def decorate(view: View) -> View:
        may = guarded(view, right)

        @wraps(view)
        def posted(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if request.method == "POST":
                return may(request, *args, **kwargs)
            words = "This address takes what a button sends, and shows nothing. Nothing was done."
            answer = refusal(request, words, status=405)
            answer["Allow"] = "POST"
            return answer

        return never_cache(posted)

    return decorate


def guarded(view: View, right: Right) -> View:
    """``view`` for those who have the right; the sign-in page for those who haven't signed in, 403 for the others, and
    503 while the store doesn't answer."""

    @wraps(view)
    def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return redirect_to_login(back(request) if request.method == "POST" else request.get_full_path())
        access = access_of(request.user)
        request.access = access  # type: ignore[attr-defined]
        if not access.allows(right):
            return refusal(request, NEEDED[right], status=403)
        try:
            return view(request, *args, **kwargs)
        except Http404 as error:
            return refusal(request, str(error) or "There is nothing at this address.", status=404)
        except StoreUnavailable as error:
            logger.warning("the control room could not answer: %s", error)
            return refusal(request, f"The job store does not answer: {error}", status=503)

    return inner


def back(request: HttpRequest) -> str:
    """Where the person who POSTed came from: the form's ``next``, if it is a page of this site."""
    there = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(there, allowed_hosts=None, require_https=request.is_secure()):
        return there
    return reverse("control_room:overview")


def refusal(request: HttpRequest, sentence: str, *, status: int) -> HttpResponse:
    """A page that only says why there is nothing else to see."""
    context = {"sentence": sentence, "status": status, "access": access_of(request.user)}
    return render(request, "control_room/error.html", context, status=status)


def record(request: HttpRequest, sentence: str, *, target: str, deletion: bool = False) -> None:
    """Write down that the user of ``request`` did what ``sentence`` says to ``target`` (a job, a channel ...): in the
    log, and in the admin's where ``django.contrib.admin`` is installed."""
    logger.info("%s user=%s target=%s", sentence, request.user.get_username(), target)
    if not apps.is_installed("django.contrib.admin"):
        return
    from django.contrib.admin.models import CHANGE, DELETION, LogEntry
    from django.contrib.contenttypes.models import ContentType

    from realtime.models import ControlRoom

    LogEntry._default_manager.create(
        user_id=request.user.pk,
        content_type_id=ContentType.objects.get_for_model(ControlRoom).pk,
        object_id=target,
        object_repr=target[:200],
        action_flag=DELETION if deletion else CHANGE,
        change_message=sentence,
    )
