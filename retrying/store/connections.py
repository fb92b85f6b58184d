"""Clients of the store's server: one per process for sync callers, one per event loop for async ones.

A cluster's are in ``cluster.py``; what a description may hold is told in ``server.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, cast

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from ..reconnect import end
from .cluster import AsyncCluster, Cluster
from .server import Kind, Server
from .transport import hardened
from .wire import AsyncWire, Kept, Line, ThroughClient, Wire, direct

logger = logging.getLogger("retrying.store")

#: Seconds to wait for a reply; above the longest blocking pop. Shorter where another server can take over.
SOCKET_TIMEOUT = 10.0
REPLICATED_SOCKET_TIMEOUT = 5.0
CONNECT_TIMEOUT = 5.0
REPLICATED_CONNECT_TIMEOUT = 2.0
#: Seconds to wait for a Sentinel, before the next one is asked.
SENTINEL_TIMEOUT = 1.0
#: Seconds between two questions to Sentinel: which one is the primary?
WATCH_SECONDS = 0.5
#: Connections of one client; a caller waits for a free one (seconds) rather than fail.
MAX_CONNECTIONS = 50
POOL_WAIT = 20.0

#: What is used of redis-py's connections is not public, so it may change: see ``wire.direct``.
OTHER = f"the connections of redis-py {redis.__version__} are not as expected: requests go through its client, slower"

#: Both flavours of redis-py's client of one server.
Client = redis.Redis | Cluster
AsyncClient = redis.asyncio.Redis | AsyncCluster


class _SentinelPool(redis.sentinel.SentinelConnectionPool, redis.BlockingConnectionPool):
    """Connections to the primary of the moment; waits for a free one."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        # When another one is named redis-py spares those in use; so look all that ``Kept`` has, and each would keep a
        # request waiting for its timeout where the old one is only stopped.
        super().disconnect()


class _AsyncSentinelPool(redis.asyncio.sentinel.SentinelConnectionPool, redis.asyncio.BlockingConnectionPool):
    """Connections to the primary of the moment; waits for a free one."""


async def _leave_old_primaries(pool: Any) -> None:
    """Drop every connection when Sentinel names another primary: an old one that is only stopped, or cut off, would
    keep each request waiting for its timeout."""
    known: tuple[str, int] | None = None
    while True:
        try:
            primary = await pool.get_master_address()
        except (RedisError, OSError) as error:
            logger.debug("no Sentinel names a primary of %s: %s", pool.service_name, error)
        else:
            left, known = known, primary
            if left not in (None, primary):
                logger.warning("the primary of %s is %s now, it was %s", pool.service_name, primary, left)
                with contextlib.suppress(RedisError, OSError):  # one that is stopped doesn't say goodbye
                    await pool.disconnect()
        await asyncio.sleep(WATCH_SECONDS)


async def _close_with_loop(client: AsyncClient, forget: Callable[[], object]) -> AsyncGenerator[None]:
    # asyncio.run (and so async_to_sync) finalizes the asynchronous generators of a loop before it closes it:
    # the documented hook by which nothing of ours is left open.
    watch = None
    sentinels: list[redis.asyncio.Redis] = []
    if isinstance(client, redis.asyncio.Redis) and isinstance(client.connection_pool, _AsyncSentinelPool):
        watch = asyncio.create_task(_leave_old_primaries(client.connection_pool))
        sentinels = client.connection_pool.sentinel_manager.sentinels
    try:
        yield
    finally:
        forget()
        if watch is not None:
            await end([watch])
        for sentinel in sentinels:
            await sentinel.aclose(close_connection_pool=True)
        if isinstance(client, AsyncCluster):
            await client.aclose()
        else:
            await client.aclose(close_connection_pool=True)


#: Held until their loops end, not as long as the Connections: what is dropped just before its loop ends is finalized
#: by a task that the end of the loop cancels, and its sockets would stay open.
_closings: set[AsyncGenerator[None]] = set()

