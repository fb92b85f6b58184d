"""Which tasks may run: those found in the ``tasks`` modules of installed apps, and those that ``ROUTES`` names.

A worker runs what the store tells it to by name; so no name outside of these is ever imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib import import_module
from pkgutil import walk_packages
from types import ModuleType
from typing import Any

from django.apps import apps
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.module_loading import import_string, module_has_submodule

from ..conf import get_settings
from .compat import InvalidTask, Task
from .message import TaskMessage


def find(path: str) -> Task | None:
    """The task of that function (``module.function``), None when there is none that may run."""
    return tasks().get(path) or _named_by_route(path)


def may_run(task: Task) -> bool:
    """Whether a worker would find the task by its function's path."""
    found = find(task.module_path)
    return found is not None and found.func is task.func


def variant(task: Task, message: TaskMessage, priority: int) -> Task:
    """``task`` as the job with that message was enqueued."""
    if (task.queue_name, task.priority, task.backend) == (message.queue, priority, message.backend):
        return task
    try:
        return replace(task, queue_name=message.queue, priority=priority, backend=message.backend)
    except InvalidTask:  # a queue that QUEUES no longer has
        return task


@cache
def tasks() -> dict[str, Task]:
    """Every task in a ``tasks`` module, by the path of its function. Raises what importing these modules raises."""
    found: dict[str, Task] = {}
    for module in _modules():
        for name, item in vars(module).items():
            # Of several tasks around one function, that which has its name.
            if isinstance(item, Task) and (item.module_path not in found or item.func.__name__ == name):
                found[item.module_path] = item
    return found


def _modules() -> Iterator[ModuleType]:
    for config in apps.get_app_configs():
        if config.module is not None and module_has_submodule(config.module, "tasks"):
            module = import_module(f"{config.name}.tasks")
            yield module
            for info in walk_packages(getattr(module, "__path__", ()), f"{module.__name__}."):
                yield import_module(info.name)


def _named_by_route(path: str) -> Task | None:
    if path not in get_settings().ROUTES:
        return None
    try:
        found = import_string(path)
    except ImportError:
        return None
    return found if isinstance(found, Task) else None


@receiver(setting_changed)
def _forget(*, setting: str, **_: Any) -> None:
    if setting in ("INSTALLED_APPS", "TASKS"):
        tasks.cache_clear()
