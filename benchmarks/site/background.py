"""The same as consumers that the worker calls directly."""

from benchmarks import effects
from retrying.consumers import BackgroundConsumer


class Background(BackgroundConsumer):
    async def noop(self, message):
        await effects.anoop(message["n"])

    async def spin(self, message):
        await effects.aspin(message["n"])

    async def sleep(self, message):
        await effects.asleep(message["n"])

    async def crash(self, message):
        await effects.acrash(message["n"])


class SyncBackground(BackgroundConsumer):
    def noop(self, message):
        effects.noop(message["n"])

    def sleep(self, message):
        effects.sleep(message["n"])
