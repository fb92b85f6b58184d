"""What a running handler knows of its job: ``current_job()``."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from .exceptions import InvalidJob
from .message import check_json
from .reports import Report, Reports

if TYPE_CHECKING:
    from .attempt import Attempt
    from .lane import Lane
    from .store import Store

#: Largest text of a progress report, in characters, and largest event of a handler, in bytes of JSON.
MAX_PROGRESS_TEXT = 4096
MAX_EVENT_BYTES = 16384

_making = threading.Lock()  # a handler may report from several threads


class CurrentJob:
    """The job that the calling handler runs, and a way to tell of it. Safe to use from threads."""

    def __init__(
        self,
        attempt: Attempt,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """``loop``: the worker's; ``spawn`` runs a coroutine as a task there."""
        self._attempt = attempt
        self._store = store
        self._loop = loop
        self._spawn = spawn

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
        """Tell how far the job is: ``fraction`` from 0 to 1. Raises LeaseLost.

        Five reports a second are kept: the newest wins, and the last one is always told before the attempt ends.
        """
        self._say(_progress(fraction, text))

    async def aprogress(self, fraction: float, text: str = "") -> None:
        await self._asay(_progress(fraction, text))

    def emit(self, data: dict[str, Any]) -> None:
        """Put an event of the handler's own on the job's topic. Raises LeaseLost, InvalidJob (not JSON, too large).

        It returns before the event is stored; all that was said is stored, in order, before the attempt ends. With
        more than 1,000 events or 1 MiB waiting it blocks until there is room; in a coroutine, await ``aemit`` for that.
        """
        self._say(_event(data))

    async def aemit(self, data: dict[str, Any]) -> None:
        await self._asay(_event(data))

    def _say(self, report: Report) -> None:
        while (room := self._reports.say(report)) is not None:
            if _runs_in(self._loop):
                raise RuntimeError(
                    "1,000 reports of this job wait to be sent: in a coroutine, await aemit(), not emit()"
                )
            room.result()

    async def _asay(self, report: Report) -> None:
        while (room := self._reports.say(report)) is not None:
            await asyncio.wrap_future(room)

    @property
    def _reports(self) -> Reports:
        with _making:
            if self._attempt.reports is None:
                self._attempt.reports = Reports(self._attempt, self._store, self._loop, self._spawn)
            return self._attempt.reports


def _runs_in(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _progress(fraction: float, text: str) -> Report:
    if not 0 <= fraction <= 1:
        raise ValueError(f"progress takes a fraction from 0 to 1, got {fraction!r}")
    return Report("progress", {"fraction": float(fraction), "text": text[:MAX_PROGRESS_TEXT]})


def _event(data: dict[str, Any]) -> Report:
    check_json(data, "event")
    encoded = json.dumps(data)
    if len(encoded) > MAX_EVENT_BYTES:
        raise InvalidJob(f"an event takes at most {MAX_EVENT_BYTES} bytes of JSON, got {len(encoded)}")
    return Report("emit", {"data": encoded})


class Running:
    """What slots have in common: the attempt whose handler runs, if one does."""

    lane: Lane
    _attempt: Attempt | None = None

    @property
    def current(self) -> CurrentJob | None:
        """The job of the running handler; made when somebody asks, which most handlers don't."""
        attempt = self._attempt
        if attempt is None:
            return None
        if attempt.current is None:
            attempt.current = CurrentJob(attempt, self.lane.store, self.lane.loop, self.lane.spawn)
        return attempt.current


#: Set for every application instance before it starts; the attempt in it changes from job to job.
current_slot: ContextVar[Running] = ContextVar("retrying_current_slot")


def current_job() -> CurrentJob:
    """The job that the calling handler runs, in async and sync handlers alike.

    Raises LookupError outside of one.
    """
    slot = current_slot.get(None)
    job = None if slot is None else slot.current
    if job is None:
        raise LookupError("current_job() works inside a handler that runworker runs; there is no job here")
    return job
