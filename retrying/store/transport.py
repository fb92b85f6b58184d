"""Connections whose every loss is a ConnectionError, and that are closed however they end, on any event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cache
from typing import Any

from redis.asyncio import SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError

#: How uvloop refuses a write to a socket that the peer has reset: a bare RuntimeError that ends with this.
CLOSED = "the handler is closed"


class _Named:
    """Goes before a connection class of redis.asyncio."""

    _reader: Any
    _writer: Any

    async def connect(self) -> None:
        try:
            await super().connect()  # type: ignore[misc]
        except BaseException:
            # redis-py does so after its own errors only. Cancelled within the handshake, a connection would go back to
            # its pool with a reply to come, that of who is next; and one that had no credentials to show stays open.
            await self.disconnect(nowait=True)
            raise

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        task = asyncio.current_task()
        cancelled = task.cancelling() if task else 0
        try:
            await super().send_packed_command(*args, **options)  # type: ignore[misc]
            if task and task.cancelling() > cancelled:
                # Before Python 3.12 asyncio.wait_for, which it is sent in, swallows a cancellation that arrives when it
                # is done; a loop that goes on for ever would.
                await self.disconnect(nowait=True)  # a reply is to come
                raise asyncio.CancelledError
        except RuntimeError as error:
            if not str(error).endswith(CLOSED):
                raise
            raise RedisConnectionError(f"the connection was reset: {error}") from error

    async def disconnect(self, *args: Any, **options: Any) -> None:
        writer: asyncio.StreamWriter | None = self._writer
        try:
            await super().disconnect(*args, **options)  # type: ignore[misc]
        finally:
            if writer is not None:
                # Closed without waiting, a TLS connection stays open until the peer has said goodbye too: for good
                # when the event loop ends before. After an orderly end this does nothing.
                writer.transport.abort()


class _Secure(_Named):
    """Begins TLS on a connection that is at hand. Where asyncio makes both in one step and is cancelled in between, it
    has nothing to close: the socket stays open for the time of a handshake, or for good when the loop ends before."""

    host: str
    ssl_context: Any
    socket_connect_timeout: float | None
    _plain = False

    def _connection_arguments(self) -> Mapping[str, Any]:
        arguments = dict(super()._connection_arguments())  # type: ignore[misc]
        if self._plain:
            del arguments["ssl"]
        return arguments

    async def _connect(self) -> None:
        self._plain = True
        try:
            async with asyncio.timeout(self.socket_connect_timeout):
                await super()._connect()  # type: ignore[misc]
                await self._writer.start_tls(self.ssl_context.get(), server_hostname=self.host)
        except BaseException:
            if self._writer is not None:
                self._writer.transport.abort()
                self._reader = self._writer = None
            raise
        finally:
            self._plain = False


@cache
def _hardened(connection_class: type) -> type:
    before = _Secure if issubclass(connection_class, SSLConnection) else _Named
    return type(connection_class.__name__, (before, connection_class), {})


def hardened(pool: Any) -> Any:
    """The same ``pool`` (of redis.asyncio, before its first connection)."""
    pool.connection_class = _hardened(pool.connection_class)
    return pool
