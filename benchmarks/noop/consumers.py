"""Consumers as everybody writes them: nothing here knows of this package, but for the one that asks for its attempt."""

from channels.consumer import AsyncConsumer, SyncConsumer

from retrying import current_job


class NoOp(AsyncConsumer):
    async def no_op(self, message):
        pass


class NoOpSync(SyncConsumer):
    def no_op(self, message):
        pass


class Shaky(AsyncConsumer):
    """Each job fails once."""

    async def no_op(self, message):
        if current_job().attempt == 1:
            raise RuntimeError("the first attempt fails")
