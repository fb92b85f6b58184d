"""Act on many jobs of one channel, named one by one: each function sync, and async with an ``a`` before its name.

One request for each BATCH of them. What has moved on meanwhile is left alone: each function says of every job in which
state it is now (None: there is no such job).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .job import State
from .jobs import CANCELLED_ON_REQUEST
from .layers import get_layer
from .operations import Steps, ask, awaitable, blocking

__all__ = [
    "BATCH",
    "Redrives",
    "acancel_many",
    "apurge_many",
    "aredrive_many",
    "aretry_now_many",
    "cancel_many",
    "purge_many",
    "redrive_many",
    "retry_now_many",
]

#: Jobs in one request: a few milliseconds of the server's time at most.
BATCH = 40


@blocking
def cancel_many(
    channel: str, ids: Sequence[str], reason: str = CANCELLED_ON_REQUEST, *, using: str = "default"
) -> Steps[list[State | None]]:
    """Cancel jobs. CANCELLED, or RUNNING when its handler was asked to stop."""
    states: list[State | None] = []
    for batch in _batches(ids):
        states += yield from ask(get_layer(using).store.cancel_many(channel, batch, reason))
    return states


acancel_many = awaitable(cancel_many)


@blocking
def retry_now_many(channel: str, ids: Sequence[str], *, using: str = "default") -> Steps[list[State | None]]:
    """Make scheduled jobs ready at once."""
    states: list[State | None] = []
    for batch in _batches(ids):
        states += yield from ask(get_layer(using).store.retry_now_many(channel, batch))
    return states


aretry_now_many = awaitable(retry_now_many)


@dataclass(frozen=True, slots=True)
class Redrives:
    """``held``: ids of those that stay dead because another job holds their unique name. ``due``: see redrive_many."""

    states: list[State | None]
    held: list[str]
    due: str


@blocking
def redrive_many(
    channel: str, ids: Sequence[str], *, rate: float | None = None, due: str = "", using: str = "default"
) -> Steps[Redrives]:
    """Make dead letters ready again; with a ``rate`` (jobs per second) scheduled one after the other.

    ``due``: what the call before returned, so that these start after those.
    """
    found = Redrives([], [], due)
    for batch in _batches(ids):
        pace = None if rate is None else 1000 / rate
        due, answers = yield from ask(get_layer(using).store.redrive_many(channel, batch, pace=pace, due=found.due))
        held = [id for id, (_, other) in zip(batch, answers, strict=True) if other]
        found = Redrives(found.states + [state for state, _ in answers], found.held + held, due)
    return found


aredrive_many = awaitable(redrive_many)


@blocking
def purge_many(
    channel: str, ids: Sequence[str], state: State | None = None, *, using: str = "default"
) -> Steps[list[State | None]]:
    """Forget those that ended in ``state`` (None: that ended). For each the state that keeps it; None: it is gone."""
    states: list[State | None] = []
    for batch in _batches(ids):
        states += yield from ask(get_layer(using).store.purge_many(channel, batch, state))
    return states


apurge_many = awaitable(purge_many)


def _batches(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[first : first + BATCH] for first in range(0, len(ids), BATCH)]
