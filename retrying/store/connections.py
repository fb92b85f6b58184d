"""Clients of the store's server: one pool per process for sync callers, one client per event loop for async ones."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from .transport import hardened

#: Seconds to wait for a reply; above the longest blocking pop.
SOCKET_TIMEOUT = 10.0
CONNECT_TIMEOUT = 5.0
#: Connections of one pool; a caller waits for a free one rather than fail.
MAX_CONNECTIONS = 50
POOL_WAIT = 20.0
NOT_FOR_CONNECTIONS = ("address", "master_name", "sentinels", "sentinel_kwargs")


def _options(host: Mapping[str, Any]) -> dict[str, Any]:
    # Requests are repeated by the store itself, which knows that they are safe to repeat: never by the client.
    return {
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        "max_connections": MAX_CONNECTIONS,
        **{name: value for name, value in host.items() if name not in NOT_FOR_CONNECTIONS},
    }


async def _close_with_loop(client: redis.asyncio.Redis) -> AsyncGenerator[None]:
    # asyncio.run (and so async_to_sync) finalizes the asynchronous generators of a loop before it closes it:
    # the documented hook by which nothing of ours is left open.
    try:
        yield
    finally:
        await client.aclose(close_connection_pool=True)


class Connections:
    """Clients for one server, described like an entry of channels_redis' ``hosts``:
    ``{"address": url, ...}``, ``{"host":, "port":, ...}`` or ``{"master_name":, "sentinels": [...], ...}``.
    """

    def __init__(self, host: Mapping[str, Any]) -> None:
        self.host = dict(host)
        self._sync: redis.Redis | None = None
        self._lock = threading.Lock()
        self._async: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[redis.asyncio.Redis, AsyncGenerator[None]]
        ] = weakref.WeakKeyDictionary()

    def sync(self) -> redis.Redis:
        """The process' client (thread-safe; its pool notices a fork)."""
        if self._sync is None:
            with self._lock:
                if self._sync is None:
                    self._sync = self._make(redis, retry=Retry(NoBackoff(), 0))
        return self._sync

    def async_(self) -> redis.asyncio.Redis:
        """The running event loop's client; closed with the loop."""
        loop = asyncio.get_running_loop()
        kept = self._async.get(loop)
        if kept is None:
            client = self._make(redis.asyncio, retry=AsyncRetry(NoBackoff(), 0))
            hardened(client.connection_pool)
            closing = _close_with_loop(client)
            with contextlib.suppress(StopIteration):
                closing.__anext__().send(None)  # up to its yield, which awaits nothing: the loop knows it from here on
            kept = self._async[loop] = (client, closing)
        return kept[0]

    async def aclose(self) -> None:
        """Close the running loop's connections."""
        if kept := self._async.pop(asyncio.get_running_loop(), None):
            await kept[1].aclose()

    def close(self) -> None:
        """Close the sync connections."""
        if self._sync is not None:
            self._sync.connection_pool.disconnect()  # close() leaves a pool that it was given open
            self._sync = None

    def _make(self, flavour: Any, **options: Any) -> Any:
        options |= _options(self.host)
        if "master_name" in self.host:
            sentinel = flavour.sentinel.Sentinel(
                self.host["sentinels"], sentinel_kwargs=self.host.get("sentinel_kwargs"), **options
            )
            return sentinel.master_for(self.host["master_name"])
        options["timeout"] = POOL_WAIT
        pool = flavour.BlockingConnectionPool
        if "address" in self.host:
            return flavour.Redis(connection_pool=pool.from_url(self.host["address"], **options))
        return flavour.Redis(connection_pool=pool(**options))
