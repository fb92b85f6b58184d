"""Which schedules a project has: handlers of the consumers behind its routers, and tasks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from channels.routing import get_default_application

from ..conf import get_settings
from ..exceptions import InvalidSchedule
from ..joblayer import JobLayer
from ..jobs import routed
from ..layers import get_layer
from ..routes import ApplicationRoute
from ..store.calls import NewJob
from .declaration import Periodic, Schedule


def declared(application: Any = None, *, using: str = "default") -> dict[str, Schedule]:
    """By name, the schedules of an ASGI application's consumers (None: ASGI_APPLICATION) and of the project's tasks.

    Raises InvalidSchedule when two have the same name, and what loading the application raises.
    """
    application = application or get_default_application()
    layer = get_layer(using)
    found: dict[str, Schedule] = {}
    for schedule in _of_consumers(application, layer):
        if (other := found.get(schedule.name)) is not None:
            raise InvalidSchedule(
                f"two schedules are named {schedule.name!r}, on the channels {other.channel!r} and "
                f"{schedule.channel!r}: give one of them another name="
            )
        found[schedule.name] = schedule
    return dict(sorted(found.items()))


def _of_consumers(application: Any, layer: JobLayer) -> Iterator[Schedule]:
    for channel in routed(application):
        consumer = ApplicationRoute(application, channel, get_settings().channel(channel).policy).consumer
        for method in dir(consumer) if consumer is not None else ():
            periodic = getattr(getattr(consumer, method, None), "periodic", None)
            if isinstance(periodic, Periodic):
                payload = layer.encode({"type": method})
                yield _schedule(periodic, channel, payload)


def _schedule(periodic: Periodic, channel: str, payload: bytes) -> Schedule:
    return Schedule(
        name=periodic.name,
        channel=channel,
        timing=periodic.timing,
        make=lambda id: NewJob(id=id, payload=payload),
    )
