"""A consumer for background channels that the worker calls directly.

    class ReportWorker(BackgroundConsumer):
        @retry(max_retries=8)
        async def report_make(self, message):
            ...

It is routed like every consumer. ``runworker`` calls its handlers without Channels' general dispatch in between, a
third of what a short job costs there. Behind middleware, and under plain Channels, it is an ASGI application like
others.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from channels.consumer import AsyncConsumer, get_handler_name
from channels.exceptions import StopConsumer
from channels.layers import get_channel_layer
from django.db import close_old_connections

from .attempt import SUCCESS, Ending
from .threads import aclose_old_connections

if TYPE_CHECKING:
    from .attempt import Attempt
    from .threads import SlotThread

Send = Callable[[Any], Any]


class BackgroundConsumer(AsyncConsumer):
    """Runs the messages of its channels: each by the method that is named like its type, ``async def`` or ``def``.

    A ``def`` method runs in a thread, and may use the database. An instance runs one message at a time, and goes when a
    handler raised. It has no channel of its own, so it joins no groups; a background channel in a group gets a job from
    ``group_send``. There is no client to ``send`` to.
    """

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Any], send: Send) -> None:
        self.open(scope, send)
        try:
            while True:
                await self.dispatch(await receive())
        except StopConsumer:
            pass

    def open(self, scope: dict[str, Any], send: Send) -> None:
        """Before the first message."""
        self.scope = scope
        self.base_send = send
        self.channel_layer = get_channel_layer(self.channel_layer_alias)

    async def dispatch(self, message: dict[str, Any]) -> None:
        handler = self.handler(message)
        if handler is None:
            raise ValueError(f"{type(self).__qualname__} has no handler for type {message['type']!r}")
        if iscoroutinefunction(handler):
            await aclose_old_connections()
            await handler(message)
        else:
            await _in_thread(handler, message)

    @classmethod
    def names_handler(cls, name: str) -> bool:
        """Whether a method of that name is there to handle messages: what every consumer has is not."""
        return not hasattr(BackgroundConsumer, name) and callable(getattr(cls, name, None))

    def handler(self, message: dict[str, Any]) -> Callable[[dict[str, Any]], Any] | None:
        """The method for a message, None when there is none. Raises ValueError when it has no proper type."""
        name = get_handler_name(message)
        return getattr(self, name) if self.names_handler(name) else None


def call_sync(handler: Callable[[dict[str, Any]], Any], message: dict[str, Any]) -> None:
    """Call a ``def`` handler. Raises TypeError when it wants to be awaited."""
    if isawaitable(result := handler(message)):
        close = getattr(result, "close", None)
        if close is not None:
            close()
        raise TypeError(f"{handler!r} returned something to await: declare it as async def")


@sync_to_async
def _in_thread(handler: Callable[[dict[str, Any]], Any], message: dict[str, Any]) -> None:
    close_old_connections()
    try:
        call_sync(handler, message)
    finally:
        close_old_connections()


class ConsumerRunner:
    """Runs one slot's messages with an instance of the consumer; another one after a handler raised."""

    def __init__(self, make: Callable[[], BackgroundConsumer]) -> None:
        """``make`` gives a new instance, open."""
        self._make = make
        self._consumer: BackgroundConsumer | None = None

    async def run(self, attempt: Attempt, message: dict[str, Any], thread: SlotThread) -> Ending:
        if thread.connected:
            await thread.begin_job()
        try:
            await self._handler(message)(message)
        except StopConsumer:
            self._consumer = None
        except BaseException:
            self._consumer = None
            raise
        finally:
            if thread.used:
                await thread.end_job()
        if attempt.settled:  # it swallowed its cancellation: no more messages for this instance
            self._consumer = None
        return SUCCESS

    def run_in_thread(self, attempt: Attempt, message: dict[str, Any]) -> Ending:
        try:
            call_sync(self._handler(message), message)
        except StopConsumer:
            self._consumer = None
        except BaseException:
            self._consumer = None
            raise
        return SUCCESS

    def _handler(self, message: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
        if self._consumer is None:
            self._consumer = self._make()
        handler: Callable[[dict[str, Any]], Any] = getattr(self._consumer, get_handler_name(message))
        return handler
