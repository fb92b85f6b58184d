"""What the page reads over HTTP: JSON for the signed-in user. Commands go over the websocket (consumers.py)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from channels.db import database_sync_to_async
from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from retrying import StoreUnavailable, jobs

from . import present, receivers, records
from .models import CHANNEL, topic_of

View = Callable[..., Awaitable[JsonResponse]]


def signed_in(view: View) -> View:
    """401 for anonymous requests, in JSON; the user is at ``request.user``. Nothing of it is cached."""

    @functools.wraps(view)
    async def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> JsonResponse:
        request.user = await request.auser()
        if not request.user.is_authenticated:
            return _problem(401, "You are not signed in.")
        response = await view(request, *args, **kwargs)
        response["Cache-Control"] = "no-store"
        return response

    return checked


@require_safe
@signed_in
async def deliveries(request: HttpRequest) -> JsonResponse:
    """50 deliveries, newest first; ``before``: the created_at of the last one that is known already."""
    before = request.GET.get("before")
    moment = None
    if before:
        with contextlib.suppress(ValueError):
            moment = datetime.fromisoformat(before)
        if moment is None or moment.tzinfo is None:
            return _problem(400, "before must be a time such as 2030-01-31T12:00:00.000000Z.")
    return JsonResponse(await present.page_of(request.user.pk, moment))


@require_safe
@signed_in
async def delivery(request: HttpRequest, delivery_id: str) -> JsonResponse:
    """One delivery with its attempts; somebody else's is not found."""
    found = await database_sync_to_async(records.find)(request.user.pk, delivery_id)
    if found is None:
        return _problem(404, "You have no such delivery.")
    return JsonResponse(await present.detail(found))


@require_safe
@signed_in
async def status(request: HttpRequest) -> JsonResponse:
    """Whether the store and a worker answer, and what the page needs to know of the site."""
    try:
        async with asyncio.timeout(present.STORE_PATIENCE_SECONDS):
            workers, counts = await asyncio.gather(jobs.aworkers(CHANNEL), jobs.acounts(CHANNEL))
    except (StoreUnavailable, TimeoutError):
        workers = counts = None
    return JsonResponse(
        {
            "worker": bool(workers),
            "store": counts is not None,
            "channel": CHANNEL,
            "command": f"python manage.py runworker {CHANNEL}",
            "counts": msgspec.to_builtins(counts) if counts else {},
            "receivers": receivers.catalogue(),
            "debug": settings.DEBUG,
            "staff": request.user.is_staff,
            "user_topic": topic_of(request.user.pk),
            "now": int(timezone.now().timestamp() * 1000),
        }
    )


@require_POST
@signed_in
async def kill_worker(request: HttpRequest) -> JsonResponse:
    """SIGKILL a live worker of this channel on this machine, to see its work rescued. With DEBUG and for staff only."""
    if not (settings.DEBUG and request.user.is_staff):
        return _problem(403, "Workers can be killed here only by staff, and only with DEBUG.")
    try:
        wanted = json.loads(request.body)["worker"]
    except (ValueError, TypeError, KeyError):
        return _problem(400, 'Expected {"worker": "host:pid:random"}.')
    try:
        workers = [worker.id for worker in await jobs.aworkers(CHANNEL)]
    except StoreUnavailable:
        return _problem(503, "The job store is not reachable, so it is not known which workers are alive.")
    if wanted not in workers:
        return _problem(404, "There is no such live worker.")
    host, pid, _ = wanted.rsplit(":", 2)
    if host != socket.gethostname() or not _is_worker(int(pid)):
        return _problem(404, "That worker doesn't run on this machine.")
    try:
        os.kill(int(pid), signal.SIGKILL)
    except ProcessLookupError:
        return _problem(404, "That worker has ended already.")
    except PermissionError:
        return _problem(403, "That worker belongs to another user of this machine.")
    return JsonResponse({"killed": wanted})


def _is_worker(pid: int) -> bool:
    """Whether the process is a runworker: a pid may have gone to another process since the worker was heard of."""
    try:
        return b"runworker" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except FileNotFoundError:
        return not Path("/proc/self").exists()  # no such process; or a system without /proc, where nothing can be said


def _problem(status: int, message: str) -> JsonResponse:
    return JsonResponse({"message": message}, status=status, headers={"Cache-Control": "no-store"})
