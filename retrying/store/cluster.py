"""redis-py's clients of a Redis Cluster, made to wait for a connection and to fail in one way.

As they come, they raise when more requests run than there are connections, and their own errors don't descend from
redis-py's root, so that a loop that reconnects for ever would not.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import redis.asyncio.cluster
import redis.cluster
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import RedisClusterException

#: The pool of a node is larger than the number of requests at a time: a connection that is being dropped counts too.
SPARE = 2
LAYOUT: dict[str, Any] = {
    "require_full_coverage": False,  # a channel's slot may be served while others are not
    "reinitialize_steps": 0,  # a moved slot is noted; asking for the whole layout would close connections in use
}


class Cluster(redis.cluster.RedisCluster):
    """Of a process; connects when made."""

    def __init__(
        self, nodes: Sequence[tuple[str, int]], *, max_connections: int, timeout: float, **options: Any
    ) -> None:
        """``max_connections``: requests at a time; more wait up to ``timeout`` seconds. Raises ConnectionError."""
        self._places = threading.BoundedSemaphore(max_connections)
        self._wait = timeout
        node: Any = redis.cluster.ClusterNode
        first = [node(host, port) for host, port in nodes]
        try:
            super().__init__(startup_nodes=first, max_connections=max_connections * SPARE, **LAYOUT, **options)
        except RedisClusterException as error:
            raise NotConnected(str(error)) from error

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if not self._places.acquire(timeout=self._wait):
            raise NotConnected("no connection became free")
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except RedisClusterException as error:
            raise NotConnected(str(error)) from error
        finally:
            self._places.release()

    ask = execute_command


class _PubSub(redis.asyncio.cluster.ClusterPubSub):
    """On the node of its first channel. It may come before the client's first request: then it asks for the layout."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        await self.cluster.initialize()
        return await super().execute_command(*args, **options)


class AsyncCluster(redis.asyncio.cluster.RedisCluster):
    """Of one event loop."""

    def __init__(
        self, nodes: Sequence[tuple[str, int]], *, max_connections: int, timeout: float, **options: Any
    ) -> None:
        """``max_connections``: requests at a time; more wait up to ``timeout`` seconds."""
        self._places = asyncio.BoundedSemaphore(max_connections)
        self._wait = timeout
        first = [redis.asyncio.cluster.ClusterNode(host, port) for host, port in nodes]
        super().__init__(startup_nodes=first, max_connections=max_connections * SPARE, **LAYOUT, **options)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            async with asyncio.timeout(self._wait):
                await self._places.acquire()
        except TimeoutError as error:
            raise NotConnected("no connection became free") from error
        try:
            return await super().execute_command(*args, **options)
        except RedisClusterException as error:
            raise NotConnected(str(error)) from error
        finally:
            self._places.release()

    ask = execute_command

    def pubsub(self, *args: Any, **options: Any) -> _PubSub:
        return _PubSub(self, *args, **options)

    async def aclose(self) -> None:
        """Close every connection, also those of a client that was about to ask for the layout again."""
        await super().aclose()
        await self.nodes_manager.aclose()
        await self.nodes_manager.aclose("startup_nodes")
