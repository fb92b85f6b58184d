"""One attempt: a job leased to this worker, and how it ends."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from traceback import format_exception
from types import MappingProxyType
from typing import TYPE_CHECKING

from .exceptions import Discard, Snooze
from .job import Job, State
from .policy import Exponential, GiveUp, RetryPolicy, decide, seconds
from .redact import redact_text
from .store.calls import Claimed, Lease

if TYPE_CHECKING:
    from .context import CurrentJob
    from .reports import Reports
    from .slot import Slot

logger = logging.getLogger("retrying.worker")

#: Longest error text and longest traceback that are stored, in characters.
MAX_ERROR = 4096
MAX_TRACEBACK = 16384
#: Random numbers for jitter; no secret depends on them.
_rng = random.Random()


class End(StrEnum):
    """How an attempt ends."""

    SUCCESS = "success"
    RETRY = "retry"
    SNOOZE = "snooze"
    BURIAL = "burial"
    DISCARD = "discard"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ends."""

    end: End
    #: Seconds; of retries and snoozes.
    delay: float = 0.0
    reason: str = ""
    error: str = ""
    #: See ``trace_of``.
    trace: str = ""
    #: Of a success: what the handler returned, encoded, and seconds to keep it (0: not at all).
    result: bytes = b""
    keep: float = 0.0

    @property
    def is_final(self) -> bool:
        """Whether the job has ended with it."""
        return self.end in (End.SUCCESS, End.BURIAL, End.DISCARD)


#: Its result is nothing to keep.
SUCCESS = Ending(End.SUCCESS)


class Attempt:
    """A job in the hands of this worker."""

    # What most attempts never change stands here: it costs them nothing.

    #: Where its handler runs; None when it never got that far.
    slot: Slot | None = None
    #: What its handler gets from ``current_job()``; None while it hasn't asked.
    current: CurrentJob | None = None
    #: What its handler says; None while it has said nothing.
    reports: Reports | None = None
    #: By the monotonic clock; the job's deadline ends its attempts too. None: no limit.
    timeout_at: float | None = None
    #: Why the handler should stop; "" while it should not.
    stop_reason = ""
    #: How it ends is decided: what its handler does from here on is ignored.
    settled = False
    #: That decision; None as long as there is none, and when the lease was lost.
    ending: Ending | None = None
    #: The handler is no longer running.
    ended = False
    #: The store knows of the end (or has given the lease away).
    told = False
    #: Its lease could not be renewed in time, so it was stopped here.
    unrenewed = False
    #: What observers gave its message along, what they want to be told of its end, and what its handler raised: see
    #: hooks.
    carried: Mapping[str, str] = MappingProxyType({})
    observed: list[Callable[[Ending], object]] | None = None
    error: BaseException | None = None

    def __init__(
        self,
        channel: str,
        claimed: Claimed,
        token: str,
        *,
        message_type: str,
        policy: RetryPolicy,
        cancellable: bool,
        worker: str,
        lease_until: float,
    ) -> None:
        """``lease_until``: by this process' monotonic clock, counted from before the claim was sent."""
        self.channel = channel
        self.job = claimed
        self.lease = Lease(claimed.id, token)
        self.message_type = message_type
        self.policy = policy
        self.cancellable = cancellable
        self.worker = worker
        self.started = time.monotonic()
        self.lease_until = lease_until
        if policy.deadline is not None:
            left = max(0.0, policy.deadline - claimed.age / 1000)
            self.timeout_at = self.started + (left if policy.timeout is None else min(left, policy.timeout))
        elif policy.timeout is not None:
            self.timeout_at = self.started + policy.timeout

    @property
    def number(self) -> int:
        return self.job.attempt

    @property
    def failures(self) -> int:
        """Of the attempts before."""
        return self.job.failures

    def seconds_left(self) -> float | None:
        """Until the timeout; None without one."""
        return None if self.timeout_at is None else self.timeout_at - time.monotonic()

    def view(self) -> Job:
        """The job as backoff functions get it."""
        return Job(
            id=self.lease.job_id,
            channel=self.channel,
            state=State.RUNNING,
            attempt=self.number,
            failures=self.failures,
            rescues=self.job.rescues,
            releases=self.job.releases,
            max_retries=self.policy.max_retries,
            priority=self.job.priority,
            worker=self.worker,
            topic=self.job.topic or None,
        )

    def __str__(self) -> str:
        return f"job={self.lease.job_id} channel={self.channel} attempt={self.number}"


def ending_of(attempt: Attempt, error: BaseException | None) -> Ending:
    """How ``attempt`` ends, given what its handler raised (None: it returned). Never raises."""
    if error is None:
        return SUCCESS
    if attempt.observed is not None and attempt.error is None:
        attempt.error = error
    if attempt.stop_reason.startswith("cancel"):
        return Ending(End.DISCARD, reason=attempt.stop_reason, error=error_text(error), trace=trace_of(error))
    try:
        if isinstance(error, Discard):
            return Ending(End.DISCARD, reason=stored_text(error.reason), trace=trace_of(error))
        if isinstance(error, Snooze):
            return Ending(End.SNOOZE, delay=seconds(error.delay, name="Snooze.delay"))
        decision = decide(attempt.policy, error, attempt.view(), _rng)
        reason = stored_text(decision.reason) if isinstance(decision, GiveUp) else ""
    except Exception:  # a backoff function or predicate that raises, a retry_after that is no number
        logger.exception("the retry policy failed, the default backoff applies %s", attempt)
        limit = attempt.policy.max_retries
        if limit is not None and attempt.failures >= limit:
            return Ending(End.BURIAL, reason="no attempts left", error=error_text(error), trace=trace_of(error))
        delay = Exponential().jittered(attempt.failures + 1, _rng)
        return Ending(End.RETRY, delay, error=error_text(error), trace=trace_of(error))
    if isinstance(decision, GiveUp):
        return Ending(End.BURIAL, reason=reason, error=error_text(error), trace=trace_of(error))
    return Ending(End.RETRY, decision.delay, error=error_text(error), trace=trace_of(error))


def error_text(error: BaseException) -> str:
    """``Class: message`` without secrets, cut with a marker when longer than MAX_ERROR characters."""
    try:
        return stored_text(f"{type(error).__qualname__}: {error}")
    except Exception:
        return f"{type(error).__qualname__} (its message can't be printed)"


def stored_text(said: object) -> str:
    """What a handler said, without secrets, cut with a marker when longer than MAX_ERROR characters."""
    text = str(said)
    cut = len(text) - MAX_ERROR
    text = encodable(redact_text(text[:MAX_ERROR]))  # cut first: to look through 50 MiB would hold up the event loop
    return f"{text}... [{cut} more characters cut]" if cut > 0 else text


def encodable(text: str) -> str:
    """``text`` with lone surrogates, which UTF-8 can't carry, spelled out: a file name that isn't UTF-8 has some."""
    return text.encode(errors="backslashreplace").decode()


def trace_of(error: BaseException) -> str:
    """The path of the exception's class, a line break, and its traceback, whose beginning is cut when it is long."""
    kind = type(error)
    try:
        text = "".join(format_exception(error))
    except Exception:
        text = f"{kind.__qualname__} (its traceback can't be printed)\n"
    if len(text) > MAX_TRACEBACK:
        text = f"[{len(text) - MAX_TRACEBACK} characters cut]...{text[-MAX_TRACEBACK:]}"
    return f"{kind.__module__}.{kind.__qualname__}\n{encodable(text)}"
