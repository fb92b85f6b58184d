"""Bring delivery rows and their jobs together again, once or every few seconds."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, close_old_connections

from project.webhooks.sweep import Swept, sweep

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Enqueue pending deliveries that have no job, and close those whose job has ended without them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--every", type=float, metavar="SECONDS", help="again and again, until SIGTERM")

    def handle(self, *args: Any, every: float | None, **options: Any) -> None:
        if every is None:
            self._report(sweep())
            return
        if not every > 0:
            raise CommandError(f"--every takes seconds > 0, got {every:g}", returncode=2)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        while not stop.is_set():
            try:
                sweep()
            except DatabaseError as error:
                logger.warning("this sweep failed, the next one is in %g s: %s", every, error)
            close_old_connections()
            stop.wait(every)

    def _report(self, done: Swept) -> None:
        self.stdout.write(f"looked at {done.looked_at}, enqueued again {done.enqueued}, closed {done.closed}")
        if done.store_away:
            raise CommandError("the job store did not answer or is full; the rest waits for the next sweep")
