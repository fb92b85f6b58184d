"""Handlers that write what they do to the file EFFECTS: `id attempt pid word`, one line each."""

import asyncio
import os
import resource
import time
from pathlib import Path

from channels.consumer import AsyncConsumer, SyncConsumer
from channels.routing import ChannelNameRouter, ProtocolTypeRouter

from retrying import current_job


def effect(word):
    job = current_job()
    file = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{job.id} {job.attempt} {os.getpid()} {word}\n".encode())
    finally:
        os.close(file)


def is_open(message):
    """Whether the file that the message names exists."""
    return Path(message["until"]).exists()


class Work(AsyncConsumer):
    async def work_do(self, message):
        await asyncio.sleep(message.get("seconds", 0))
        effect("done")

    async def work_wait(self, message):
        """Until the file that the message names exists."""
        effect("start")
        while not is_open(message):
            await asyncio.sleep(0.01)
        effect("done")

    async def work_block(self, message):
        """The same, holding up the event loop."""
        effect("start")
        while not is_open(message):
            time.sleep(0.01)  # noqa: ASYNC251  (that is the fault)
        effect("done")

    async def work_abort(self, message):
        """Take the process down, as a fault in a C extension does."""
        effect("start")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.abort()


class SyncWork(SyncConsumer):
    def work_wait(self, message):
        effect("start")
        while not is_open(message):
            time.sleep(0.01)
        effect("done")


application = ProtocolTypeRouter(
    {"channel": ChannelNameRouter({"work": Work.as_asgi(), "sync-work": SyncWork.as_asgi()})}
)
