"""The names of Django's tasks: Django's own from 6.0 on, those of the ``django-tasks`` backport before."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType

import django

__all__ = [
    "BaseTaskBackend",
    "InvalidTask",
    "InvalidTaskBackend",
    "Task",
    "TaskContext",
    "TaskError",
    "TaskResult",
    "TaskResultDoesNotExist",
    "TaskResultStatus",
    "is_heard",
    "normalize_json",
    "task_backends",
    "task_enqueued",
    "task_finished",
    "task_started",
    "told_to_log",
]

if TYPE_CHECKING or django.VERSION >= (6,):
    from django.tasks import TaskContext, TaskResult, TaskResultStatus, task_backends
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import Task, TaskError
    from django.tasks.exceptions import InvalidTask, InvalidTaskBackend, TaskResultDoesNotExist
    from django.tasks.signals import task_enqueued, task_finished, task_started
    from django.utils.json import normalize_json
else:
    from django_tasks import TaskContext, TaskResult, TaskResultStatus, task_backends
    from django_tasks.backends.base import BaseTaskBackend
    from django_tasks.base import Task, TaskError
    from django_tasks.exceptions import InvalidTaskBackendError as InvalidTaskBackend
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
    from django_tasks.exceptions import TaskResultDoesNotExist
    from django_tasks.signals import task_enqueued, task_finished, task_started
    from django_tasks.utils import normalize_json

#: Where the receivers that write Django's log live, which is also that log's name, but for "signals".
_SIGNALS = "django.tasks.signals" if django.VERSION >= (6,) else "django_tasks.signals"
_LOG = logging.getLogger(_SIGNALS.removesuffix(".signals"))


def _loggers(signal: Any) -> list[Any] | None:
    """The receivers of ``signal`` where nobody but Django's own log listens, else None."""
    found = []
    for _, receiver, *_ in signal.receivers:
        listener = receiver() if isinstance(receiver, ReferenceType) else receiver
        if getattr(listener, "__module__", "") != _SIGNALS:
            return None
        found.append(listener)
    return found


def is_heard(signal: Any, level: int) -> bool:
    """Whether it matters to anybody that ``signal`` is sent. ``level``: of what Django's own log would say of it."""
    return _LOG.isEnabledFor(level) or _loggers(signal) is None


def told_to_log(signal: Any, sender: object, task_result: TaskResult) -> bool:
    """Send ``signal`` if nobody but Django's own log listens, else return False: what only writes a log may be called
    in the event loop's thread, and without what ``send_robust`` costs beside."""
    listeners = _loggers(signal)
    if listeners is None:
        return False
    for listener in listeners:
        listener(signal=signal, sender=sender, task_result=task_result)
    return True