#: Held to make a process' client; across a fork too, so that no child gets it held by a thread that it hasn't.
_making = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_making.acquire, after_in_parent=_making.release, after_in_child=_making.release)


class Connections:
    """Clients for one store. ``host``: its description, see docs/stores.md. Raises ValueError, in words."""

    def __init__(self, host: Mapping[str, Any]) -> None:
        self.host = dict(host)
        self.server = Server.of(self.host)
        #: Connections of the event loop beyond the limit: a worker's doorbells, which block one each, must not wait for
        #: each other, nor keep requests waiting. To be set before the loop's first request.
        self.blocking = 0
        self._sync: Client | None = None
        self._wire: Wire | None = None
        self._process = 0
        self._async: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[AsyncClient, AsyncWire, AsyncGenerator[None]]
        ] = weakref.WeakKeyDictionary()

    def sync(self) -> redis.Redis:
        """The process' client: thread-safe, another one after a fork. A cluster's connects here: ConnectionError."""
        if self._sync is None or self._process != os.getpid():
            with _making:
                if self._sync is None or self._process != os.getpid():
                    self._sync = client = self._make_sync()
                    self._wire = client if isinstance(client, Cluster) else self._kept(client)
                    self._process = os.getpid()
        return cast(redis.Redis, self._sync)  # a cluster's has the same commands

    def wire(self) -> Wire:
        """What the process' requests go out on; thread-safe. A cluster's connects here: ConnectionError."""
        wire = self._wire if self._process == os.getpid() else None
        if wire is None:
            self.sync()
            wire = self._wire
            assert wire is not None
        return wire

    def _kept(self, client: redis.Redis) -> Wire:
        pool, options = client.connection_pool, self._options()
        if not direct(pool, Kept.USES):
            logger.warning(OTHER)
            return ThroughClient(client)
        return Kept(pool, most=options["max_connections"], wait=options["timeout"], timeout=options["socket_timeout"])

    def async_(self) -> redis.asyncio.Redis:
        """The running event loop's client; closed with the loop."""
        return cast(redis.asyncio.Redis, self._of_loop()[0])

    def async_wire(self) -> AsyncWire:
        """What the running event loop's requests go out on."""
        return self._of_loop()[1]

    @contextlib.asynccontextmanager
    async def blocking_wire(self, seconds: float) -> AsyncGenerator[AsyncWire]:
        """Another one, for requests that wait up to ``seconds`` at the server: on the loop's own they would keep all
        others waiting."""
        client, wire, _ = self._of_loop()
        if isinstance(client, AsyncCluster) or not isinstance(wire, Line):
            yield wire  # takes a connection for each request
            return
        line = Line(client.connection_pool, timeout=self.socket_timeout and self.socket_timeout + seconds)
        try:
            yield line
        finally:
            await line.aclose()

    def _of_loop(self) -> tuple[AsyncClient, AsyncWire, AsyncGenerator[None]]:
        loop = asyncio.get_running_loop()
        kept = self._async.get(loop)
        if kept is None:
            client = self._make_async()
            wire = client if isinstance(client, AsyncCluster) else self._line(client)
            ours = self._async

            def forget() -> None:
                # Weak keys are no help where values hold them, and what waits for replies holds its loop.
                ours.pop(asyncio.get_running_loop(), None)
                _closings.discard(closing)

            closing = _close_with_loop(client, forget)
            with contextlib.suppress(StopIteration):
                closing.__anext__().send(None)  # up to its yield, which awaits nothing: the loop knows it from here on
            _closings.add(closing)
            kept = self._async[loop] = (client, wire, closing)
        return kept

    def _line(self, client: redis.asyncio.Redis) -> AsyncWire:
        if not direct(client.connection_pool, Line.USES):
            logger.warning(OTHER)
            return ThroughClient(client)
        return Line(client.connection_pool, timeout=self.socket_timeout)

    async def aclose(self) -> None:
        """Close the running loop's connections."""
        loop = asyncio.get_running_loop()
        if kept := self._async.pop(loop, None):
            _, _, closing = kept
            await closing.aclose()

    def close(self) -> None:
        """Close the sync connections."""
        client, self._sync, self._wire = self._sync, None, None
        if isinstance(client, Cluster):
            client.close()
        elif client is not None:
            pool = client.connection_pool
            pool.disconnect()  # close() leaves a pool that it was given open
            if isinstance(pool, _SentinelPool):
                for sentinel in pool.sentinel_manager.sentinels:
                    sentinel.connection_pool.disconnect()

    def reconnect(self) -> None:
        """The server took a replica's part: every sync connection is made anew."""
        if isinstance(self._sync, Cluster):
            self.close()
        elif self._sync is not None:
            self._sync.connection_pool.disconnect()

    async def areconnect(self) -> None:
        """``reconnect`` for the running loop."""
        client: Any = self.async_()
        if isinstance(client, AsyncCluster):
            await client.aclose()  # it asks for the cluster's layout at its next request
        else:
            await client.connection_pool.disconnect()

    @property
    def socket_timeout(self) -> float | None:
        """Seconds to wait for a reply; None: for ever."""
        found: float | None = self._options()["socket_timeout"]
        return found

    def _options(self) -> dict[str, Any]:
        replicated = self.server.kind is not Kind.ONE
        return {
            "socket_timeout": REPLICATED_SOCKET_TIMEOUT if replicated else SOCKET_TIMEOUT,
            "socket_connect_timeout": REPLICATED_CONNECT_TIMEOUT if replicated else CONNECT_TIMEOUT,
            "socket_keepalive": True,
            "max_connections": MAX_CONNECTIONS,
            "timeout": POOL_WAIT,
            **self.server.options,
        }

    def _make_sync(self) -> Client:
        # Requests are repeated by the store itself, which knows that they are safe to repeat: never by a client.
        options = self._options() | {"retry": Retry(NoBackoff(), 0)}
        if self.server.kind is Kind.CLUSTER:
            return Cluster(self.server.nodes, **options)
        if self.server.kind is Kind.SENTINEL:
            return redis.Redis(connection_pool=self._sentinel_pool(redis.sentinel, _SentinelPool, options))
        return redis.Redis(connection_pool=self._pool(redis, options))

    def _make_async(self) -> AsyncClient:
        options = self._options() | {"retry": AsyncRetry(NoBackoff(), 0)}
        options["max_connections"] += self.blocking
        if self.server.kind is Kind.CLUSTER:
            return AsyncCluster(self.server.nodes, **options)
        if self.server.kind is Kind.SENTINEL:
            pool = self._sentinel_pool(redis.asyncio.sentinel, _AsyncSentinelPool, options)
            for sentinel in pool.sentinel_manager.sentinels:
                hardened(sentinel.connection_pool)
        else:
            pool = self._pool(redis.asyncio, options)
        return redis.asyncio.Redis(connection_pool=hardened(pool))

    def _sentinel_pool(self, flavour: Any, pool: Any, options: dict[str, Any]) -> Any:
        one_try = {
            "socket_timeout": SENTINEL_TIMEOUT,
            "socket_connect_timeout": SENTINEL_TIMEOUT,
            "retry": options["retry"],  # none: redis-py's own would keep at one for seconds before it asks the next
        }
        sentinels = flavour.Sentinel(
            list(self.server.nodes), sentinel_kwargs={**one_try, **self.server.sentinel_options}
        )
        return pool(self.server.master_name, sentinels, **options)

    def _pool(self, flavour: Any, options: dict[str, Any]) -> Any:
        if self.server.address:
            return flavour.BlockingConnectionPool.from_url(self.server.address, **options)
        secure = options.pop("ssl", False)
        if "path" in options:
            del options["socket_keepalive"]
            options["connection_class"] = flavour.UnixDomainSocketConnection
        elif secure:
            options["connection_class"] = flavour.SSLConnection
        return flavour.BlockingConnectionPool(**options)
