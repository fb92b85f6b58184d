"""Tasks that come back."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from retrying import periodic, retry
from retrying.schedule import scheduled_for
from tests.tasks.compat import task

#: Slots that ran; of this process.
RAN: list[datetime | None] = []


@task
@periodic(every=timedelta(seconds=1), name="tick")
@retry(max_retries=1)
async def tick() -> str:
    RAN.append(scheduled_for())
    return "tock"


@task(takes_context=True, priority=5)
@periodic(cron="0 3 * * *", name="nightly")
def nightly(context: Any, keep: int = 30) -> int:
    return keep
