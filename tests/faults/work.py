"""The consumer that the fault tests run: it appends a line for everything that happens to a job.

A line is ``job attempt word pid monotonic``: the monotonic clock is one for all processes of a machine.
"""

import asyncio
import os
import signal
import time

from channels.consumer import AsyncConsumer
from channels.exceptions import StopConsumer
from channels.routing import ChannelNameRouter, ProtocolTypeRouter

from retrying import current_job
from retrying.consumers import BackgroundConsumer

RAISED = {
    "system-exit": lambda: SystemExit(3),
    "keyboard-interrupt": KeyboardInterrupt,
    "generator-exit": GeneratorExit,
    "cancelled": asyncio.CancelledError,
    "stop-consumer": StopConsumer,
    "huge": lambda: RuntimeError("x" * 50 * 2**20),
}


def say(word: str) -> None:
    """Append a line; O_APPEND writes of this size are atomic between processes."""
    job = current_job()
    line = f"{job.id} {job.attempt} {word} {os.getpid()} {time.monotonic():.6f}\n"
    file = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


class Handlers:
    async def work_run(self, message: dict) -> None:
        """``seconds`` of work; the first ``fails`` charged attempts fail; ``die``: the process goes with it."""
        say("start")
        try:
            await asyncio.sleep(message.get("seconds", 0))
        except asyncio.CancelledError:
            say("cancelled")
            raise
        if message.get("die") == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if current_job().retries < message.get("fails", 0):
            say("failed")
            raise RuntimeError("the dependency is down")
        say("done")
        if message.get("die") == "once" and current_job().attempt == 1:
            os._exit(1)

    async def work_quiet(self, message: dict) -> None:
        """Says nothing; its first ``fails`` charged attempts fail."""
        if current_job().retries < message.get("fails", 0):
            raise RuntimeError("the dependency is down")

    async def work_raise(self, message: dict) -> None:
        say("start")
        say("failed")
        error = RAISED[message["what"]]()
        raise error


class Work(Handlers, AsyncConsumer):
    """Run by Channels' dispatch."""


class DirectWork(Handlers, BackgroundConsumer):
    """Its handlers are called by the worker."""


work = DirectWork if os.environ.get("DISPATCH") == "direct" else Work
application = ProtocolTypeRouter({"channel": ChannelNameRouter({"work": work.as_asgi()})})
