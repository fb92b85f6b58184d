"""``manage.py spread_inserts``: many inserts, spread over time by the rate of their queue."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandError, CommandParser

from project.insights.models import Batch
from project.insights.spread import MAX_COUNT, enqueue


class Command(BaseCommand):
    help = "Enqueue many inserts, as fast as they are made: at the rate of the channel tasks.bulk."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("count", type=int, nargs="?", default=100_000, help="how many (100000)")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["count"] <= MAX_COUNT:
            raise CommandError(f"count takes a whole number from 1 to {MAX_COUNT}")
        batch = Batch.objects.create(count=options["count"])
        async_to_sync(enqueue)(batch.pk)
        self.stdout.write(f"batch {batch.pk}: {batch.count} inserts are enqueued")
