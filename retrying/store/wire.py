"""How requests reach one server: on connections that stay, with little of redis-py's work for each command.

redis-py connects (TLS, passwords, Sentinel) and knows when to connect again. Its clients take a connection from their
pool, look whether it still lives and give it back, for every command; here a thread keeps what it used, and an event
loop has one connection on which requests go out as they come. Nothing is sent twice here: the store decides that.

What is used of a connection isn't public: what is costs 2 microseconds a request more, in an event loop 10, and lets
only one request at a time be on its way there. ``direct`` tells whether a redis-py has it; where it hasn't, its client
serves.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from socket import SO_RCVTIMEO, SO_SNDTIMEO, SOL_SOCKET
from ssl import SSLSocket
from typing import Any, Protocol

import hiredis
from redis.connection import SSLConnection
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import InvalidResponse, RedisError
from redis.exceptions import TimeoutError as NoReply

from .calls import Arg

_MORE = object()
MSG_DONTWAIT = getattr(socket, "MSG_DONTWAIT", 0)  # not on Windows
READ_BYTES = 65536
#: Turns of an event loop in which a reply is looked for, before the loop watches for it: most are here by then, and it
#: need not sleep.
LOOKS = 20


class Stale(NotConnected):
    """A connection that had been idle was closed meanwhile: worth another try at once."""


class Wire(Protocol):
    """What a store sends its requests on."""

    def ask(self, *words: Arg) -> Any:
        """The reply to a command. Raises redis-py's errors."""


class AsyncWire(Protocol):
    async def ask(self, *words: Arg) -> Any: ...


def direct(pool: Any, uses: Sequence[str]) -> bool:
    """Whether the connections of a pool have what ``Kept`` or ``Line`` ``uses`` of them."""
    connection = pool.connection_class(**pool.connection_kwargs)  # connects when it is told to
    return hasattr(getattr(connection, "_parser", None), "parse_error") and all(
        hasattr(connection, name) for name in uses
    )


class ThroughClient:
    """A client of redis-py as a wire."""

    def __init__(self, client: Any) -> None:
        self.ask = client.execute_command


