"""The names of Django's tasks: Django's own from 6.0 on, those of the ``django-tasks`` backport before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    "is_only_logged",
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

#: The receivers that write Django's log live here.
_SIGNALS = "django.tasks.signals" if django.VERSION >= (6,) else "django_tasks.signals"


def is_only_logged(signal: Any, sender: object) -> bool:
    """Whether nobody but Django's own log listens to ``signal``: then it may be sent from the event loop's thread."""
    listeners, async_listeners = signal._live_receivers(sender)
    return not async_listeners and all(listener.__module__ == _SIGNALS for listener in listeners)


def told_to_log(signal: Any, sender: object, task_result: TaskResult) -> bool:
    """Send ``signal`` if it ``is_only_logged``, else return False; without what ``send_robust`` costs beside."""
    listeners, async_listeners = signal._live_receivers(sender)
    if async_listeners:
        return False
    for listener in listeners:
        if listener.__module__ != _SIGNALS:
            return False
    for listener in listeners:
        listener(signal=signal, sender=sender, task_result=task_result)
    return True
