"""Background consumers, written for plain Channels."""

from channels.consumer import AsyncConsumer, SyncConsumer

from benchmarks import effects


class Work(AsyncConsumer):
    async def noop(self, message):
        await effects.anoop(message["n"])

    async def spin(self, message):
        await effects.aspin(message["n"])

    async def sleep(self, message):
        await effects.asleep(message["n"])

    async def crash(self, message):
        await effects.acrash(message["n"])


class SyncWork(SyncConsumer):
    def noop(self, message):
        effects.noop(message["n"])

    def sleep(self, message):
        effects.sleep(message["n"])

    def crash(self, message):
        effects.crash(message["n"])
