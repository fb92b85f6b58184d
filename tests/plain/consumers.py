"""Background consumers, written for plain Channels. Each effect is one line appended to the file EFFECTS."""

import asyncio
import os
import time

from channels.consumer import AsyncConsumer, SyncConsumer


def effect(message, *words):
    """Append one line; O_APPEND writes of this size are atomic between processes."""
    line = " ".join([str(message["n"]), str(os.getpid()), *words]).encode() + b"\n"
    file = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line)
    finally:
        os.close(file)


class Work(AsyncConsumer):
    async def work_do(self, message):
        await asyncio.sleep(message.get("seconds", 0))
        effect(message)

    async def work_tracked(self, message):
        effect(message, "start")
        await asyncio.sleep(message["seconds"])
        effect(message, "done")

    async def work_fail(self, message):
        effect(message)
        raise RuntimeError("no luck")


class SyncWork(SyncConsumer):
    def work_do(self, message):
        time.sleep(message.get("seconds", 0))
        effect(message)
