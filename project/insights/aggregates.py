"""Adding deliveries up: by quarters of an hour, and the statistics that would be too slow for a request."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from django.db.models import Count, Q
from django.utils import timezone

from project.webhooks.models import Attempt, Delivery

from .models import Quarter

QUARTER = timedelta(minutes=15)
#: Deliveries may end long after they were accepted: so many quarters are added up anew each time.
AGAIN = 8
#: What is looked at and kept.
DAY = timedelta(days=1)
KEEP = timedelta(days=30)
HOSTS = 5


def quarter_of(moment: datetime) -> datetime:
    """The start of its quarter of an hour."""
    seconds = QUARTER.total_seconds()
    return datetime.fromtimestamp(moment.timestamp() // seconds * seconds, UTC)


def add_up(now: datetime | None = None) -> int:
    """Bring the quarters that have ended up to date, also those that were missed; returns how many were added up.

    It counts the rows anew, so doing it twice changes nothing.
    """
    now = now or timezone.now()
    end = quarter_of(now)
    newest = Quarter.objects.order_by("-start").values_list("start", flat=True).first()
    start = end - AGAIN * QUARTER
    if newest is None or newest < start:
        start = max(newest or end - DAY, end - KEEP)
    count = 0
    while start < end:
        Quarter.objects.update_or_create(pk=start, defaults=_of(start))
        start += QUARTER
        count += 1
    Quarter.objects.filter(start__lt=end - KEEP).delete()
    return count


def _of(start: datetime) -> dict[str, int]:
    states = Delivery.State
    counts: dict[str, int] = Delivery.objects.filter(created_at__gte=start, created_at__lt=start + QUARTER).aggregate(
        accepted=Count("pk"),
        delivered=Count("pk", filter=Q(state=states.DELIVERED)),
        failed=Count("pk", filter=Q(state=states.FAILED)),
    )
    attempts = Attempt.objects.filter(started_at__gte=start, started_at__lt=start + QUARTER).count()
    return {**counts, "attempts": attempts}


def statistics(now: datetime | None = None) -> dict[str, Any]:
    """The last day in numbers. It reads every attempt of that day: not for a request."""
    since = (now or timezone.now()) - DAY
    deliveries = Counter(Delivery.objects.filter(created_at__gte=since).values_list("state", flat=True))
    attempts: defaultdict[str, list[tuple[str, int | None]]] = defaultdict(list)
    rows = Attempt.objects.filter(started_at__gte=since).values_list(
        "delivery__endpoint__url", "outcome", "duration_ms"
    )
    for url, outcome, took in rows.iterator():
        attempts[urlsplit(url).netloc].append((outcome, took))
    ended = deliveries["delivered"] + deliveries["failed"]
    busiest = sorted(attempts.items(), key=lambda item: -len(item[1]))[:HOSTS]
    return {
        "accepted": sum(deliveries.values()),
        "pending": deliveries["pending"],
        "delivered": deliveries["delivered"],
        "failed": deliveries["failed"],
        "delivered_percent": round(100 * deliveries["delivered"] / ended, 1) if ended else None,
        "attempts": sum(map(len, attempts.values())),
        "hosts": [_host(host, found) for host, found in busiest],
    }


def _host(host: str, attempts: list[tuple[str, int | None]]) -> dict[str, Any]:
    times = [took for _, took in attempts if took is not None]
    delivered = sum(outcome == Attempt.Outcome.DELIVERED for outcome, _ in attempts)
    return {
        "host": host,
        "attempts": len(attempts),
        "delivered_percent": round(100 * delivered / len(attempts)),
        "median_ms": round(median(times)) if times else None,
    }
