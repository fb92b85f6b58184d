"""Every exception of this package. One root; the docstring of each is its default message."""

from __future__ import annotations

from datetime import timedelta


class RetryingError(Exception):
    """Something in the retry layer went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class InvalidJob(RetryingError, ValueError):
    """The job can't be enqueued as it was given; nothing was written."""


class NotUnique(RetryingError):
    """Another job holds the unique name."""


class InvalidPolicy(RetryingError, ValueError):
    """The retry policy is not valid."""


class InvalidSchedule(RetryingError, ValueError):
    """The schedule can't be declared as it was given, or there is none of that name."""


class StoreUnavailable(RetryingError, ConnectionError):
    """The job store did not answer; the request may be repeated with the same id."""


class StoreFull(RetryingError):
    """The job store is out of memory (maxmemory) and refused the job; nothing was written."""


class LeaseLost(RetryingError):
    """The attempt's lease was given to another worker; what this attempt still reports is refused."""


class WorkerVanished(RetryingError):
    """The worker that ran this attempt vanished: it died, or was cut off from the store."""


class AttemptTimeout(RetryingError, TimeoutError):
    """The attempt took longer than its policy's timeout."""


# Raised by handlers, to say how their attempt ends.


class Outcome(Exception):
    """A handler's word on how its attempt ends; not an error of the retry layer."""


class RetryLater(Outcome):
    """Try again: a charged attempt.

    ``delay``: seconds or timedelta until the next attempt; None = what the policy's backoff says.
    """

    def __init__(self, delay: float | timedelta | None = None) -> None:
        super().__init__("retry later" if delay is None else f"retry in {delay}")
        self.delay = delay


class Snooze(Outcome):
    """Try again after ``delay`` (seconds or timedelta) without charging an attempt."""

    def __init__(self, delay: float | timedelta) -> None:
        super().__init__(f"snoozed for {delay}")
        self.delay = delay


class Bury(Outcome):
    """Make the job a dead letter now, with this reason, whatever retries are left."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Discard(Outcome):
    """End the job as cancelled now, with this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
