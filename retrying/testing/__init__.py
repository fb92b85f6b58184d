"""For the tests of projects that use this package. See docs/testing.md.

With pytest the fixtures of the same names come by themselves; with other test runners use ``isolated`` around a test,
and these functions in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clock import advance
    from .isolation import JobStore, isolated
    from .queues import DeadLetter, assert_enqueued, dead_letters, enqueued
    from .running import Ran, StillBusy, arun_until_idle, run_until_idle
    from .server import EmbeddedServer

__all__ = [
    # Where jobs are
    "EmbeddedServer",
    "JobStore",
    "isolated",
    # What happens
    "Ran",
    "StillBusy",
    "advance",
    "arun_until_idle",
    "run_until_idle",
    # What is there
    "DeadLetter",
    "assert_enqueued",
    "dead_letters",
    "enqueued",
]

_MODULES = {
    "EmbeddedServer": "server",
    "JobStore": "isolation",
    "isolated": "isolation",
    "Ran": "running",
    "StillBusy": "running",
    "advance": "clock",
    "arun_until_idle": "running",
    "run_until_idle": "running",
    "DeadLetter": "queues",
    "assert_enqueued": "queues",
    "dead_letters": "queues",
    "enqueued": "queues",
}


def __getattr__(name: str) -> Any:
    # pytest imports this package in every project that has it installed, before there are settings: it stays light.
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
