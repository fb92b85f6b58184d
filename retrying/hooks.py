"""Observers of jobs: tracing and error trackers. They see, and decide nothing; one that fails is logged, no more.

Without any, a job costs one look at an empty list.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from .attempt import Attempt, End, Ending

logger = logging.getLogger("retrying.hooks")

#: Where a message carries what observers gave it along; handlers never see it.
CARRIED = "retrying.carried"


class Observer(Protocol):
    """What an observer may be told; see ``observe``."""

    def sending(self, channel: str, job_id: str, message_type: str) -> dict[str, str]:
        """A job is about to be stored: what is to come along with it to ``began``, headers as of HTTP."""

    def began(self, attempt: Attempt) -> Callable[[Ending], object] | None:
        """In the context of the handler, just before it: context variables set here are seen by it.
        ``attempt.carried`` is what came along. What is returned is called there when the handler has ended;
        ``attempt.error`` is what it raised, if it did."""


#: Told in this order; of the process.
observers: list[Observer] = []


def observe(observer: Observer) -> None:
    """Tell ``observer`` of every job from here on. To be called once, in settings or in an ``AppConfig.ready()``."""
    if observer not in observers:
        observers.append(observer)


def carrying(channel: str, job_id: str, message: dict[str, Any]) -> dict[str, Any]:
    """The message with what observers give it along."""
    carried: dict[str, str] = {}
    for observer in observers:
        try:
            carried |= observer.sending(channel, job_id, str(message.get("type", "")))
        except Exception:
            logger.exception("an observer failed job=%s channel=%s", job_id, channel)
    return {**message, CARRIED: carried} if carried else message


def began(attempt: Attempt) -> None:
    """The handler of ``attempt`` begins, in this context."""
    attempt.observed = []
    for observer in observers:
        try:
            if (end := observer.began(attempt)) is not None:
                attempt.observed.append(end)
        except Exception:
            logger.exception("an observer failed %s", attempt)


def ended(attempt: Attempt, ending: Ending) -> None:
    """The handler of ``attempt`` has ended, in this context; what was decided before counts more than ``ending``."""
    ends, attempt.observed = attempt.observed or [], None
    if attempt.settled:  # without an ending: its lease was lost, or the worker stops
        ending = attempt.ending or Ending(End.RELEASE)
    for end in reversed(ends):
        try:
            end(ending)
        except Exception:
            logger.exception("an observer failed %s", attempt)
    attempt.error = None  # it holds the frames of the handler
