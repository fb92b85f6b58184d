"""The pages: one's deliveries, signing in by a one-time link, signing out."""

from __future__ import annotations

from django.contrib.auth import login, logout
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from .links import LinkProblem, redeem


@never_cache
@require_safe
@login_required
def deliveries(request: HttpRequest, delivery_id: str = "") -> HttpResponse:
    """The page of all deliveries; with an id it opens on that one, and says so itself when there is none."""
    return render(request, "webhooks/deliveries.html")


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
