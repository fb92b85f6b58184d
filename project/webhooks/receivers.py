"""Receivers to try deliveries out on: the URLs exist with DEBUG only."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from .models import ReceiverCall

BUSY_SECONDS = 5
HANG_SECONDS = 300
FORGET_AFTER = timedelta(days=1)

CATALOGUE = [
    ("succeeds", "/receivers/succeeds/", "answers 200 at once"),
    ("fails twice", "/receivers/fails/2/", "answers 503 to the first two calls of a delivery, then 200"),
    ("busy", "/receivers/busy/", f"answers 429 with Retry-After: {BUSY_SECONDS} to the first call, then 200"),
    ("hangs", "/receivers/hangs/", "doesn't answer until the caller gives up"),
    ("always fails", "/receivers/always-fails/", "answers 500 to every call"),
]


def catalogue() -> list[dict[str, Any]]:
    """The receivers that can be reached from here; none without DEBUG and WEBHOOK_RECEIVER_ORIGIN."""
    origin = settings.WEBHOOK_RECEIVER_ORIGIN
    if not (settings.DEBUG and origin):
        return []
    return [{"name": name, "url": origin + path, "description": words} for name, path, words in CATALOGUE]


@csrf_exempt
@require_POST
def succeeds(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"received": _webhook_id(request), "bytes": len(request.body)})


@csrf_exempt
@require_POST
def fails(request: HttpRequest, times: int) -> HttpResponse:
    """503 to the first ``times`` calls with one webhook-id, then 200."""
    count = _count(f"fails/{times}", request)
    if count <= times:
        return JsonResponse({"failing": f"{count} of {times}"}, status=503)
    return JsonResponse({"received": _webhook_id(request), "after_failures": times})


@csrf_exempt
@require_POST
def busy(request: HttpRequest, seconds: int = BUSY_SECONDS) -> HttpResponse:
    """429 with Retry-After to the first call with one webhook-id, then 200."""
    if _count("busy", request) == 1:
        return JsonResponse({"busy": True}, status=429, headers={"Retry-After": str(seconds)})
    return JsonResponse({"received": _webhook_id(request)})


@csrf_exempt
@require_POST
async def hangs(request: HttpRequest) -> HttpResponse:
    """Answers when nobody waits for it any longer; ends early when the caller hangs up."""
    await asyncio.sleep(HANG_SECONDS)
    return JsonResponse({"received": _webhook_id(request)})


@csrf_exempt
@require_POST
def always_fails(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"error": "this receiver always fails"}, status=500)


def _webhook_id(request: HttpRequest) -> str:
    return request.headers.get("webhook-id", "")[:100]


def _count(receiver: str, request: HttpRequest) -> int:
    """Count this call, over all processes of the site; old counts are forgotten."""
    with transaction.atomic():
        ReceiverCall.objects.filter(created_at__lt=timezone.now() - FORGET_AFTER).delete()
        call, _ = ReceiverCall.objects.select_for_update().get_or_create(key=f"{receiver} {_webhook_id(request)}")
        ReceiverCall.objects.filter(pk=call.pk).update(count=F("count") + 1)
        call.refresh_from_db()
    return call.count
