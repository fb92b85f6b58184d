"""Deliver a webhook from the terminal: the same checks and the same way as from the page."""

from __future__ import annotations

import asyncio
from typing import Any

from channels.db import database_sync_to_async
from django.core.management.base import BaseCommand, CommandError, CommandParser

from project.webhooks import actions, present, records
from project.webhooks.models import CHANNEL, Delivery
from project.webhooks.people import DEFAULT_NAME, get_or_make_user
from project.webhooks.targets import BadInput
from project.webhooks.watch import NO_WORKER, NOT_QUEUED, Watcher, watcher_for
from retrying import StoreUnavailable, jobs

EXAMPLE = '{"event": "example", "data": {"hello": "world"}}'
POLL_SECONDS = 0.2

DELIVERED, DEAD, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class Command(BaseCommand):
    help = (
        "Deliver a webhook. Exit code: 0 delivered (without --watch: accepted), 1 failed or cancelled, 2 bad input, "
        "130 interrupted; the delivery goes on then."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("url")
        parser.add_argument("--payload", default=EXAMPLE, metavar="JSON", help=f"default: {EXAMPLE}")
        parser.add_argument("--send-at", metavar="TIME", help="such as 2030-01-31T12:00:00+00:00; default: now")
        parser.add_argument("--watch", action="store_true", help="follow it to its end")
        parser.add_argument("--json", action="store_true", help="print JSON: the delivery as it is at the end")
        parser.add_argument("--user", default=DEFAULT_NAME, metavar="NAME", help=f"its owner; default: {DEFAULT_NAME}")

    def handle(self, *args: Any, **options: Any) -> None:
        owner = get_or_make_user(options["user"])
        # Django's wrappers of the streams know no terminal.
        watcher = watcher_for(self.stdout._out, self.stderr._out, as_json=options["json"])
        try:
            code = asyncio.run(_run(owner.pk, options, watcher))
        except BadInput as error:
            watcher.refused(error.fields)
            code = BAD_INPUT
        except KeyboardInterrupt:
            watcher.interrupted()
            code = INTERRUPTED
        finally:
            watcher.close()
        if code:
            raise SystemExit(code)


async def _run(owner_id: int, options: dict[str, Any], watcher: Watcher) -> int:
    """Submit, follow if asked to, and say with which code to exit. Raises BadInput."""
    delivery, queued = await actions.submit(
        owner_id, url=options["url"], payload=options["payload"], send_at=options["send_at"]
    )
    watcher.accepted(await present.summary(delivery), queued=queued)
    if options["watch"]:
        return await _follow(delivery, watcher)
    watcher.finished(await present.detail(delivery))
    return DELIVERED


async def _follow(delivery: Delivery, watcher: Watcher) -> int:
    """Look at the row (the truth, also while the store is away) until it is finished."""
    asked_for_worker = False
    while True:
        found = await database_sync_to_async(records.find)(delivery.owner_id, delivery.pk)
        if found is None:
            raise CommandError(f"delivery {delivery.pk} was deleted")
        shown = await present.detail(found)
        watcher.update(shown)
        if found.state != Delivery.State.PENDING:
            watcher.finished(shown)
            return DELIVERED if found.state == Delivery.State.DELIVERED else DEAD
        if not asked_for_worker:
            asked_for_worker = True
            await _mention_missing_worker(watcher)
        await asyncio.sleep(POLL_SECONDS)


async def _mention_missing_worker(watcher: Watcher) -> None:
    try:
        if not await jobs.aworkers(CHANNEL):
            watcher.say(NO_WORKER)
    except StoreUnavailable:
        watcher.say(NOT_QUEUED)
