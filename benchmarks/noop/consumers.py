"""Consumers as everybody writes them, and one of this package's own."""

from channels.consumer import AsyncConsumer, SyncConsumer

from retrying import current_job
from retrying.consumers import BackgroundConsumer


class NoOp(AsyncConsumer):
    async def no_op(self, message):
        pass


class NoOpSync(SyncConsumer):
    def no_op(self, message):
        pass


class NoOpDirect(BackgroundConsumer):
    async def no_op(self, message):
        pass


class Shaky(AsyncConsumer):
    """Each job fails once."""

    async def no_op(self, message):
        if current_job().attempt == 1:
            raise RuntimeError("the first attempt fails")
