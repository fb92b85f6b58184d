"""The insights page: everything on it was computed before it was asked for."""

from __future__ import annotations

import time
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from retrying import InvalidSchedule, StoreUnavailable, schedule
from retrying.schedule import Status

from . import tasks
from .models import Batch, Forecast, Precomputed, Quarter, Repository, Summary
from .precomputed import read
from .spread import MAX_COUNT

#: Quarters of an hour in the chart, and its height.
QUARTERS, HEIGHT = 96, 100
SUMMARIES = 5
FORECAST_DELIVERIES = 1_000_000
STORE_AWAY = "The store (Redis) does not answer. What was computed before is shown from the database."


@never_cache
@require_safe
@login_required
def insights(request: HttpRequest) -> HttpResponse:
    began = time.monotonic()
    found = {**_state(), "statistics": read("statistics")}
    found["drawing"] = _drawing(found["statistics"], found["forecast_words"])  # before what it marks: rather too old
    found["chart"] = _chart(list(Quarter.objects.order_by("-start")[:QUARTERS]))
    found["repositories"] = Repository.objects.all()
    found["read_ms"] = f"{(time.monotonic() - began) * 1000:.1f}"
    return render(request, "insights/page.html", found)


@never_cache
@require_safe
@login_required
def state(request: HttpRequest) -> JsonResponse:
    """What changes while one looks: texts by the name of the element that shows them, and a mark of what the tables
    and the chart are made of."""
    found = _state()
    value = read("statistics")
    texts = {
        "batch": found["batch_words"],
        "forecast": found["forecast_words"],
        "summaries": found["summaries_words"],
        "summary": found["summary"],
        "store": found["store_words"],
        "as-of": value.as_of.isoformat() if value else "",
    }
    for status in found["schedules"].values():
        texts[f"next-{status.name}"] = status.next.isoformat() if status.next else ""
        texts[f"last-{status.name}"] = status.last.isoformat() if status.last else ""
    return JsonResponse({"texts": texts, "drawing": _drawing(value, found["forecast_words"])})


@require_POST
@login_required
def run(request: HttpRequest, name: str) -> HttpResponse:
    """Run a schedule's job now."""
    try:
        schedule.run(name)
    except InvalidSchedule as error:
        raise Http404(str(error)) from error
    except StoreUnavailable:
        return _away(request)
    return redirect("insights")


@require_POST
@login_required
def spread(request: HttpRequest) -> HttpResponse:
    """Spread so many inserts over time."""
    count = request.POST.get("count", "")
    if not count.isdecimal() or not 1 <= int(count) <= MAX_COUNT:
        return HttpResponse(f"count takes a whole number from 1 to {MAX_COUNT}", status=400, content_type="text/plain")
    batch = Batch.objects.create(count=int(count))
    try:
        tasks.spread_inserts.enqueue(batch.pk)
    except StoreUnavailable:
        batch.delete()
        return _away(request)
    return redirect("insights")


@require_POST
@login_required
def ask_forecast(request: HttpRequest) -> HttpResponse:
    row = Forecast.objects.create(deliveries=FORECAST_DELIVERIES)
    try:
        tasks.make_forecast.enqueue(row.pk)
    except StoreUnavailable:
        row.delete()
        return _away(request)
    return redirect("insights")


@require_POST
@login_required
def ask_summaries(request: HttpRequest) -> HttpResponse:
    """Several at once: the service throttles some of them."""
    rows = [Summary.objects.create() for _ in range(SUMMARIES)]
    try:
        for row in rows:
            tasks.summarise.enqueue(row.pk)
    except StoreUnavailable:
        Summary.objects.filter(pk__in=[row.pk for row in rows]).delete()
        return _away(request)
    return redirect("insights")


def _away(request: HttpRequest) -> HttpResponse:
    return HttpResponse(STORE_AWAY, status=503, content_type="text/plain")


def _state() -> dict[str, Any]:
    schedules, store_words = _schedules()
    batch, forecast = Batch.objects.first(), Forecast.objects.first()
    return {
        "schedules": schedules,
        "store_words": store_words,
        "batch_words": _batch_words(batch),
        "forecast": forecast,
        "forecast_words": _forecast_words(forecast),
        "summaries_words": _summaries_words(list(Summary.objects.all()[:SUMMARIES])),
        "summary": Summary.objects.exclude(text="").values_list("text", flat=True).first() or "",
    }


def _schedules() -> tuple[dict[str, Status], str]:
    """By name, and what is wrong with the store."""
    try:
        return {status.name: status for status in schedule.statuses()}, ""
    except StoreUnavailable:
        return {}, STORE_AWAY


def _batch_words(batch: Batch | None) -> str:
    if batch is None:
        return "none yet"
    done = batch.readings.count()
    newest = batch.readings.order_by("-pk").values_list("inserted_at", flat=True).first()
    seconds = max(1.0, ((newest or timezone.now()) - batch.asked_at).total_seconds())
    return f"{done:,} of {batch.count:,} inserted" + (f", {done / seconds:,.0f} a second" if done else "")


def _forecast_words(forecast: Forecast | None) -> str:
    if forecast is None:
        return "none yet"
    if forecast.started_at is None:
        return "waits for its worker"
    if forecast.finished_at is None:
        return "being computed"
    return f"computed in {(forecast.finished_at - forecast.started_at).total_seconds():.1f} s"


def _summaries_words(summaries: list[Summary]) -> str:
    if not summaries:
        return "none yet"
    done = sum(summary.finished_at is not None for summary in summaries)
    calls = sum(summary.calls for summary in summaries)
    return f"{done} of {len(summaries)} answered, {calls} calls"


def _drawing(statistics: Precomputed | None, forecast_words: str) -> str:
    """A mark of what the tables and the chart are made of: another one, and they are to be drawn again."""
    seen_at = Repository.objects.values_list("seen_at", flat=True).first()
    added_up = Quarter.objects.order_by("-start").values_list("start", "accepted", "delivered").first()
    return f"{statistics and statistics.as_of} {seen_at} {added_up} {forecast_words}"


def _chart(newest_first: list[Quarter]) -> dict[str, Any]:
    """Bars from old to new, in units of the drawing: x, and top and height of both parts."""
    quarters = newest_first[::-1]
    most = max((quarter.accepted for quarter in quarters), default=0)
    scale = HEIGHT / most if most else 0.0
    bars = []
    for number, quarter in enumerate(quarters):
        good = quarter.delivered * scale
        other = (quarter.accepted - quarter.delivered) * scale
        bars.append({
            "x": number * 10, "start": quarter.start, "accepted": quarter.accepted, "delivered": quarter.delivered,
            "good_y": HEIGHT - good, "good": good, "other_y": HEIGHT - good - other, "other": other,
        })  # fmt: skip
    return {"bars": bars, "width": max(len(bars), 1) * 10, "height": HEIGHT, "most": most}
