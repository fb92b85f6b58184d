"""The page that shows a story while it is told."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from realtime.consumers import user_topic


@never_cache
@require_safe
@login_required
def story(request: HttpRequest) -> HttpResponse:
    """The signed-in user's newest story, on whatever device they open it."""
    return render(request, "streaming/story.html", {"topic": user_topic(request.user)})
