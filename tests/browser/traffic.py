"""`python -m tests.browser.traffic ORIGIN MINUTES`: some of everything for the site to do, now more and now less of it.

The pictures of the control room show what it made of this.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import sys
import time

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

import django

django.setup()

from asgiref.sync import sync_to_async  # noqa: E402

from project.insights import tasks  # noqa: E402
from project.insights.models import Batch, Forecast, Summary  # noqa: E402
from project.webhooks import actions  # noqa: E402
from project.webhooks.people import get_or_make_user  # noqa: E402

#: Receivers of the site, and how often a delivery goes to each.
RECEIVERS = {"succeeds/": 84, "fails/1/": 8, "fails/2/": 4, "busy/": 3, "always-fails/": 1}
#: Seconds from one high tide to the next, and deliveries a second at low and at high tide.
TIDE_SECONDS = 900
LOW, HIGH = 0.3, 2.5


async def main(origin: str, minutes: float) -> None:
    owner = await sync_to_async(get_or_make_user)("developer")
    end = time.monotonic() + minutes * 60
    others = asyncio.create_task(bursts())
    while time.monotonic() < end:
        [receiver] = random.choices(list(RECEIVERS), list(RECEIVERS.values()))
        payload = f'{{"event": "order.paid", "order": {random.randrange(10_000)}}}'
        await actions.submit(owner.pk, url=f"{origin}/receivers/{receiver}", payload=payload, send_at=None)
        tide = (1 + math.sin(2 * math.pi * time.time() / TIDE_SECONDS)) / 2
        await asyncio.sleep(random.expovariate(LOW + (HIGH - LOW) * tide))
    others.cancel()


async def bursts() -> None:
    """Now and then something that is more than one job, or takes a while."""
    while True:
        batch = await Batch.objects.acreate(count=random.randrange(100, 900))
        await tasks.spread_inserts.aenqueue(batch.pk)
        for _ in range(3):
            await tasks.summarise.aenqueue((await Summary.objects.acreate()).pk)
        if random.random() < 0.3:
            await tasks.make_forecast.aenqueue((await Forecast.objects.acreate(deliveries=20_000)).pk)
        await asyncio.sleep(random.uniform(60, 180))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
