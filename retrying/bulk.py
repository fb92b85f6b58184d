"""Sending a lot of work: ``enqueue_many`` and ``aenqueue_many``, in constant memory, with backpressure and resume."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterable, Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Unpack

from . import producer
from .exceptions import InvalidJob, StoreUnavailable
from .joblayer import JobLayer
from .layers import get_layer
from .message import JobOptions, check_channel, new_job
from .store.calls import Call, NewJob, Piece
from .store.outbox import MAX_BYTES, MAX_JOBS

#: Seconds between two looks while too much waits: from the first to the second, doubled each time.
PAUSES = (0.05, 1.0)
#: Room is left for ":<index>", and for what a task's job id ends with.
BATCH_NAME = re.compile(r"[a-zA-Z\d\-_.]{1,80}")

Item = dict[str, Any] | tuple[dict[str, Any], JobOptions]
#: What the sending of pieces asks for, one after another: seconds to wait, and then a request to run.
Steps = Generator[tuple[float, Call[Piece]], Piece, None]


@dataclass(frozen=True, slots=True)
class EnqueuedMany:
    """``stored``: items that became jobs by this call; ``known``: items whose job was there before (also by a request
    of this call that was sent again because its reply was lost)."""

    stored: int
    known: int


def enqueue_many(
    channel: str,
    items: Iterable[Item],
    *,
    batch: str | None = None,
    max_backlog: int | None = None,
    using: str = "default",
    **options: Unpack[JobOptions],
) -> EnqueuedMany:
    """Store a job for each of ``items``, in pieces of at most 500 jobs or 512 KiB: memory stays constant.

    ``items``: any iterable (a queryset's ``iterator()``) of messages, or of pairs of a message and its own options,
    which go over ``options``; see ``enqueue`` and JobOptions.
    ``batch``: a name (1-80 of A-Z a-z 0-9 - _ .) for these very items, in this very order. Called again with it after a
    crash, items that are stored are passed over, for a week since the last one; job ids are ``<batch>:<index>``.
    ``max_backlog``: most jobs that may wait (ready or scheduled) in the channel. While there are as many, it waits, and
    looks again after 0.05 s, then later, once a second at last. With it a ``capacity`` of the layer is waited for too.

    Raises InvalidJob naming the index of an item that can't be stored, ChannelFull, StoreFull, StoreUnavailable, and
    what ``items`` raises. The items before are stored then (those of the last request perhaps, with the last three: a
    note of the error tells how many); with ``batch`` the next call goes on behind them.
    """
    layer = get_layer(using)
    return send_many(
        Pieces(layer, channel, _preparer(layer, channel, options), batch=batch, max_backlog=max_backlog), items
    )


async def aenqueue_many(
    channel: str,
    items: Iterable[Item] | AsyncIterable[Item],
    *,
    batch: str | None = None,
    max_backlog: int | None = None,
    using: str = "default",
    **options: Unpack[JobOptions],
) -> EnqueuedMany:
    """``enqueue_many`` for async code; ``items`` may be async (a queryset's ``aiterator()``)."""
    layer = get_layer(using)
    return await asend_many(
        Pieces(layer, channel, _preparer(layer, channel, options), batch=batch, max_backlog=max_backlog), items
    )


def _preparer(layer: JobLayer, channel: str, options: JobOptions) -> Callable[[Item, str | None], NewJob]:
    check_channel(channel)
    if options.get("job_id") is not None:
        raise InvalidJob("job_id names one job: pass it with its item, as (message, {'job_id': ...})")
    new_job(b"", max_bytes=0, **options)  # they are right for all, or nothing is begun

    def job_of(item: Item, job_id: str | None) -> NewJob:
        message, own = item if isinstance(item, tuple) and len(item) == 2 else (item, JobOptions())
        if not isinstance(own, dict):
            raise InvalidJob(f"an item is a message or (message, options), got options of {type(own).__name__}")
        if job_id is not None:
            if own.get("job_id") is not None:
                raise InvalidJob("a batch makes the job ids itself: pass batch or job_id")
            own = {**own, "job_id": job_id}
        return producer.prepare(layer, channel, message, {**options, **own})

    return job_of


def check_batch(batch: object) -> None:
    if batch is not None and (not isinstance(batch, str) or not BATCH_NAME.fullmatch(batch)):
        raise InvalidJob(f"batch takes a name of 1-80 of A-Z a-z 0-9 - _ ., got {batch!r:.200}")


def check_backlog(most: object) -> None:
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise InvalidJob(f"max_backlog takes a whole number >= 1, got {most!r}")


class Pieces:
    """Jobs on their way to the store, a piece at a time."""

    def __init__(
        self,
        layer: JobLayer,
        channel: str,
        prepare: Callable[[Any, str | None], NewJob],
        *,
        batch: str | None,
        max_backlog: int | None,
        invalid: type[Exception] = InvalidJob,
    ) -> None:
        """``prepare``: makes the job of an item, with the id that its batch gives it. ``invalid``: what is raised for a
        bad item. Raises InvalidJob."""
        check_batch(batch)
        check_backlog(max_backlog)
        if max_backlog is not None:
            max_backlog = min(max_backlog, layer.capacity_of(channel) or max_backlog)
        self.layer = layer
        self._channel = channel
        self._prepare = prepare
        self._invalid = invalid
        self._batch = batch
        self._max_backlog = max_backlog
        self._jobs: list[NewJob] = []
        self._bytes = 0
        #: Items seen; items handed to the store, the batch's that it had before included, and the number of those.
        self._index = self._sent = self._skip = 0
        self.stored = self.known = 0
        self._waiting = 0

    def begin(self) -> Steps:
        """Learn where to go on, and how much waits."""
        found = yield 0.0, self._call([])
        self._waiting = found.waiting
        if self._batch is not None:
            self._skip = self._sent = found.stored

    def add(self, item: Any) -> bool:
        """Take one item; True when a piece is full."""
        index, self._index = self._index, self._index + 1
        if index < self._skip:
            self.known += 1
            return False
        try:
            job = self._prepare(item, None if self._batch is None else f"{self._batch}:{index}")
        except (ValueError, TypeError, self._invalid) as error:
            raise self._invalid(f"item {index} (the items before it are stored): {error}") from error
        self._jobs.append(job)
        self._bytes += len(job.payload)
        return len(self._jobs) >= MAX_JOBS or self._bytes >= MAX_BYTES

    def flush(self) -> Steps:
        """Store what was added, waiting while too much of the channel waits."""
        jobs, self._jobs, self._bytes = self._jobs, [], 0
        pause = PAUSES[0]
        while jobs:
            room = len(jobs) if self._max_backlog is None else self._max_backlog - self._waiting
            # A few at a time would cost a request each.
            if self._max_backlog is not None and room < min(len(jobs), max(1, self._max_backlog // 10)):
                self._waiting = (yield pause, self._call([])).waiting
                pause = min(2 * pause, PAUSES[1])
                continue
            piece, jobs = jobs[:room], jobs[room:]
            found = yield 0.0, self._call(piece)
            if found.stored < self._sent:
                raise StoreUnavailable(
                    f"the job store lost items of batch {self._batch!r}: of {self._sent} it has {found.stored}. "
                    "Call enqueue_many again with the same batch: it goes on there"
                )
            self._sent += len(piece)
            self.stored += found.new
            self.known += found.known
            self._waiting, pause = found.waiting, PAUSES[0]

    def _call(self, jobs: list[NewJob]) -> Call[Piece]:
        first = self._sent if jobs else 0
        return self.layer.enqueue_piece_call(self._channel, jobs, self._batch, first)

    def explain(self, error: Exception) -> None:
        """Tell what is stored."""
        error.add_note(f"enqueue_many({self._channel!r}): {self.stored} items were stored, {self.known} known before")

    @property
    def result(self) -> EnqueuedMany:
        return EnqueuedMany(self.stored, self.known)


def send_many(pieces: Pieces, items: Iterable[Any]) -> EnqueuedMany:
    """Store all ``items``; blocks."""

    def drive(steps: Steps) -> None:
        with contextlib.suppress(StopIteration):
            pause, call = next(steps)
            while True:
                time.sleep(pause)
                pause, call = steps.send(pieces.layer.store.run(call))

    drive(pieces.begin())
    try:
        for item in items:
            if pieces.add(item):
                drive(pieces.flush())
        drive(pieces.flush())
    except Exception as error:
        drive(pieces.flush())  # the items before the one that failed
        pieces.explain(error)
        raise
    return pieces.result


async def asend_many(pieces: Pieces, items: Iterable[Any] | AsyncIterable[Any]) -> EnqueuedMany:
    """``send_many`` for async code."""

    async def drive(steps: Steps) -> None:
        with contextlib.suppress(StopIteration):
            pause, call = next(steps)
            while True:
                await asyncio.sleep(pause)
                pause, call = steps.send(await pieces.layer.arun(call))

    await drive(pieces.begin())
    try:
        if isinstance(items, AsyncIterable):
            async for item in items:
                if pieces.add(item):
                    await drive(pieces.flush())
        else:
            for item in items:
                if pieces.add(item):
                    await drive(pieces.flush())
        await drive(pieces.flush())
    except Exception as error:
        await drive(pieces.flush())
        pieces.explain(error)
        raise
    return pieces.result