class Kept:
    """A process' connections to a server: as many as there are requests at a time, the one used last first."""

    USES = ("_sock",)

    def __init__(self, pool: Any, *, most: int, wait: float, timeout: float | None) -> None:
        """``pool``: of redis-py, makes the connections. ``most`` of them; a request waits ``wait`` seconds for one, and
        ``timeout`` for its reply (None: for ever)."""
        self._pool = pool
        self._wait = wait
        self._timeout = timeout
        self._idle: list[_Connection] = []
        self._places: SimpleQueue[None] = SimpleQueue()
        for _ in range(most):
            self._places.put(None)
        # At most half of them, so that what was begun and is awaited later keeps nobody waiting. With TLS none: it may
        # hold back what the socket doesn't show.
        self._beginnings: SimpleQueue[None] = SimpleQueue()
        if MSG_DONTWAIT and not issubclass(pool.connection_class, SSLConnection):
            for _ in range(most // 2):
                self._beginnings.put(None)

    def ask(self, *words: Arg) -> Any:
        request = hiredis.pack_command(words)  # type: ignore[arg-type]  # a union of what it takes
        connection = self._take()
        try:
            connection.send(request)
            reply = connection.reply()
            if isinstance(reply, NotConnected):
                raise reply
        except BaseException:
            connection.close()  # whatever interrupted it: what comes would answer the next request
            raise
        finally:
            self._give_back(connection)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def begin(self, *words: Arg) -> Begun | None:
        """Send a command whose reply is read by an event loop; None: it has to be asked. Raises redis-py's errors."""
        request = hiredis.pack_command(words)  # type: ignore[arg-type]
        try:
            self._beginnings.get_nowait()
        except Empty:
            return None
        try:
            connection = self._take()
        except BaseException:
            self._beginnings.put(None)
            raise
        try:
            connection.send(request)
            return Begun(connection, self._end)
        except BaseException:
            connection.close()
            self._end(connection)
            raise

    def _end(self, connection: _Connection) -> None:
        self._give_back(connection)
        self._beginnings.put(None)

    def _take(self) -> _Connection:
        try:
            self._places.get(timeout=self._wait)
        except Empty:
            raise NotConnected("no connection became free") from None
        try:
            return self._idle.pop()
        except IndexError:
            pass
        try:
            return _Connection(self._pool.make_connection(), self._timeout)
        except BaseException:
            self._places.put(None)
            raise

    def _give_back(self, connection: _Connection) -> None:
        self._idle.append(connection)  # one that was closed connects when it is used next
        self._places.put(None)


class Begun:
    """A command that a thread sends, and whose reply is read by an event loop: the server works while the caller is on
    its way there."""

    def __init__(self, connection: _Connection, end: Callable[[_Connection], None]) -> None:
        self._connection: _Connection | None = connection
        self._end = end

    async def reply(self) -> Any:
        """To be awaited once. Raises redis-py's errors."""
        connection, self._connection = self._connection, None
        assert connection is not None, "awaited before"
        looks = 1
        try:
            while (reply := connection.look()) is _MORE:
                await (asyncio.sleep(0) if looks < LOOKS else connection.readable())
                looks += 1
            if isinstance(reply, NotConnected):
                raise reply
        except BaseException:
            connection.close()  # what comes would answer the next request
            raise
        finally:
            self._end(connection)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def __del__(self) -> None:
        if (connection := self._connection) is not None:  # nobody awaited it
            connection.close()
            self._end(connection)


class _Connection:
    """One of redis-py's, whose socket is used as it is: of a short request its client is the larger part."""

    def __init__(self, connection: Any, timeout: float | None) -> None:
        self._connection = connection
        self._timeout = timeout
        self._parser = hiredis.Reader(notEnoughData=_MORE)
        self._was_open = False

    def send(self, request: bytes) -> None:
        # Not held here: a connection that is forgotten closes it, as the only one that has it.
        found: Any = self._connection._sock
        self._was_open = found is not None
        if not self._was_open:
            found = self._open()
        try:
            found.sendall(request)
        except (NotConnected, OSError) as error:
            raise self._lost(error) from error

    def reply(self) -> Any:
        """Wait for it; an exception when the server refused the request."""
        try:
            while (reply := self._parser.gets()) is _MORE or isinstance(reply, hiredis.PushNotification):
                if reply is _MORE:
                    self._read(0)
        except (NotConnected, OSError) as error:
            raise self._lost(error) from error
        return reply

    def look(self) -> Any:
        """The reply as far as it is here: _MORE when it isn't."""
        try:
            self._read(MSG_DONTWAIT)
        except BlockingIOError:
            return _MORE
        except (NotConnected, OSError) as error:
            raise self._lost(error) from error
        while isinstance(reply := self._parser.gets(), hiredis.PushNotification):
            pass
        return reply

    async def readable(self) -> None:
        """Wait for more."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        try:
            # Another one, of the same: it tells when a thread closes the connection, where a closed one says nothing.
            with self._socket().dup() as watched:
                loop.add_reader(watched, readable.set)
                try:
                    async with asyncio.timeout(self._timeout):
                        await readable.wait()
                finally:
                    loop.remove_reader(watched)
                    watched.setblocking(True)  # uvloop made it non-blocking, and with it the one that it is of
        except (NotConnected, OSError) as error:
            raise self._lost(error) from error

    def close(self) -> None:
        self._connection.disconnect()

    def _socket(self) -> Any:
        found = self._connection._sock
        if found is None:
            raise NotConnected("it was closed by this process")
        return found

    def _read(self, flags: int) -> None:
        data = self._socket().recv(READ_BYTES, flags)
        if not data:
            raise NotConnected("the server closed it")
        self._parser.feed(data)

    def _lost(self, error: Exception) -> RedisError:
        """End the connection: what comes would answer the next request. Returns what to raise."""
        self.close()
        if isinstance(error, (TimeoutError, BlockingIOError)):
            return NoReply("no reply in time")
        kind = Stale if self._was_open else NotConnected
        return kind(f"the connection was lost: {error}")

    def _open(self) -> Any:
        """Connect. Returns the socket. What it raises may have left it open, without having said who we are."""
        self._connection.connect()
        found = self._connection._sock
        self._parser = hiredis.Reader(
            protocolError=InvalidResponse, replyError=self._connection._parser.parse_error, notEnoughData=_MORE
        )
        if self._timeout is not None and MSG_DONTWAIT and not isinstance(found, SSLSocket):
            # The kernel's own timeouts: Python's cost a poll before each send and receive. (Windows has other units.)
            found.settimeout(None)
            seconds, fraction = divmod(self._timeout, 1)
            limit = struct.pack("@ll", int(seconds), int(fraction * 1e6) or (1 if not seconds else 0))
            found.setsockopt(SOL_SOCKET, SO_RCVTIMEO, limit)
            found.setsockopt(SOL_SOCKET, SO_SNDTIMEO, limit)
        return found


class Line:
    """The connection of an event loop: requests go out as they come, replies come back in that order."""

    USES = ("_reader", "_writer")

    def __init__(self, pool: Any, *, timeout: float | None) -> None:
        """``pool``: of redis.asyncio, gives the connection. ``timeout``: seconds until a reply; None: for ever."""
        self._pool = pool
        self._timeout = timeout
        self._connecting = asyncio.Lock()
        self._replies: _Replies | None = None

    async def ask(self, *words: Arg) -> Any:
        replies = self._replies
        if replies is None or replies.closed:
            replies = await self._connect()
        return await replies.to(hiredis.pack_command(words))  # type: ignore[arg-type]

    async def _connect(self) -> _Replies:
        async with self._connecting:
            if self._replies is not None:
                if not self._replies.closed:
                    return self._replies
                await self._drop()
            self._replies = _Replies(await self._pool.get_connection(), self._timeout)
            return self._replies

    async def aclose(self) -> None:
        """End its connection, and with it what the server waits to reply."""
        async with self._connecting:
            await self._drop()

    async def _drop(self) -> None:
        if self._replies is not None:
            connection, self._replies = self._replies.connection, None
            try:
                await connection.disconnect()
            finally:
                await self._pool.release(connection)


class _Replies:
    """Of one connection, from its making to its end."""

    def __init__(self, connection: Any, timeout: float | None) -> None:
        self.connection = connection
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._writer: asyncio.StreamWriter = connection._writer
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._parser = hiredis.Reader(
            protocolError=InvalidResponse, replyError=connection._parser.parse_error, notEnoughData=_MORE
        )
        # What arrives goes to the futures at once: a task that awaits a stream's read would cost as much again.
        # The reader is kept, its protocol holds it weakly.
        self._reader: Any = connection._reader
        self._reader.feed_data = self._feed
        self._reader.feed_eof = lambda: self._lose(NotConnected, "the server closed the connection")
        self._reader.set_exception = lambda error: self._lose(NotConnected, f"the connection was lost: {error}")

    @property
    def closed(self) -> bool:
        return self._writer.is_closing()

    def to(self, request: bytes) -> asyncio.Future[Any]:
        """The reply to a request, which is sent now."""
        try:
            self._writer.write(request)
        except RuntimeError as error:  # how uvloop refuses a socket that the peer has reset
            self._lose(NotConnected, f"the connection was reset: {error}")
            raise NotConnected(f"the connection was reset: {error}") from error
        future = self._loop.create_future()
        self._waiting.append((future, self._loop.time()))
        if self._watch is None and self._timeout is not None:
            self._watch = self._loop.call_later(self._timeout, self._look, self._timeout)
        return future

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
            while (reply := self._parser.gets()) is not _MORE:
                if isinstance(reply, hiredis.PushNotification):
                    continue
                future, _ = self._waiting.popleft()
                if future.done():
                    continue  # nobody waits any more
                if isinstance(reply, Exception):
                    future.set_exception(reply)
                    if isinstance(reply, NotConnected):  # not authenticated, say: only a new one may be
                        self._lose(NotConnected, str(reply))
                        return
                else:
                    future.set_result(reply)
        except (InvalidResponse, IndexError) as error:  # no reply, or one that nobody asked for
            self._lose(NotConnected, f"the server sent what isn't a reply: {error!r}")

    def _look(self, timeout: float) -> None:
        """End the connection when the oldest request had no reply in time; one timer serves all."""
        self._watch = None
        if self._waiting:
            due = self._waiting[0][1] + timeout
            if due <= self._loop.time():
                self._lose(NoReply, f"no reply within {timeout:g} s")
            else:
                self._watch = self._loop.call_at(due, self._look, timeout)

    def _lose(self, kind: type[RedisError], what: str) -> None:
        self._writer.transport.abort()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        waiting, self._waiting = self._waiting, deque()
        for future, _ in waiting:
            if not future.done():
                future.set_exception(kind(what))  # one each: an exception grows a traceback where it is raised
