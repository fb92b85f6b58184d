"""The end of an attempt, told to the store (successes travel with the next claim) and to the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from .attempt import Attempt, End, Ending
from .store import Store
from .store.calls import Burial, Call, Lease, Result, Retry, Settled

logger = logging.getLogger("retrying.jobs")

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
    if answer is Settled.LOST:
        logger.warning("refused: the lease had been given away end=%s %s", ending.end, attempt)
    elif ending.end is End.SUCCESS:
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("succeeded %s seconds=%.3f", attempt, time.monotonic() - attempt.started)
    elif due is None and answer is Settled.DONE:
        logger.error("dead or cancelled instead of tried again %s error=%r", attempt, ending.error[:MAX_LOGGED])
    elif ending.end is End.RETRY:
        retry = f"{attempt.failures + 1} of {attempt.policy.max_retries}"
        logger.info("retrying %s retry=%s delay=%.1f error=%r", attempt, retry, ending.delay, ending.error[:MAX_LOGGED])
    elif ending.end is End.SNOOZE:
        logger.info("snoozed %s delay=%.1f", attempt, ending.delay)
    elif ending.end is End.BURIAL:
        logger.error("dead %s reason=%r error=%r", attempt, ending.reason, ending.error[:MAX_LOGGED])
    elif ending.end is End.DISCARD:
        logger.info("cancelled %s reason=%r", attempt, ending.reason)
    else:
        logger.info("released %s", attempt)
