"""Which schedules a project has: handlers of the consumers behind its routers, and tasks."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature
from itertools import chain
from typing import TYPE_CHECKING, Any

import django
from django.apps import apps
from msgspec.structs import replace

from ..conf import get_settings
from ..exceptions import InvalidSchedule
from ..joblayer import JobLayer
from ..jobs import routed
from ..layers import get_layer
from ..routes import ApplicationRoute, project_application
from ..store.calls import NewJob
from .declaration import Periodic, Schedule

if TYPE_CHECKING:
    from ..backends import RetryingBackend
    from ..backends.compat import Task


def declared(application: Any = None, *, using: str = "default") -> dict[str, Schedule]:
    """By name, the schedules of an ASGI application's consumers (None: ASGI_APPLICATION) and of the project's tasks.

    Raises InvalidSchedule (two have the same name, a task that needs arguments), and what importing these modules
    raises.
    """
    application = application or project_application()
    found: dict[str, Schedule] = {}
    for schedule in chain(_of_consumers(application, get_layer(using)), _of_tasks(using)):
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
                yield _of_handler(periodic, channel, layer.encode({"type": method}))


def _of_handler(periodic: Periodic, channel: str, payload: bytes) -> Schedule:
    def make(id: str) -> NewJob:
        return NewJob(id=id, payload=payload)

    return Schedule(name=periodic.name, channel=channel, timing=periodic.timing, make=make)


def _of_tasks(using: str) -> Iterator[Schedule]:
    if django.VERSION < (6,) and not apps.is_installed("django_tasks"):
        return
    from ..backends import RetryingBackend
    from ..backends.compat import task_backends
    from ..backends.registry import tasks

    ours = {backend.alias: backend for backend in task_backends.all() if isinstance(backend, RetryingBackend)}
    for task in tasks().values() if ours else ():
        periodic = getattr(task.func, "periodic", None)
        backend = ours.get(task.backend)
        if isinstance(periodic, Periodic) and backend is not None and using == backend.config.LAYER:
            yield _of_task(periodic, task, backend)


def _of_task(periodic: Periodic, task: Task[..., Any], backend: RetryingBackend) -> Schedule:
    try:
        signature(task.func).bind(*([None] if task.takes_context else []))
    except TypeError as error:
        raise InvalidSchedule(
            f"{task.module_path} has @periodic, so it is called without arguments: {error}; give them defaults"
        ) from None

    def make(id: str) -> NewJob:
        new = backend.prepare(task, [], {})
        return replace(new.job, id=f"{id}@{new.channel}")  # as the backend's own ids, by which results are found

    channel = backend.prepare(task, [], {}).channel
    return Schedule(name=periodic.name, channel=channel, timing=periodic.timing, make=make)
