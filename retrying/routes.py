"""What runs the jobs of a channel, and how each of its handlers is treated; resolved once when a worker starts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import getattr_static
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from asgiref.sync import iscoroutinefunction
from channels.consumer import AsyncConsumer, SyncConsumer, get_handler_name
from channels.routing import ChannelNameRouter, ProtocolTypeRouter, get_default_application
from django.conf import settings

from .consumers import BackgroundConsumer, ConsumerRunner
from .direct import DirectSlot
from .exceptions import RetryingError
from .policy import RetryPolicy
from .slot import InstanceSlot, Slot, send_to_nobody

if TYPE_CHECKING:
    from .lane import Lane

Application = Callable[
    [dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
]


SYNC_DISPATCH = getattr_static(SyncConsumer, "dispatch")
KNOWN_DISPATCH = (*(getattr_static(cls, "dispatch") for cls in (AsyncConsumer, BackgroundConsumer)), SYNC_DISPATCH)


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
        self._found = _find(application, channel)
        self.consumer = self._found.consumer
        #: Its handlers are sync functions, and each runs in one piece in a thread.
        self.is_sync = getattr_static(self.consumer, "dispatch", None) is SYNC_DISPATCH
        self.remark = ""
        if self.consumer is None:
            self.remark = f"the consumer of {channel} is hidden by middleware: the channel's retry policy applies"
        self._handlers: dict[str, Handler] = {}

    @property
    def is_direct(self) -> bool:
        """Whether the worker calls the consumer's handlers itself."""
        return (
            self.consumer is not None
            and issubclass(self.consumer, BackgroundConsumer)
            and not self._found.behind_middleware
            and all(
                getattr_static(self.consumer, name) is getattr_static(BackgroundConsumer, name)
                for name in ("__call__", "dispatch")
            )
        )

    def slot(self, lane: Lane) -> Slot:
        return DirectSlot(lane, ConsumerRunner(self._make)) if self.is_direct else InstanceSlot(lane, self)

    @property
    def scope(self) -> dict[str, Any]:
        return {"type": "channel", "channel": self.channel}

    def _make(self) -> BackgroundConsumer:
        assert self.consumer is not None
        made: BackgroundConsumer = self.consumer(**self._found.arguments)
        made.open(self.scope, send_to_nobody)
        return made

    def handler(self, message_type: str) -> Handler:
        found = self._handlers.get(message_type)
        if found is None:
            method = None if self.consumer is None else self._method(message_type)
            if method is None and self.is_direct:
                raise NoHandler(f"no handler for type {message_type!r}")
            in_thread = getattr(self.consumer, "_sync", False) or (method is not None and self._is_background)
            found = Handler(
                getattr(method, "retry_policy", self.policy),
                not in_thread or (method is not None and iscoroutinefunction(method)),
            )
            if method is not None:  # only names that exist: a sender must not fill the memory with others
                self._handlers[message_type] = found
        return found

    def lacks(self, message_type: str) -> bool:
        """Whether the consumer class is known, dispatches as Channels does, and has no method for that type."""
        if self.consumer is None or self._method(message_type) is not None:
            return False
        return getattr_static(self.consumer, "dispatch") in KNOWN_DISPATCH

    @property
    def _is_background(self) -> bool:
        return self.consumer is not None and issubclass(self.consumer, BackgroundConsumer)

    def _method(self, message_type: str) -> Any:
        try:
            name = get_handler_name({"type": message_type})
        except ValueError:  # a leading underscore
            return None
        if self._is_background and not self.consumer.names_handler(name):
            return None
        return getattr(self.consumer, name, None)


def project_application() -> Any:
    """What ``ASGI_APPLICATION`` names; None when the settings have none: a project with tasks only needs none.

    Raises what loading it raises.
    """
    return get_default_application() if getattr(settings, "ASGI_APPLICATION", None) else None


class _Found(NamedTuple):
    """What is at the end of the routers: the class, None when it isn't told, and what ``as_asgi`` was given."""

    consumer: Any = None
    arguments: Any = None
    behind_middleware: bool = False


def _find(application: Any, channel: str) -> _Found:
    """Follow the routers and middleware (``.inner``) down to the consumer class. Raises NoRoute."""
    behind_middleware = False
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
            return _Found(consumer, getattr(application, "consumer_initkwargs", {}), behind_middleware)
        elif (inner := getattr(application, "inner", None)) is not None:
            application, behind_middleware = inner, True
        else:
            return _Found()
