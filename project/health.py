"""For load balancers and supervisors: can the site do its work?"""

from __future__ import annotations

from channels.db import database_sync_to_async
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from project.webhooks.models import CHANNEL
from retrying import jobs
from retrying.health import answer, store


@require_safe
async def readyz(request: HttpRequest) -> JsonResponse:
    """200 when the database, the job store and a worker answer; else 503, and which one does not and why."""
    return await answer(database=_database(), store=store(), worker=_worker())


async def _database() -> str:
    def ask() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM webhooks_delivery LIMIT 1")

    await database_sync_to_async(ask)()
    return ""


async def _worker() -> str:
    return "" if await jobs.aworkers(CHANNEL) else f"no worker consumes {CHANNEL}: python manage.py runworker {CHANNEL}"
