"""Connections whose every loss is a ConnectionError, whatever the event loop calls it."""

from __future__ import annotations

from functools import cache
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

#: How uvloop refuses a write to a socket that the peer has reset: a bare RuntimeError that ends with this.
CLOSED = "the handler is closed"


class _Named:
    """Goes before a connection class of redis.asyncio."""

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        try:
            await super().send_packed_command(*args, **options)  # type: ignore[misc]
        except RuntimeError as error:
            if not str(error).endswith(CLOSED):
                raise
            raise RedisConnectionError(f"the connection was reset: {error}") from error


@cache
def _named(connection_class: type) -> type:
    return type(connection_class.__name__, (_Named, connection_class), {})


def hardened(pool: Any) -> Any:
    """The same ``pool`` (of redis.asyncio, before its first connection)."""
    pool.connection_class = _named(pool.connection_class)
    return pool
