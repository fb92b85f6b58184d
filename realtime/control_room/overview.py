"""The overview: how everything stands, and every channel in one line."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict

from retrying.stats import Alert, ChannelStats

from . import screens, snapshot
from .access import page

#: An alert of one of these kinds means that work stands still.
STANDSTILL = ("no_worker", "schedule_missed")


def state(query: QueryDict) -> dict[str, Any]:
    found = snapshot.channels()
    health = snapshot.health()
    alerts = health.alerts
    others = [alert for alert in alerts if alert.text != health.sentence]  # that one is the first line of the page
    return {"all": totals(found), "alerts": others, "rows": [row(item, alerts) for item in found]}


def totals(found: list[ChannelStats]) -> dict[str, Any]:
    """All channels together."""
    workers = {worker.id for item in found for worker in item.workers}
    failed = sum(item.recent.tally.failed for item in found)
    ended = failed + sum(item.recent.tally.succeeded for item in found)
    return {
        "ready": sum(item.counts.ready for item in found),
        "oldest": max((item.counts.oldest_seconds for item in found), default=0.0),
        "in": sum(item.in_per_second for item in found),
        "out": sum(item.out_per_second for item in found),
        "failure_rate": failed / ended if ended else None,
        "running": sum(item.counts.running for item in found),
        "scheduled": sum(item.counts.scheduled for item in found),
        "dead": sum(item.counts.dead for item in found),
        "workers": len(workers),
    }


def row(found: ChannelStats, alerts: list[Alert]) -> dict[str, Any]:
    """What a table says of a channel."""
    own = [alert for alert in alerts if alert.channel == found.channel]
    level, words = health_of(found, own)
    wait, run = found.recent.tally.wait, found.recent.tally.run
    return {
        "stats": found,
        "level": level,
        "words": words,
        "kinds": {alert.kind for alert in own},
        "wait": [wait.percentile(share) for share in (0.5, 0.95, 0.99)],
        "run": [run.percentile(share) for share in (0.5, 0.95, 0.99)],
        "concurrency": sum(worker.concurrency for worker in found.workers),
    }


def health_of(found: ChannelStats, alerts: list[Alert]) -> tuple[str, str]:
    """A level (ok, warn, bad, idle) and a word or two."""
    kinds = {alert.kind for alert in alerts}
    if "no_worker" in kinds:
        return "bad", "no worker"
    if found.paused_seconds is not None:
        return "warn", "paused"
    if alerts:
        words = {"schedule_missed": "missed", "oldest": "late", "failure_rate": "failing", "backlog": "backlog"}
        return ("bad" if kinds & set(STANDSTILL) else "warn"), words.get(alerts[0].kind, alerts[0].kind)
    if not found.workers:
        return "idle", "no worker"
    return "ok", "healthy"


@page
def overview(request: HttpRequest) -> HttpResponse:
    return screens.render(request, "overview", "control_room/overview.html")


screens.add("overview", template="control_room/parts/overview.html", state=state)
