"""The channel layers: what channels_redis has for groups and specific channels, and stored jobs for general ones."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
import uuid
from collections.abc import Coroutine, Mapping
from contextvars import ContextVar
from typing import Any

from asgiref.sync import markcoroutinefunction
from channels.exceptions import InvalidChannelLayerError
from channels.layers import BaseChannelLayer, get_channel_layer
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer, RedisSingleShardConnection
from channels_redis.utils import create_pool
from redis import asyncio as aioredis

from .inbox import Inbox
from .joblayer import JobLayer
from .message import new_job
from .store.transport import hardened

logger = logging.getLogger("retrying.layers")

#: Seconds that a socket of the layer may be silent: above channels_redis' blocking pop of 5 s, or (redis-py >= 8,
#: whose default is those same 5 s) every idle consumer dies of a timeout. https://github.com/django/channels_redis/issues/422
SOCKET_TIMEOUT = RedisChannelLayer.brpop_timeout + 10.0
#: Connections of one pool (redis-py >= 8 fails at its default of 100 instead of waiting), and seconds to wait for one.
MAX_CONNECTIONS = 100
POOL_WAIT = 20.0

_general_members: ContextVar[list[str] | None] = ContextVar("general_members", default=None)


class RetryingChannelLayer(JobLayer, RedisChannelLayer):
    """Messages to a general channel (no ``!``) are jobs: stored until done, retried, kept as dead letters.

    Takes every CONFIG key of channels_redis' core layer, and ``store``: where jobs live, like an entry of ``hosts``
    (default: the first of them). ``capacity`` and ``channel_capacity`` apply to general channels only when given
    (jobs waiting); ``expiry``, when given, limits a job's wait for its first attempt. Groups and specific channels
    behave as in channels_redis, but a receive waits through an outage instead of raising.
    """

    def open_layer(
        self, *, capacity: int | None, channel_capacity: Mapping[Any, int] | None, expiry: float | None, **config: Any
    ) -> None:
        RedisChannelLayer.__init__(
            self,
            capacity=100 if capacity is None else capacity,
            channel_capacity=channel_capacity,
            expiry=60 if expiry is None else expiry,
            **config,
        )
        self._inboxes: dict[asyncio.AbstractEventLoop, Inbox] = {}

    def create_pool(self, index: int) -> Any:
        host = {"socket_timeout": SOCKET_TIMEOUT, **self.hosts[index]}
        if "master_name" in host:
            return hardened(create_pool(host))
        host = {"max_connections": MAX_CONNECTIONS, "timeout": POOL_WAIT, **host}
        if "address" in host:
            return hardened(aioredis.BlockingConnectionPool.from_url(host.pop("address"), **host))
        return hardened(aioredis.BlockingConnectionPool(**host))

    # Jobs

    @markcoroutinefunction
    def send(self, channel: str, message: dict[str, Any]) -> Coroutine[Any, Any, None]:
        """Store a job (general channel), or hand over to channels_redis (specific channel).

        Raises ChannelFull when a given capacity is reached, StoreUnavailable, StoreFull, InvalidJob (too large, or
        not serializable).
        """
        if not isinstance(message, dict):
            raise TypeError(f"a message is a dict, got {type(message).__name__}")
        self.require_valid_channel_name(channel)
        if "!" in channel:
            return super().send(channel, message)
        return self.send_job(channel, message)

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
            return await self.receive_job(channel)
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

    async def close_pools(self) -> None:
        """Close every connection and reader of the running loop; channels_redis' own would close other loops' too."""
        loop = asyncio.get_running_loop()
        inbox = self._inboxes.pop(loop, None)
        if inbox is not None:
            await inbox.close()
        await self.wait_received()
        if loop in self._layers:
            await self._layers[loop].flush()
        await self.store.connections.aclose()

    async def wait_received(self) -> None:
        """Wait for what cleans up behind receives of the running loop."""
        loop = asyncio.get_running_loop()
        if cleaners := [cleaner for cleaner in self.receive_cleaners if cleaner.get_loop() is loop]:
            await asyncio.wait(cleaners)

    async def flush(self) -> None:
        """Delete the layer's messages and groups; jobs stay. See channels_redis."""
        await super().flush()


