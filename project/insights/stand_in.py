"""Stands in for the internet while developing: a code host's search, with 503 and Retry-After to the first call of each
poll, and a function service that throttles."""

from __future__ import annotations

import asyncio
import json
import math
from datetime import timedelta

from asgiref.sync import sync_to_async
from django.db import transaction
from django.db.models import F
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from project.webhooks.models import ReceiverCall

BUSY_SECONDS = 2
#: Of the function service: calls that begin in one such span, more are throttled; how long a function takes.
SPAN, CALLS = timedelta(seconds=2), 2
FUNCTION_SECONDS = 1.0
#: Calls so close together are one poll with its retries.
ONE_POLL = timedelta(seconds=60)
LANGUAGES = ("Python", "JavaScript", "Rust", "Go", "C", "Lua", "")
FIRST = ("amber", "brisk", "cedar", "dusty", "early", "fable", "glass", "humble", "ivory", "jolly")
SECOND = ("anvil", "beacon", "canvas", "dial", "engine", "forge", "garden", "harbor", "index", "journal")


@require_safe
def search(request: HttpRequest) -> HttpResponse:
    """``/search/repositories`` of a code host, as far as the poll needs it."""
    if _is_first():
        return JsonResponse(
            {"message": "busy, come back"}, status=503, headers={"Retry-After": str(BUSY_SECONDS)}
        )  # fmt: skip
    hours = timezone.now().timestamp() / 3600
    items = sorted((_item(n, hours) for n in range(100)), key=lambda item: -int(str(item["stargazers_count"])))
    return JsonResponse({"total_count": len(items), "incomplete_results": False, "items": items})


def _is_first() -> bool:
    """Whether this call begins a poll."""
    now = timezone.now()
    call, made = ReceiverCall.objects.get_or_create(key="feed", defaults={"created_at": now})
    if made or call.created_at < now - ONE_POLL:
        ReceiverCall.objects.filter(pk=call.pk).update(created_at=now)
        return True
    return False


def _item(n: int, hours: float) -> dict[str, object]:
    name = f"{FIRST[n % 10]}/{SECOND[n // 10]}"
    return {
        "full_name": name,
        "html_url": f"https://code.example/{name}",
        "description": f"Number {n} of a hundred made-up projects",
        "language": LANGUAGES[n % len(LANGUAGES)] or None,
        "stargazers_count": round(
            100_000 / (n + 1) ** 0.7 + hours * (7 + 13 * n % 29) % 5000 + 50 * math.sin(hours + n)
        ),
    }


@csrf_exempt
@require_POST
async def invoke(request: HttpRequest, function: str) -> HttpResponse:
    """``/functions/<function>/invocations`` of a function service."""
    if not await sync_to_async(_has_room)():
        return JsonResponse({"message": "rate exceeded"}, status=429, headers={"Retry-After": str(SPAN.seconds)})
    await asyncio.sleep(FUNCTION_SECONDS)
    payload = json.loads(request.body)
    if function != "summarise" or "accepted" not in payload:
        return JsonResponse(
            {"errorMessage": "there is nothing to summarise"}, headers={"X-Function-Error": "Unhandled"}
        )
    words = f"{payload['accepted']} deliveries in a day, {payload['delivered']} of them have arrived."
    return JsonResponse(words, safe=False)


def _has_room() -> bool:
    """Count this call of the span."""
    now = timezone.now()
    with transaction.atomic():
        call, _ = ReceiverCall.objects.select_for_update().get_or_create(key="functions", defaults={"created_at": now})
        if call.created_at < now - SPAN:
            ReceiverCall.objects.filter(pk=call.pk).update(created_at=now, count=1)
            return True
        ReceiverCall.objects.filter(pk=call.pk).update(count=F("count") + 1)
        return call.count < CALLS
