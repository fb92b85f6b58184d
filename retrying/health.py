"""``/healthz`` and ``/readyz`` of web processes, for load balancers and supervisors. See docs/observing.md.

Liveness says nothing of Redis or a database: restarting a web process would not bring them back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from .layers import get_layer

#: Seconds that each part may take to answer.
PATIENCE_SECONDS = 2.0


@require_safe
async def healthz(request: HttpRequest) -> JsonResponse:
    """200 while the process answers."""
    return await answer(process=_answers())


@require_safe
async def readyz(request: HttpRequest) -> JsonResponse:
    """200 while the job store answers, so that what is sent is stored; else 503, and why."""
    return await answer(store=store())


async def _answers() -> str:
    return ""


async def store(using: str = "default") -> str:
    """The check that the job store answers."""
    store = get_layer(using).store
    await store.arun(store.channels())  # not layer.arun(): it would block under WSGI, and nothing could end it in time
    return ""


async def answer(**checks: Awaitable[str]) -> JsonResponse:
    """200 when every check returns "", else 503; what it returns says what is wrong with that part.

    An error, or no answer within PATIENCE_SECONDS, is told by its kind only: its text may hold addresses and names.
    """
    problems = dict(zip(checks, await asyncio.gather(*(_problem(check) for check in checks.values())), strict=True))
    ok = not any(problems.values())
    body = {"ok": ok} | {name: problem or "ok" for name, problem in problems.items()}
    return JsonResponse(body, status=200 if ok else 503, headers={"Cache-Control": "no-store"})


async def _problem(check: Awaitable[str]) -> str:
    try:
        return await asyncio.wait_for(check, PATIENCE_SECONDS)
    except TimeoutError:
        return f"no answer within {PATIENCE_SECONDS:g} s"
    except Exception as error:  # noqa: BLE001 - whatever it is, the process is not ready
        return f"not reachable ({type(error).__name__})"