class _Shard(RedisSingleShardConnection):
    """One server of the pub/sub layer; a connection that was reset is a ConnectionError here too."""

    def _ensure_redis(self) -> None:
        if self._redis is None:
            self._redis = aioredis.Redis(connection_pool=hardened(create_pool(self.host)))
            self._pubsub = self._redis.pubsub()


class RetryingPubSubChannelLayer(JobLayer, RedisPubSubChannelLayer, BaseChannelLayer):
    """``RetryingChannelLayer`` over channels_redis' pub/sub layer, for groups of many sockets.

    A message to a group is sent once for each process, not once for each socket, and is kept nowhere: who isn't
    listening misses it. Takes every CONFIG key of channels_redis' pub/sub layer, and ``store``, ``capacity``,
    ``channel_capacity`` and ``expiry``, which apply to general channels only, and only when given. A general channel
    can't be a member of a group.
    """

    extensions = ["groups", "flush"]

    def open_layer(
        self, *, capacity: int | None, channel_capacity: Mapping[Any, int] | None, expiry: float | None, **config: Any
    ) -> None:
        RedisPubSubChannelLayer.__init__(
            self, **config
        )  # capacity and expiry are for jobs: of the rest nothing is kept
        self.prefix: str = config["prefix"]
        self.channel_capacity = self.compile_capacities(channel_capacity or {})

    def _get_layer(self) -> Any:
        known = asyncio.get_running_loop() in self._layers
        layer = super()._get_layer()
        if not known:
            layer._shards = [_Shard(shard.host, layer) for shard in layer._shards]
        return layer

    def is_specific(self, channel: str) -> bool:
        """Whether a channel belongs to one process; those that plain channels_redis made are named without a ``!``."""
        return "!" in channel or channel.startswith(f"{self.prefix}specific.")

    async def new_channel(self, prefix: str = "specific.") -> str:
        """A specific channel of this process and event loop. Raises redis' ConnectionError: it subscribes."""
        layer = self._get_layer()
        channel = f"{prefix}!{uuid.uuid4().hex}"  # valid whatever the layer's prefix is, and unique without it
        await layer._subscribe_to_channel(channel)
        return channel

    @markcoroutinefunction
    def send(self, channel: str, message: dict[str, Any]) -> Coroutine[Any, Any, None]:
        """As ``RetryingChannelLayer.send``."""
        if not isinstance(message, dict):
            raise TypeError(f"a message is a dict, got {type(message).__name__}")
        self.require_valid_channel_name(channel)
        if self.is_specific(channel):
            return self._send_specific(channel, message)
        return self.send_job(channel, message)

    async def _send_specific(self, channel: str, message: dict[str, Any]) -> None:
        await self._get_layer().send(channel, message)  # it belongs to the loop that runs then

    async def receive(self, channel: str) -> dict[str, Any]:
        """The next message of a channel; of a general one a job that counts as done when it is returned."""
        self.require_valid_channel_name(channel)
        if self.is_specific(channel):
            return await self._get_layer().receive(channel)  # type: ignore[no-any-return]
        return await self.receive_job(channel)

    async def group_add(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        await self._get_layer().group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        await self._get_layer().group_discard(group, channel)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.require_valid_group_name(group)
        await self._get_layer().group_send(group, message)

    async def flush(self) -> None:
        """Forget the groups and specific channels of the running loop, and close its connections; jobs stay."""
        await self._get_layer().flush()

    async def close_pools(self) -> None:
        """Close every connection of the running loop."""
        await self.flush()
        await self.store.connections.aclose()


def get_layer(alias: str = "default") -> JobLayer:
    """The layer of that alias. Raises InvalidChannelLayerError when it isn't one of this module."""
    layer = get_channel_layer(alias)
    if not isinstance(layer, JobLayer):
        raise InvalidChannelLayerError(
            f"CHANNEL_LAYERS[{alias!r}] must have BACKEND 'retrying.layers.RetryingChannelLayer' or "
            f"'retrying.layers.RetryingPubSubChannelLayer', got {type(layer).__name__ if layer else 'nothing'}"
        )
    return layer
