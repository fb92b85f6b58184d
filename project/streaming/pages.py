"""The page that shows a story while it is told."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from .consumers import topic_of


@never_cache
@require_safe
@login_required
def story(request: HttpRequest) -> HttpResponse:
    """The signed-in user's newest story, on whatever device they open it."""
    return render(request, "streaming/story.html", {"topic": topic_of(request.user.pk)})
