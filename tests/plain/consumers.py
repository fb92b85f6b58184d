"""Background consumers, written for plain Channels. Each effect is one line appended to the file EFFECTS."""

import asyncio
import os
import time

from channels.consumer import AsyncConsumer, SyncConsumer


def effect(message):
    """Append one line; O_APPEND writes of this size are atomic between processes."""
    line = f"{message['n']} {os.getpid()}\n".encode()
    file = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line)
    finally:
        os.close(file)


class Work(AsyncConsumer):
    async def work_do(self, message):
        await asyncio.sleep(message.get("seconds", 0))
        effect(message)

    async def work_fail(self, message):
        effect(message)
        raise RuntimeError("no luck")


class SyncWork(SyncConsumer):
    def work_do(self, message):
        time.sleep(message.get("seconds", 0))
        effect(message)
