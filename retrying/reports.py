"""What a running handler says, on its way to the job's topic: in order, in batches, and progress thinned out.

A handler that says a thousand things a second makes two hundred round trips at most, and none of them holds it up. The
store takes a batch once, however often the request is repeated.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

from .exceptions import LeaseLost, StoreUnavailable
from .reconnect import delay

if TYPE_CHECKING:
    from .attempt import Attempt
    from .store import Store

logger = logging.getLogger("retrying.worker")

#: Seconds between two batches of one attempt; the first thing after a silence is sent at once.
BATCH_SECONDS = 0.005
#: Seconds between two progress reports of one attempt: the newest wins, and the last one is always sent.
PROGRESS_SECONDS = 0.2
#: Events, and bytes of theirs, in one batch: bounds one script's time on the server.
BATCH_EVENTS = 100
BATCH_BYTES = 256 * 1024
#: Events, and bytes of theirs, that may wait to be sent; who says more waits until there is room.
WAITING_EVENTS = 1000
WAITING_BYTES = 1024 * 1024


class Report(NamedTuple):
    """Something said: the event's name, and its fields as the store keeps them."""

    name: str
    fields: dict[str, str | float]

    @property
    def size(self) -> int:
        """Bytes of the handler's own words, which are ASCII."""
        return len(str(self.fields.get("data", "")))


class Reports:
    """The reports of one attempt. ``say`` is for any thread; the rest belongs to the worker's event loop."""

    def __init__(
        self,
        attempt: Attempt,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """``spawn`` runs a coroutine as a task of the worker."""
        self._attempt = attempt
        self._store = store
        self._loop = loop
        self._spawn = spawn
        self._lock = threading.Lock()
        self._waiting: deque[Report] = deque()
        self._bytes = 0  # of those
        self._progress: Report | None = None  # the newest, said too soon after the one before
        self._progress_due = 0.0  # when the next one may be sent, by the monotonic clock
        self._callers: list[Future[None]] = []  # who waits for room
        self._sending = False
        self._news = asyncio.Event()  # more than a progress report that is not due waits
        self._ending = asyncio.Event()
        self._sent = asyncio.Event()
        self._batch = 0
        self._lost = False

    def say(self, report: Report) -> Future[None] | None:
        """Take a report. A future: there is no room; say it again when it is done. Raises LeaseLost.

        A lost lease is known after the first batch that the store refused, or when the worker hears of it.
        """
        with self._lock:
            if self._lost or self._attempt.settled:
                raise LeaseLost
            if not self._attempt.job.topic:
                return None
            if report.name == "progress" and (time.monotonic() < self._progress_due or self._progress is not None):
                self._progress = report
            elif len(self._waiting) >= WAITING_EVENTS or self._bytes >= WAITING_BYTES:
                room: Future[None] = Future()
                self._callers.append(room)
                return room
            else:
                if report.name == "progress":
                    self._progress_due = time.monotonic() + PROGRESS_SECONDS
                self._waiting.append(report)
                self._bytes += report.size
        self._loop.call_soon_threadsafe(self._send_soon)
        return None

    async def finish(self) -> None:
        """Send what waits, the last progress too. The attempt is settled: nothing more is said."""
        with self._lock:
            self._progress_due = 0.0
        self._ending.set()
        self._send_soon()
        while self._sending:
            await self._sent.wait()

    def _send_soon(self) -> None:
        self._news.set()
        if not self._sending and (self._waiting or self._progress):
            self._sending = True
            self._sent.clear()
            self._spawn(self._send_all())

    async def _send_all(self) -> None:
        try:
            while not self._lost:
                self._news.clear()
                if batch := self._take():
                    await self._send(batch)
                    await _wait(self._ending, BATCH_SECONDS)
                elif self._progress is not None:
                    await _wait(self._news, self._progress_due - time.monotonic())
                else:
                    return
        finally:
            if self._lost:
                self._clear()
            self._sending = False
            self._sent.set()

    def _take(self) -> list[Report]:
        """The next batch, and room for as many new ones."""
        with self._lock:
            if self._progress is not None and time.monotonic() >= self._progress_due:
                self._waiting.append(self._progress)
                self._progress = None
                self._progress_due = time.monotonic() + PROGRESS_SECONDS
            batch: list[Report] = []
            size = 0
            while self._waiting and len(batch) < BATCH_EVENTS and size < BATCH_BYTES:
                batch.append(self._waiting.popleft())
                size += batch[-1].size
            self._bytes -= size
            self._let_in()
        return batch

    async def _send(self, batch: list[Report]) -> None:
        self._batch += 1
        call = self._store.emit(self._attempt.channel, self._attempt.lease, batch, batch=self._batch)
        failures = 0
        while not self._attempt.told:  # else the lease is lost, or ran out while the store was away
            try:
                self._lost = not await self._store.arun(call)
            except StoreUnavailable:  # the worker says so in its log
                await asyncio.sleep(delay(failures))
                failures += 1
            except Exception:  # a mistake, or somebody else's data under the topic's key: no reason to stop the job
                logger.exception("%d reports of a handler were not stored %s", len(batch), self._attempt)
                return
            else:
                return
        self._lost = True

    def _clear(self) -> None:
        with self._lock:
            self._waiting.clear()
            self._bytes = 0
            self._progress = None
            self._let_in()

    def _let_in(self) -> None:
        for caller in self._callers:
            if caller.set_running_or_notify_cancel():  # its handler may have been cancelled meanwhile
                caller.set_result(None)
        self._callers.clear()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until the event, ``seconds`` at most."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
