"""For load balancers and supervisors: is the process alive, and can the site do its work?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from channels.db import database_sync_to_async
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from project.webhooks.models import CHANNEL
from retrying import jobs

#: Seconds that each part may take to answer.
PATIENCE_SECONDS = 2.0


@require_safe
async def healthz(request: HttpRequest) -> JsonResponse:
    """200 while the process answers. Says nothing of other parts: restarting this one would not help them."""
    return _answer({"process": ""})


@require_safe
async def readyz(request: HttpRequest) -> JsonResponse:
    """200 when the database, the job store and a worker answer; else 503, and which one does not and why."""
    names = ("database", "store", "worker")
    problems = await asyncio.gather(*(_problem(check()) for check in (_database, _store, _worker)))
    return _answer(dict(zip(names, problems, strict=True)))


async def _database() -> str:
    def ask() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM webhooks_delivery LIMIT 1")

    await database_sync_to_async(ask)()
    return ""


async def _store() -> str:
    await jobs.acounts(CHANNEL)
    return ""


async def _worker() -> str:
    return "" if await jobs.aworkers(CHANNEL) else f"no worker consumes {CHANNEL}: python manage.py runworker {CHANNEL}"


async def _problem(check: Awaitable[str]) -> str:
    """What is wrong, "" = nothing. Only kinds of errors: their texts may hold addresses and names."""
    try:
        return await asyncio.wait_for(check, PATIENCE_SECONDS)
    except TimeoutError:
        return f"no answer within {PATIENCE_SECONDS:g} s"
    except Exception as error:  # noqa: BLE001 - whatever it is, the site is not ready
        return f"not reachable ({type(error).__name__})"


def _answer(problems: dict[str, str]) -> JsonResponse:
    ready = not any(problems.values())
    body = {"ok": ready} | {name: problem or "ok" for name, problem in problems.items()}
    return JsonResponse(body, status=200 if ready else 503, headers={"Cache-Control": "no-store"})
