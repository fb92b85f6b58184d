"""What runs the jobs of a channel, and how each of its handlers is treated; resolved once when a worker starts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import getattr_static, iscoroutinefunction
from typing import TYPE_CHECKING, Any, Protocol

from channels.consumer import AsyncConsumer, SyncConsumer, get_handler_name
from channels.routing import ChannelNameRouter, ProtocolTypeRouter, get_default_application
from django.conf import settings

from .exceptions import RetryingError
from .policy import RetryPolicy
from .slot import InstanceSlot, Slot

if TYPE_CHECKING:
    from .lane import Lane

Application = Callable[
    [dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
]


SYNC_DISPATCH = getattr_static(SyncConsumer, "dispatch")
CHANNELS_DISPATCH = (getattr_static(AsyncConsumer, "dispatch"), SYNC_DISPATCH)


class NoRoute(RetryingError):
    """The routers have no application for the channel."""


class NoHandler(RetryingError):
    """Nothing here may run messages of that type."""


@dataclass(frozen=True, slots=True)
class Handler:
    """How a message is run: its policy, and whether its handler can be cancelled (a sync one can't)."""

    policy: RetryPolicy
    cancellable: bool


class Route(Protocol):
    """What runs the messages of one channel."""

    channel: str
    #: Told when the worker starts, "" when there is nothing to tell.
    remark: str

    def handler(self, message_type: str) -> Handler:
        """How messages of that type are run. Raises NoHandler: the job is quarantined with these words."""

    def slot(self, lane: Lane) -> Slot:
        """A new slot of ``lane``, to run them."""


class ApplicationRoute:
    """The ASGI application runs them: consumers, behind the routers.

    ``consumer``: the class there, None when middleware or a plain ASGI application hides it: then the channel's policy
    applies to every message. Raises NoRoute.
    """

    def __init__(self, application: Any, channel: str, policy: RetryPolicy) -> None:
        self.application: Application = application
        self.channel = channel
        self.policy = policy
        self.consumer = _consumer_class(application, channel)
        #: Its handlers are sync functions, and each runs in one piece in a thread.
        self.is_sync = getattr_static(self.consumer, "dispatch", None) is SYNC_DISPATCH
        self.remark = ""
        if self.consumer is None:
            self.remark = f"the consumer of {channel} is hidden by middleware: the channel's retry policy applies"
        self._handlers: dict[str, Handler] = {}

    def slot(self, lane: Lane) -> Slot:
        return InstanceSlot(lane, self)

    def handler(self, message_type: str) -> Handler:
        found = self._handlers.get(message_type)
        if found is None:
            method = None if self.consumer is None else self._method(message_type)
            sync = getattr(self.consumer, "_sync", False)
            found = Handler(
                getattr(method, "retry_policy", self.policy),
                not sync or (method is not None and iscoroutinefunction(method)),
            )
            if method is not None:  # only names that exist: a sender must not fill the memory with others
                self._handlers[message_type] = found
        return found

    def lacks(self, message_type: str) -> bool:
        """Whether the consumer class is known, dispatches as Channels does, and has no method for that type."""
        if self.consumer is None or self._method(message_type) is not None:
            return False
        return getattr_static(self.consumer, "dispatch") in CHANNELS_DISPATCH

    def _method(self, message_type: str) -> Any:
        try:
            return getattr(self.consumer, get_handler_name({"type": message_type}), None)
        except ValueError:  # a leading underscore
            return None


def project_application() -> Any:
    """What ``ASGI_APPLICATION`` names; None when the settings have none: a project with tasks only needs none.

    Raises what loading it raises.
    """
    return get_default_application() if getattr(settings, "ASGI_APPLICATION", None) else None


def _consumer_class(application: Any, channel: str) -> type[AsyncConsumer] | None:
    """Follow the routers and middleware (``.inner``) down to the consumer class. Raises NoRoute."""
    if application is None:
        raise NoRoute(f"nothing can run {channel!r}: it is no channel of TASKS, and there is no ASGI_APPLICATION")
    while True:
        if isinstance(application, ProtocolTypeRouter):
            if "channel" not in application.application_mapping:
                raise NoRoute(
                    f'the ASGI application has no "channel" entry in its ProtocolTypeRouter: nothing can run '
                    f'jobs of {channel!r}. Add "channel": ChannelNameRouter({{"{channel}": YourConsumer.as_asgi()}})'
                )
            application = application.application_mapping["channel"]
        elif isinstance(application, ChannelNameRouter):
            if channel not in application.application_mapping:
                known = ", ".join(sorted(application.application_mapping)) or "none"
                raise NoRoute(f"ChannelNameRouter has no application for {channel!r}; it has: {known}")
            application = application.application_mapping[channel]
        elif isinstance(consumer := getattr(application, "consumer_class", None), type):
            return consumer
        elif (inner := getattr(application, "inner", None)) is not None:
            application = inner
        else:
            return None
