"""What a running handler knows of its job: ``current_job()``."""

from __future__ import annotations

import json
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from .exceptions import InvalidJob, LeaseLost
from .message import check_json

if TYPE_CHECKING:
    from .attempt import Attempt
    from .store import Store

#: Largest text of a progress report, in characters, and largest event of a handler, in bytes of JSON.
MAX_PROGRESS_TEXT = 4096
MAX_EVENT_BYTES = 16384


class CurrentJob:
    """The job that the calling handler runs, and a way to tell of it. Safe to use from threads."""

    def __init__(self, attempt: Attempt, store: Store) -> None:
        self._attempt = attempt
        self._store = store

    @property
    def id(self) -> str:
        """The same for every attempt: make effects idempotent with it."""
        return self._attempt.lease.job_id

    @property
    def channel(self) -> str:
        return self._attempt.channel

    @property
    def attempt(self) -> int:
        """1, 2, 3 ... rising with every start of the job, also after rescues: fence database rows on it."""
        return self._attempt.number

    @property
    def retries(self) -> int:
        """Attempts of this job that failed so far."""
        return self._attempt.failures

    @property
    def max_retries(self) -> int | None:
        return self._attempt.policy.max_retries

    @property
    def is_last_attempt(self) -> bool:
        """Whether a failure of this attempt makes the job a dead letter."""
        return self.max_retries is not None and self.retries >= self.max_retries

    @property
    def worker(self) -> str:
        """``host:pid:random`` of the process that runs this attempt."""
        return self._attempt.worker

    @property
    def deadline(self) -> datetime | None:
        """When this attempt times out, by this machine's clock."""
        left = self._attempt.seconds_left()
        return None if left is None else datetime.now(UTC) + timedelta(seconds=left)

    @property
    def cancelled(self) -> str:
        """Why this attempt should stop (timeout, cancel, lease lost, shutdown); "" while it should not."""
        return self._attempt.stop_reason

    def progress(self, fraction: float, text: str = "") -> None:
        """Tell how far the job is: ``fraction`` from 0 to 1. Raises LeaseLost."""
        self._say("progress", _progress(fraction, text))

    async def aprogress(self, fraction: float, text: str = "") -> None:
        await self._asay("progress", _progress(fraction, text))

    def emit(self, data: dict[str, Any]) -> None:
        """Put an event of the handler's own on the job's topic. Raises LeaseLost, InvalidJob (not JSON, too large)."""
        self._say("emit", _event(data))

    async def aemit(self, data: dict[str, Any]) -> None:
        await self._asay("emit", _event(data))

    def _say(self, name: str, fields: dict[str, str | float]) -> None:
        if not self._store.run(self._store.emit(self.channel, self._attempt.lease, name, fields)):
            raise LeaseLost

    async def _asay(self, name: str, fields: dict[str, str | float]) -> None:
        if not await self._store.arun(self._store.emit(self.channel, self._attempt.lease, name, fields)):
            raise LeaseLost


def _progress(fraction: float, text: str) -> dict[str, str | float]:
    if not 0 <= fraction <= 1:
        raise ValueError(f"progress takes a fraction from 0 to 1, got {fraction!r}")
    return {"fraction": float(fraction), "text": text[:MAX_PROGRESS_TEXT]}


def _event(data: dict[str, Any]) -> dict[str, str | float]:
    check_json(data, "event")
    encoded = json.dumps(data)
    if len(encoded) > MAX_EVENT_BYTES:
        raise InvalidJob(f"an event takes at most {MAX_EVENT_BYTES} bytes of JSON, got {len(encoded)}")
    return {"data": encoded}


#: Set for every application instance before it starts; the attempt in it changes from job to job.
current_slot: ContextVar[Any] = ContextVar("retrying_current_slot")


def current_job() -> CurrentJob:
    """The job that the calling handler runs, in async and sync handlers alike.

    Raises LookupError outside of one.
    """
    slot = current_slot.get(None)
    if slot is None or slot.current is None:
        raise LookupError("current_job() works inside a handler that runworker runs; there is no job here")
    return slot.current  # type: ignore[no-any-return]
