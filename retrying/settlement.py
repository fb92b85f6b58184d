"""The end of an attempt, told to the store (successes travel with the next claim) and to the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from .attempt import Attempt, End, Ending
from .logs import transition, transitions
from .store import Store
from .store.calls import Burial, Call, Lease, Result, Retry, Settled

#: Longest piece of an error that goes into the log, in characters.
MAX_LOGGED = 300


def settle(store: Store, attempt: Attempt, ending: Ending) -> Call[Any]:
    """The request that ends ``attempt`` so; not for successes."""
    channel, lease, limit = attempt.channel, attempt.lease, attempt.policy.max_retries
    name = attempt.message_type
    match ending.end:
        case End.RETRY:
            deadline = attempt.policy.deadline
            last = None if deadline is None else round(deadline * 1000)
            delay = round(ending.delay * 1000)
            return store.retry(channel, [Retry(lease, delay, True, ending.error, limit, last, ending.trace, name)])
        case End.SNOOZE:
            return store.retry(channel, [Retry(lease, round(ending.delay * 1000), False, ending.error, limit)])
        case End.BURIAL:
            return store.bury(channel, [Burial(lease, ending.reason, ending.error, limit, ending.trace, name)])
        case End.DISCARD:
            return store.discard(channel, lease, ending.reason, ending.trace)
        case End.RELEASE:
            return store.release(channel, [lease])
        case End.SUCCESS:
            raise ValueError("a success is told with the next claim")


def results(attempts: Sequence[Attempt]) -> dict[Lease, Result]:
    """What succeeded attempts returned, as far as it is to be kept."""
    return {
        attempt.lease: Result(attempt.ending.result, round(attempt.ending.keep * 1000))
        for attempt in attempts
        if attempt.ending is not None and attempt.ending.keep
    }


def report(attempt: Attempt, ending: Ending, answer: Settled | tuple[Settled, int | None]) -> None:
    """One line for each end. ``answer``: what the store said; with the due time of a retry."""
    due: int | None = 0
    if isinstance(answer, tuple):
        answer, due = answer
    error, reason = ending.error[:MAX_LOGGED], ending.reason
    if answer is Settled.LOST:
        transition(logging.WARNING, "refused", attempt, end=ending.end.value, reason="the lease had been given away")
    elif ending.end is End.SUCCESS:
        if transitions.isEnabledFor(logging.DEBUG):
            transition(logging.DEBUG, "succeeded", attempt, seconds=time.monotonic() - attempt.started)
    elif due is None and answer is Settled.DONE:
        transition(logging.ERROR, "dead", attempt, reason="or cancelled, instead of tried again", error=error)
    elif ending.end is End.RETRY:
        counts = {"retry": attempt.failures + 1, "max_retries": attempt.policy.max_retries}
        transition(logging.INFO, "retrying", attempt, **counts, delay=ending.delay, error=error)
    elif ending.end is End.SNOOZE:
        transition(logging.INFO, "snoozed", attempt, delay=ending.delay)
    elif ending.end is End.BURIAL:
        transition(logging.ERROR, "dead", attempt, reason=reason, error=error)
    elif ending.end is End.DISCARD:
        transition(logging.INFO, "cancelled", attempt, reason=reason)
    else:
        transition(logging.INFO, "released", attempt)
