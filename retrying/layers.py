"""The channel layer: what channels_redis has for groups and specific channels, and stored jobs for general ones."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from asgiref.sync import AsyncToSync
from channels.exceptions import ChannelFull, InvalidChannelLayerError
from channels.layers import get_channel_layer
from channels_redis.core import RedisChannelLayer
from channels_redis.serializers import registry
from channels_redis.utils import create_pool, decode_hosts
from redis import asyncio as aioredis

from .conf import get_settings
from .exceptions import InvalidJob
from .inbox import Inbox
from .message import new_id, new_job
from .store import Store
from .store.calls import Burial, Call, Enqueued, Lease, NewJob, T

logger = logging.getLogger("retrying.layers")

#: Seconds that a socket of the layer may be silent: above channels_redis' blocking pop of 5 s, or (redis-py >= 8,
#: whose default is those same 5 s) every idle consumer dies of a timeout. https://github.com/django/channels_redis/issues/422
SOCKET_TIMEOUT = RedisChannelLayer.brpop_timeout + 10.0
#: Connections of one pool (redis-py >= 8 fails at its default of 100 instead of waiting), and seconds to wait for one.
MAX_CONNECTIONS = 100
POOL_WAIT = 20.0

_general_members: ContextVar[list[str] | None] = ContextVar("general_members", default=None)


class RetryingChannelLayer(RedisChannelLayer):
    """Messages to a general channel (no ``!``) are jobs: stored until done, retried, kept as dead letters.

    Takes every CONFIG key of channels_redis' core layer, and ``store``: where jobs live, like an entry of ``hosts``
    (default: the first of them). ``capacity`` and ``channel_capacity`` apply to general channels only when given
    (jobs waiting); ``expiry``, when given, limits a job's wait for its first attempt. Groups and specific channels
    behave as in channels_redis, but a receive waits through an outage instead of raising.
    """

    def __init__(
        self,
        hosts: Sequence[Any] | None = None,
        *,
        store: Any = None,
        prefix: str = "asgi",
        capacity: int | None = None,
        channel_capacity: Mapping[Any, int] | None = None,
        expiry: float | None = None,
        serializer_format: str = "msgpack",
        symmetric_encryption_keys: Sequence[str | bytes] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            hosts=hosts,
            prefix=prefix,
            capacity=100 if capacity is None else capacity,
            channel_capacity=channel_capacity,
            expiry=60 if expiry is None else expiry,
            serializer_format=serializer_format,
            symmetric_encryption_keys=symmetric_encryption_keys,
            **options,
        )
        self._job_capacity = capacity
        self._job_expiry = expiry
        # Without the layer's age limit on messages: a retry due in an hour must still decrypt.
        self._job_serializer = registry.get_serializer(
            serializer_format, expiry=None, symmetric_encryption_keys=symmetric_encryption_keys
        )
        self.store = Store(
            decode_hosts([store] if store else hosts)[0],
            prefix=f"retrying:{prefix}",
            limits=get_settings().limits(),
        )
        self._inboxes: dict[asyncio.AbstractEventLoop, Inbox] = {}

    def create_pool(self, index: int) -> Any:
        host = {"socket_timeout": SOCKET_TIMEOUT, **self.hosts[index]}
        if "master_name" in host:
            return create_pool(host)
        host = {"max_connections": MAX_CONNECTIONS, "timeout": POOL_WAIT, **host}
        if "address" in host:
            return aioredis.BlockingConnectionPool.from_url(host.pop("address"), **host)
        return aioredis.BlockingConnectionPool(**host)

    # Jobs

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Store a job (general channel), or hand over to channels_redis (specific channel).

        Raises ChannelFull when a given capacity is reached, StoreUnavailable, StoreFull, InvalidJob (too large, or
        not serializable).
        """
        if not isinstance(message, dict):
            raise TypeError(f"a message is a dict, got {type(message).__name__}")
        self.require_valid_channel_name(channel)
        if "!" in channel:
            await super().send(channel, message)
            return
        job = new_job(self.encode(message), max_bytes=get_settings().MAX_MESSAGE_BYTES, expires=self._job_expiry)
        await self.arun(self.enqueue_call(channel, [job]))

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """As in channels_redis; a general channel in the group gets a job."""
        members: list[str] = []
        token = _general_members.set(members)
        try:
            await super().group_send(group, message)
        finally:
            _general_members.reset(token)
        for channel in members:
            await self.send(channel, message)

    def _map_channel_keys_to_connection(self, channel_names: list[str], message: dict[str, Any]) -> Any:
        members = _general_members.get()
        if members is not None:
            members.extend(name for name in channel_names if "!" not in name)
            channel_names = [name for name in channel_names if "!" in name]
        return super()._map_channel_keys_to_connection(channel_names, message)

    def encode(self, message: dict[str, Any]) -> bytes:
        """A job's payload. Raises InvalidJob when the layer's serializer can't take the message."""
        try:
            return self._job_serializer.serialize(message)  # type: ignore[no-any-return]
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidJob(f"the message can't be serialized: {error}") from error

    def decode(self, payload: bytes) -> dict[str, Any]:
        """The message of a payload. Raises ValueError when it isn't one."""
        try:
            message = self._job_serializer.deserialize(payload)
        except Exception as error:  # whatever a codec raises on foreign bytes: msgpack's, json's, Fernet's
            raise ValueError(f"{type(error).__name__}: {error}") from error
        if not isinstance(message, dict):
            raise ValueError(f"a message is a dict, got {type(message).__name__}")  # noqa: TRY004  (bad data, no bug)
        return message

    def enqueue_call(self, channel: str, jobs: Sequence[NewJob]) -> Call[list[Enqueued]]:
        """The request that stores ``jobs``; running it raises ChannelFull when a given capacity would be exceeded."""
        capacity = self._job_capacity
        for pattern, limit in self.channel_capacity:
            if pattern.match(channel):
                capacity = limit
                break
        call = self.store.enqueue(channel, jobs, capacity=capacity)
        parse = call.parse

        def refuse_when_full(reply: Any) -> list[Enqueued]:
            if not reply:
                raise ChannelFull(channel)
            return parse(reply)

        return Call(call.script, call.keys, call.args, refuse_when_full)

    async def arun(self, call: Call[T]) -> T:
        """Run a request from async code; from inside ``async_to_sync`` on the process' kept sync connections."""
        if asyncio.get_running_loop() in AsyncToSync.loop_thread_executors:
            # A loop made for this one call: a connection of its own would be opened and closed with it. Nothing
            # else runs in that loop, so blocking it blocks only the caller, who is waiting anyway.
            return self.store.run(call)
        return await self.store.arun(call)

    async def adopt(self, channel: str) -> int:
        """Move messages that processes of plain channels_redis left in its key for ``channel`` into the store.

        Returns how many. A crash in between moves a message again under the same id: it stays one job.
        """
        moved = 0
        for index in range(self.ring_size):
            connection = self.connection(index)
            for raw in await connection.zrange(self.prefix + channel, 0, 99):
                try:
                    message = self.deserialize(raw)
                except Exception:
                    logger.exception("a message of plain channels_redis on %s can't be decoded; dropped", channel)
                else:
                    job = new_job(
                        self.encode(message),
                        max_bytes=sys.maxsize,  # it is stored already: a limit would only lose it
                        job_id=f"adopted.{hashlib.sha256(raw).hexdigest()[:32]}",
                    )
                    await self.arun(self.store.enqueue(channel, [job]))
                    moved += 1
                await connection.zrem(self.prefix + channel, raw)
        return moved

    # Receiving

    async def receive(self, channel: str) -> dict[str, Any]:
        """The next message of a channel.

        General channel: a job that counts as done when it is returned, as in Channels; runworker's own worker does
        better. Specific channel: one reader per event loop serves all of them; it reconnects and never raises.
        """
        self.require_valid_channel_name(channel)
        if "!" not in channel:
            return await self._receive_job(channel)
        real_channel = self.non_local_name(channel)
        if not real_channel.endswith(self.client_prefix + "!"):
            raise ValueError(
                f"{channel!r} belongs to another process: receive() takes names that new_channel() made here"
            )
        loop = asyncio.get_running_loop()
        inbox = self._inboxes.get(loop)
        if inbox is None:
            inbox = self._inboxes[loop] = Inbox(self, forget=lambda: self._inboxes.pop(loop, None))
        return await inbox.receive(channel, real_channel)

    async def _receive_job(self, channel: str) -> dict[str, Any]:
        worker = f"receive:{self.client_prefix}"
        client = self.store.connections.async_()
        while True:
            token = new_id()
            claim = await self.store.arun(self.store.claim(channel, worker, token, wanted=1))
            for job in claim.jobs:
                lease = Lease(job.id, token)
                try:
                    message = self.decode(job.payload)
                except ValueError as error:
                    problem = f"its message can't be decoded: {error}"
                    await self.store.arun(self.store.bury(channel, [Burial(lease, problem, problem, None)]))
                    continue
                await self.store.arun(self.store.claim(channel, worker, new_id(), wanted=0, succeeded=[lease]))
                return message
            wait = 1.0 if claim.next_due is None else min(1.0, claim.next_due / 1000)
            await client.blpop([self.store.keys(channel).bell], timeout=max(wait, 0.01))

    async def close_pools(self) -> None:
        """Close every connection and reader of the running loop."""
        inbox = self._inboxes.pop(asyncio.get_running_loop(), None)
        if inbox is not None:
            await inbox.close()
        await super().close_pools()
        await self.store.connections.aclose()

    async def flush(self) -> None:
        """Delete the layer's messages and groups; jobs stay. See channels_redis."""
        await super().flush()


def get_layer(alias: str = "default") -> RetryingChannelLayer:
    """The layer of that alias. Raises InvalidChannelLayerError when it isn't a RetryingChannelLayer."""
    layer = get_channel_layer(alias)
    if not isinstance(layer, RetryingChannelLayer):
        raise InvalidChannelLayerError(
            f"CHANNEL_LAYERS[{alias!r}] must have BACKEND 'retrying.layers.RetryingChannelLayer', "
            f"got {type(layer).__name__ if layer else 'nothing'}"
        )
    return layer
