"""The site's tasks: a few lines each, around plain functions that are tested without a queue."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import django
from channels.db import database_sync_to_async
from django.conf import settings
from django.db.models import F
from django.utils import timezone

from retrying import Snooze, periodic, retry

from . import aggregates, feed, functions, spread
from .forecast import forecast
from .models import Forecast, Summary
from .precomputed import precomputed, read

if django.VERSION >= (6,):
    from django.tasks import task
else:
    from django_tasks import task


@task
@periodic(cron="*/10 * * * *", name="feed")
@retry(max_retries=5, timeout=30)
async def poll_feed() -> int:
    """Every 10 minutes the feed goes into the table. A feed that is busy says with Retry-After when to come back."""
    if not settings.FEED_URL:
        return 0
    entries = await feed.fetch(settings.FEED_URL)
    return await database_sync_to_async(feed.store)(entries)


@task
@periodic(cron="*/15 * * * *", catch_up="last", name="quarters")
def aggregate_deliveries() -> int:
    """Every 15 minutes the deliveries are added up. One run does what earlier ones missed: the last one is enough."""
    return aggregates.add_up()


@task
@periodic(every=timedelta(minutes=5), catch_up="last", name="statistics")
@precomputed("statistics")
def statistics() -> dict[str, Any]:
    """The statistics page shows what this left: no request waits for the slow query."""
    return aggregates.statistics()


@task
@retry(max_retries=20, timeout=None)
async def spread_inserts(batch: int) -> None:
    """Enqueue the inserts of a batch, which run at the rate of their queue; this lasts about as long. It goes on where
    a run before it stopped."""
    await spread.enqueue(batch)


@task
@retry(max_retries=5, give_up_on=functions.FunctionFailed, timeout=90, deadline=3600)
async def summarise(summary_id: int) -> None:
    """A call to a function service: slow, so no request waits for it. Being throttled is no failure of this task, so it
    comes back when the service says without using up an attempt; the deadline ends that."""
    found = await database_sync_to_async(read)("statistics")
    await Summary.objects.filter(pk=summary_id).aupdate(calls=F("calls") + 1)
    try:
        text = await functions.invoke(
            settings.FUNCTIONS_URL, "summarise", found.value if found else {}, key=f"summary-{summary_id}"
        )
    except functions.Throttled as throttled:
        raise Snooze(throttled.seconds) from throttled
    await Summary.objects.filter(pk=summary_id).aupdate(text=str(text), finished_at=timezone.now())


@task(queue_name="bulk")
def insert_reading(batch: int, number: int) -> None:
    """One of very many inserts."""
    spread.insert(batch, number)


@task(queue_name="reports")
@retry(max_retries=1, timeout=300)
def make_forecast(forecast_id: int) -> None:
    """Seconds of CPU: on a queue of its own, whose worker is a process of its own. Threads of one process share one
    interpreter lock, so beside deliveries it would slow them down."""
    row = Forecast.objects.get(pk=forecast_id)
    Forecast.objects.filter(pk=row.pk).update(started_at=timezone.now())
    result = forecast(row.deliveries)
    Forecast.objects.filter(pk=row.pk).update(result=result, finished_at=timezone.now())
