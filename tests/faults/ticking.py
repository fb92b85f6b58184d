"""The consumer whose schedules the tests of fault 41 watch: it appends a line for every slot that runs.

A line is ``name slot job attempt pid time``: the slot in seconds since 1970, and the time at which its handler began by
the wall clock of this machine, which is the server's as well.
"""

import os
import time
from datetime import timedelta

from channels.consumer import AsyncConsumer
from channels.routing import ChannelNameRouter, ProtocolTypeRouter

from retrying import current_job, periodic
from retrying.schedule import scheduled_for

#: When the monotonic clock began, by the right wall clock: some of these processes have a wrong one on purpose.
BOOTED = float(os.environ["BOOTED"])


def say(name: str) -> None:
    """Append a line; O_APPEND writes of this size are atomic between processes."""
    now = BOOTED + time.monotonic()
    slot = scheduled_for()
    assert slot is not None
    job = current_job()
    line = f"{name} {slot.timestamp():.0f} {job.id} {job.attempt} {os.getpid()} {now:.6f}\n"
    file = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


class Ticking(AsyncConsumer):
    @periodic(every=timedelta(seconds=1), catch_up="all", name="all")
    async def tick_all(self, message: dict) -> None:
        say("all")

    @periodic(every=timedelta(seconds=1), catch_up="last", name="last")
    async def tick_last(self, message: dict) -> None:
        say("last")

    @periodic(cron="* * * * * *", catch_up="skip", name="skip")
    async def tick_skip(self, message: dict) -> None:
        say("skip")


application = ProtocolTypeRouter({"channel": ChannelNameRouter({"work": Ticking.as_asgi()})})
