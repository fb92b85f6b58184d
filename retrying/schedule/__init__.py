"""Periodic work: every slot of a schedule becomes one job, with any number of workers. See docs/schedules.md."""

from __future__ import annotations

from .actions import (
    Status,
    apause,
    aresume,
    arun,
    astatuses,
    pause,
    resume,
    run,
    statuses,
)
from .declaration import periodic, scheduled_for
from .timing import CatchUp

__all__ = [
    # Declaring
    "CatchUp",
    "periodic",
    "scheduled_for",
    # Looking, and acting on one
    "Status",
    "apause",
    "aresume",
    "arun",
    "astatuses",
    "pause",
    "resume",
    "run",
    "statuses",
]
