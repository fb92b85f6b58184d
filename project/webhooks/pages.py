"""The pages: one's deliveries, signing in by a one-time link, signing out."""

from __future__ import annotations

from django.contrib.auth import login, logout
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from realtime.control_room.access import access_of

from .links import LinkProblem, redeem
from .models import CHANNEL

#: Stands for a job's id in the address that the page makes its links of.
JOB_ID = "JOB"


@never_cache
@require_safe
@login_required
def deliveries(request: HttpRequest, delivery_id: str = "") -> HttpResponse:
    """The page of all deliveries; with an id it opens on that one, and says so itself when there is none."""
    job_address = reverse("control_room:job", args=[CHANNEL, JOB_ID]) if access_of(request.user).view else ""
    return render(request, "webhooks/deliveries.html", {"job_address": job_address})


@never_cache
@require_safe
def sign_in(request: HttpRequest, token: str = "") -> HttpResponse:
    """Without a token: how to get a link. With one: signs in and goes to the page, or says what is wrong with it."""
    if not token:
        return render(request, "webhooks/sign_in.html", {"problem": ""})
    try:
        user = redeem(token)
    except LinkProblem as problem:
        return render(request, "webhooks/sign_in.html", {"problem": str(problem)}, status=410)
    login(request, user)
    return redirect("deliveries")


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("sign-in")
