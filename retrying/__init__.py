"""Background work for Django Channels that is not lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .exceptions import (
    Bury,
    Discard,
    InvalidJob,
    InvalidPolicy,
    InvalidSchedule,
    LeaseLost,
    NotUnique,
    RetryingError,
    RetryLater,
    Snooze,
    StoreFull,
    StoreUnavailable,
)
from .job import Counts, Job, State, WorkerInfo
from .policy import RetryPolicy, retry

if TYPE_CHECKING:
    from .bulk import EnqueuedMany, aenqueue_many, enqueue_many
    from .context import CurrentJob, current_job
    from .producer import aenqueue, enqueue
    from .schedule.declaration import periodic

__all__ = [
    # Sending work
    "EnqueuedMany",
    "aenqueue",
    "aenqueue_many",
    "enqueue",
    "enqueue_many",
    # Handling it
    "CurrentJob",
    "RetryPolicy",
    "current_job",
    "periodic",
    "retry",
    # How an attempt ends
    "Bury",
    "Discard",
    "RetryLater",
    "Snooze",
    # What the store knows
    "Counts",
    "Job",
    "State",
    "WorkerInfo",
    # Errors
    "InvalidJob",
    "InvalidPolicy",
    "InvalidSchedule",
    "LeaseLost",
    "NotUnique",
    "RetryingError",
    "StoreFull",
    "StoreUnavailable",
]

_LATER = {
    "CurrentJob": "context",
    "EnqueuedMany": "bulk",
    "aenqueue": "producer",
    "aenqueue_many": "bulk",
    "current_job": "context",
    "enqueue": "producer",
    "enqueue_many": "bulk",
    "periodic": "schedule.declaration",
}


def __getattr__(name: str) -> Any:
    # These need Django's settings, which may not be there yet when an app is imported: loaded on first use.
    if name in _LATER:
        from importlib import import_module

        found = globals()[name] = getattr(import_module(f".{_LATER[name]}", __name__), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
