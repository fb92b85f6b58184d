"""A ``TaskResult`` is a view of a job: made here from the fields of its hash."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ..exceptions import WorkerVanished
from ..job import State, from_ms
from .compat import Task, TaskError, TaskResult, TaskResultStatus
from .message import TaskMessage

STATUSES = {
    State.SCHEDULED: TaskResultStatus.READY,
    State.READY: TaskResultStatus.READY,
    State.RUNNING: TaskResultStatus.RUNNING,
    State.SUCCEEDED: TaskResultStatus.SUCCESSFUL,
    State.DEAD: TaskResultStatus.FAILED,
    State.CANCELLED: TaskResultStatus.FAILED,
    State.EXPIRED: TaskResultStatus.FAILED,
}
#: Jobs that ended without an attempt that failed, told as what would have ended them so.
REASONS = {State.DEAD: "Bury", State.CANCELLED: "Discard", State.EXPIRED: "Discard"}


def new_result(task: Task, result_id: str, message: TaskMessage) -> TaskResult:
    """Of a task that is about to be enqueued."""
    result: TaskResult = TaskResult(
        task=task,
        id=result_id,
        status=TaskResultStatus.READY,
        enqueued_at=None,
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=[],
        kwargs={},
        backend=message.backend,
        errors=[],
        worker_ids=[],
    )
    change(result, args=message.args, kwargs=message.kwargs)  # which Django would copy, to see that they are JSON
    return result


def change(result: TaskResult, **fields: Any) -> None:
    """Results are frozen for those who get them; as in Django's own backends, whoever makes one fills it in."""
    for name, value in fields.items():
        object.__setattr__(result, name, value)


def fill(result: TaskResult, fields: Mapping[str, bytes], value: Any) -> None:
    """Fill in what the store knows of the job; ``value``: what the task returned."""
    words = {name: text.decode(errors="replace") for name, text in fields.items() if name not in ("payload", "result")}
    state = State(words["state"])
    attempts = int(words.get("attempt") or 0)
    workers = [words.get(f"worker:{n}", "") for n in range(1, attempts)] + [words.get("worker", "")][: min(attempts, 1)]
    errors = [_error(words[f"error:{n}"], workers[n - 1]) for n in range(1, attempts + 1) if f"error:{n}" in words]
    if state in REASONS and f"error:{attempts}" not in words:
        path = f"retrying.exceptions.{REASONS[state]}"
        errors.append(TaskError(exception_class_path=path, traceback=f"{path}: {words.get('reason', '')}\n"))
    change(
        result,
        status=STATUSES[state],
        enqueued_at=_time(words, "created"),
        started_at=_time(words, "first") or _time(words, "started"),
        last_attempted_at=_time(words, "started"),
        finished_at=_time(words, "finished"),
        errors=errors,
        worker_ids=workers,
        _return_value=value,
    )


def error_of(trace: str) -> TaskError:
    """From what attempt.trace_of makes."""
    path, _, traceback = trace.partition("\n")
    return TaskError(exception_class_path=path, traceback=traceback)


def _error(trace: str, worker: str) -> TaskError:
    if trace:
        return error_of(trace)
    path = f"{WorkerVanished.__module__}.{WorkerVanished.__qualname__}"
    return TaskError(exception_class_path=path, traceback=f"{path}: {WorkerVanished.__doc__} Worker: {worker}\n")


def _time(words: Mapping[str, str], name: str) -> datetime | None:
    return from_ms(int(words[name])) if words.get(name) else None
