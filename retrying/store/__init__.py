"""The job store: every transition of a job is one script on the server, built here and run sync or async.

Knows neither Django nor Channels. Times that come in are ms or seconds as named; the server's clock is the only clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from msgspec.structs import replace
from redis import exceptions as errors
from redis.exceptions import RedisError

from ..exceptions import RetryingError, StoreFull, StoreUnavailable
from ..job import Counts, Job, State, WorkerInfo
from . import calls
from .calls import (
    Burial,
    Call,
    Claim,
    Cursor,
    Enqueued,
    ErrorGroups,
    Inspected,
    Lease,
    Look,
    Looks,
    Match,
    NewJob,
    Page,
    Piece,
    Position,
    Purged,
    Redriven,
    Renewed,
    Result,
    Retry,
    ScheduleLook,
    ScheduleState,
    Seen,
    Settled,
    Slice,
    Swept,
)
from .connections import Connections
from .keys import Keys
from .outbox import Outbox
from .scripts import script
from .throttle import Throttle
from .topic import parse_ends, parse_slice
from .wire import Begun, Kept, Stale

__all__ = ["Limits", "Store"]

logger = logging.getLogger("retrying.store")

T = TypeVar("T")

#: Tries of one request, and seconds between them (each with jitter): short, because callers wait.
TRIES = 3
PAUSE = 0.1
#: Tries while a cluster moves the channel's slot to another node: it answers, and will be done in a moment.
MOVING_TRIES = 60
MOVING = (errors.TryAgainError, errors.AskError)  # MovedError is an AskError
#: Seconds for which a schedule is remembered that no worker looks at: the longest downtime that can be caught up with.
SCHEDULE_KEEP = 100 * 86400.0
#: Channels that are remembered as being in use, and seconds after which a process that sends to one says so again.
MAX_CHANNELS = 1000
REMEMBER_SECONDS = 3600.0
#: Jobs that one request looks at when it lists those that match; and when it lists all.
MAX_LOOK = 1000
LOOK = 150
#: Seconds for which it is remembered how many items of a batch are stored.
BATCH_KEEP = 7 * 86400.0
#: Seconds for which alerts are remembered when no worker looks.
ALERTS_KEEP = 86400.0
#: Seconds for which a worker can be told something.
TOLD_KEEP = 3600.0
#: Errors that tell of the server's condition, not of the request: it may be repeated. redis-py has classes for some,
#: ClusterError for CLUSTERDOWN and MASTERDOWN; of the rest the text begins with the code.
PASSING_ERRORS = (errors.ConnectionError, errors.TimeoutError, errors.ReadOnlyError, errors.ClusterError)
PASSING = ("BUSY ", "MISCONF", "NOREPLICAS", "UNBLOCKED")


_NO_RESULTS: Mapping[Lease, Result] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the scripts are told of the settings; times in seconds."""

    lease: float = 30.0
    sweep: float = 5.0
    dedup: float = 300.0
    dead_keep: float = 30 * 86400.0
    max_rescues: int = 3
    topic_events: int = 1000
    topic_ttl: float = 86400.0


def ms(seconds: float) -> int:
    return round(seconds * 1000)


class _Tries:
    """Of a request that failed: whether it is sent again, when, and what."""

    def __init__(self, call: Call[Any]) -> None:
        self._call = call
        self._moved = self._failed = 0
        self._stale = self._forgotten = False

    def after(self, error: RedisError) -> float:
        """Seconds to wait before the next try. Raises what is to be said of ``error`` when it was the last one."""
        self._forgotten = isinstance(error, errors.NoScriptError)
        if self._forgotten:
            return 0.0
        if isinstance(error, Stale) and not self._stale:
            self._stale = True
            return 0.0
        if isinstance(error, MOVING) or type(error) is errors.ClusterError:  # the latter: sent to and fro between nodes
            self._moved += 1
            last = self._moved >= MOVING_TRIES
        else:
            self._failed += 1
            last = self._failed >= TRIES or not _passes(error)
        if last:
            raise _translate(error) from error
        return PAUSE * random.uniform(1, 2)

    def request(self) -> tuple[calls.Arg, ...]:
        call = self._call
        began = self._moved or self._failed or self._stale
        args = call.repeat_args if began and call.repeat_args is not None else call.args
        script = ("EVAL", call.script.text) if self._forgotten else ("EVALSHA", call.script.sha)
        return (*script, len(call.keys), *call.keys, *args)


def _request(call: Call[Any]) -> tuple[calls.Arg, ...]:
    return ("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)


def _passes(error: RedisError) -> bool:
    if isinstance(error, (*PASSING_ERRORS, *MOVING)):
        return True
    return isinstance(error, errors.ResponseError) and str(error).startswith(PASSING)


def _translate(error: RedisError) -> Exception:
    if isinstance(error, errors.OutOfMemoryError) or str(error).startswith("OOM"):
        return StoreFull()
    if str(error).startswith("MISCONF"):
        return StoreUnavailable(f"the job store refuses to write, it can't write its file: {error}")
    if _passes(error):
        return StoreUnavailable(f"the job store did not answer: {error}")
    return error


class Store:
    """Jobs and topics on one server.

    ``host``: see Connections. ``prefix``: of every key; must not begin with a channel layer's own prefix.
    Every method makes a Call; ``run`` and ``arun`` send it. Both raise StoreUnavailable and StoreFull.
    """

    def __init__(self, host: Mapping[str, Any], *, prefix: str = "retrying:asgi", limits: Limits | None = None) -> None:
        self.connections = Connections(host)
        self.prefix = prefix
        self.limits = limits or Limits()
        # Words of requests; as text, which is packed in less time than a number.
        self._topics = (str(self.limits.topic_events), str(ms(self.limits.topic_ttl)))
        self._dedup = str(ms(self.limits.dedup))
        self._keys: dict[str, Keys] = {}
        self._outboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Outbox]] = (
            weakref.WeakKeyDictionary()
        )
        #: Channel -> when this process last told the store that it is in use, by the monotonic clock.
        self._remembered: dict[str, float] = {}

    def keys(self, channel: str) -> Keys:
        found = self._keys.get(channel)
        if found is None:
            found = self._keys[channel] = Keys.of(self.prefix, channel)
        return found

    # Running calls

    def run(self, call: Call[T]) -> T:
        """Send ``call`` on the process' sync connections; blocks."""
        answer = self._run(call)
        if call.then is not None:
            with contextlib.suppress(RetryingError, RedisError):
                self._run(call.then)
        return answer

    async def arun(self, call: Call[T]) -> T:
        """Send ``call`` on the running event loop's connections."""
        answer = await self._arun(call)
        if call.then is not None:
            with contextlib.suppress(RetryingError, RedisError):
                await self._arun(call.then)
        return answer

    def begin(self, call: Call[T]) -> Begun | None:
        """Send ``call``: an event loop awaits its reply, for ``call.parse``. None: ``run`` it, which is to be done when
        that fails, too."""
        try:
            wire = self.connections.wire()
            if call.then is None and isinstance(wire, Kept):
                return wire.begin(*_request(call))
        except RedisError:
            pass
        return None

    def _run(self, call: Call[T]) -> T:
        try:
            return call.parse(self.connections.wire().ask(*_request(call)))
        except RedisError as error:
            failure = error
        tries = _Tries(call)
        while True:
            pause = tries.after(failure)
            if isinstance(failure, errors.ReadOnlyError):
                self.connections.reconnect()
            if pause:
                time.sleep(pause)
            try:
                return call.parse(self.connections.wire().ask(*tries.request()))
            except RedisError as error:
                failure = error

    async def _arun(self, call: Call[T]) -> T:
        wire = self.connections.async_wire()
        try:
            return call.parse(await wire.ask(*_request(call)))
        except RedisError as error:
            failure = error
        tries = _Tries(call)
        while True:
            pause = tries.after(failure)
            if isinstance(failure, errors.ReadOnlyError):
                await self.connections.areconnect()
            if pause:
                await asyncio.sleep(pause)
            try:
                return call.parse(await wire.ask(*tries.request()))
            except RedisError as error:
                failure = error

    # Producers

    def enqueue(self, channel: str, jobs: Sequence[NewJob], *, capacity: int | None = None) -> Call[list[Enqueued]]:
        """Store ``jobs``, all or none; an empty list comes back when ``capacity`` (jobs waiting) would be exceeded."""
        return self._enqueue(channel, jobs, capacity, "", calls.enqueued_parser(jobs))

    def enqueue_each(
        self, channel: str, jobs: Sequence[NewJob], *, capacity: int | None = None
    ) -> Call[list[Enqueued | None]]:
        """Store ``jobs``, each by itself; None for each that would exceed ``capacity``."""
        return self._enqueue(channel, jobs, capacity, "each", calls.enqueued_parser(jobs))

    def enqueue_one(self, channel: str, job: NewJob, *, capacity: int | None = None) -> Call[Enqueued | None]:
        """Store ``job``; None when ``capacity`` would be exceeded."""
        return self._enqueue(channel, (job,), capacity, "each", calls.one_parser(job))

    def send(self, channel: str, job: NewJob, *, capacity: int | None = None) -> Coroutine[Any, Any, Enqueued | None]:
        """Store ``job``, together with those that others of the running event loop send meanwhile; None when
        ``capacity`` would be exceeded."""
        loop = asyncio.get_running_loop()
        outboxes = self._outboxes.get(loop)
        if outboxes is None:
            outboxes = self._outboxes[loop] = {}
        outbox = outboxes.get(channel)
        if outbox is None:
            outbox = outboxes[channel] = Outbox(self, channel)
        return outbox.put(job, capacity)

    def enqueue_piece(
        self, channel: str, jobs: Sequence[NewJob], *, batch: str | None, first: int, capacity: int | None = None
    ) -> Call[Piece]:
        """Store a piece of many jobs, all or none; an empty list comes back when ``capacity`` would be exceeded.

        ``batch``: its name, under which the server counts the items that are stored; ``first``: items before these. No
        jobs: only look. Nothing is done when fewer than ``first`` are stored: the server lost some.
        """
        piece = f"{batch or '-'} {first} {ms(BATCH_KEEP)}"
        return self._enqueue(channel, jobs, capacity, piece, calls.parse_piece)

    def _enqueue(
        self, channel: str, jobs: Sequence[NewJob], capacity: int | None, mode: str, parse: Callable[[Any], T]
    ) -> Call[T]:
        args: list[calls.Arg] = ["" if capacity is None else capacity, self._dedup, mode]
        for job in jobs:
            args += job.args()
        return self._sending(channel, self._call("enqueue", channel, parse, *args))

    def _sending(self, channel: str, call: Call[T]) -> Call[T]:
        if time.monotonic() - self._remembered.get(channel, -math.inf) > REMEMBER_SECONDS:
            return replace(call, then=self.remember(channel))
        return call

    # Channels

    def remember(self, channel: str) -> Call[bool]:
        """Tell that ``channel`` is in use; True when it is new."""

        def parse(reply: int) -> bool:
            if len(self._remembered) >= MAX_CHANNELS:
                self._remembered.clear()
            self._remembered[channel] = time.monotonic()
            return bool(reply)

        return Call(script("remember"), (self._channels,), (0, 0, channel, MAX_CHANNELS), parse)

    def channels(self) -> Call[list[str]]:
        """Channels that are sent to or consumed, those heard of last first; at most MAX_CHANNELS."""
        return Call(script("channels"), (self._channels,), (0, 0), lambda reply: [calls.text(name) for name in reply])

    @property
    def _channels(self) -> str:
        return f"{self.prefix}:channels"

    # Workers

    def claim(
        self,
        channel: str,
        worker: str,
        token: str,
        *,
        wanted: int,
        succeeded: Sequence[Lease] = (),
        results: Mapping[Lease, Result] = _NO_RESULTS,
        keep: int = 0,
        limit: int | None = None,
        throttle: Throttle | None = None,
        repeated: bool = False,
    ) -> Call[Claim]:
        """End the attempts that ``succeeded`` and lease up to ``wanted`` jobs under ``token`` (new and random).

        ``results``: of those that returned something to keep; of the others only a tombstone stays.
        ``limit``: most jobs of the channel that may run at once, over all workers. ``throttle``: its rates and limits
        per key.
        ``repeated``: this very claim was sent before and its reply may have been lost.
        """
        ends: list[calls.Arg] = [self._dedup, keep, "" if limit is None else limit]
        kept = (
            [(number, *results[lease]) for number, lease in enumerate(succeeded, 1) if lease in results]
            if results
            else []
        )
        ends += ["" if throttle is None else throttle.words(), " ".join(chain.from_iterable(succeeded)), len(kept)]
        ends += chain.from_iterable(kept)
        begin: list[calls.Arg] = [worker, token, ms(self.limits.lease), wanted]
        return self._call(
            "claim",
            channel,
            calls.parse_claim,
            *begin,
            "1" if repeated else "",
            *ends,
            repeat_args=(*begin, "1", *ends),
        )

    def retry(self, channel: str, retries: Sequence[Retry]) -> Call[list[tuple[Settled, int | None]]]:
        """End attempts that are tried again later; with each result comes the due time in ms."""
        args: list[calls.Arg] = []
        for lease, delay, charged, error, limit, deadline, trace, name in retries:
            args += [*lease, delay, "failures" if charged else "snoozes", error, trace]
            args += ["" if value is None else value for value in (limit, deadline, name)]
        return self._call("retry", channel, calls.parse_retried, len(retries), *args)

    def release(self, channel: str, leases: Sequence[Lease]) -> Call[list[Settled]]:
        """Give leased jobs back uncharged."""
        return self._call(
            "release", channel, calls.parse_settled, len(leases), *(part for lease in leases for part in lease)
        )

    def bury(self, channel: str, burials: Sequence[Burial]) -> Call[list[Settled]]:
        """End attempts whose job becomes a dead letter."""
        args: list[calls.Arg] = []
        for lease, reason, error, limit, trace, name in burials:
            args += [*lease, reason, error, trace, "" if limit is None else limit, name]
        return self._call("bury", channel, calls.parse_settled, len(burials), *args)

    def discard(self, channel: str, lease: Lease, reason: str, trace: str = "") -> Call[list[Settled]]:
        """End an attempt whose job is cancelled."""
        return self._call("discard", channel, calls.parse_settled, 1, *lease, reason, trace)

    def renew(self, channel: str, leases: Sequence[Lease]) -> Call[list[Renewed]]:
        """Prolong leases."""
        args = (part for lease in leases for part in lease)
        return self._call("renew", channel, calls.parse_renewed, ms(self.limits.lease), len(leases), *args)

    def sweep(self, channel: str, worker: str, *, keep: int = 0, facts: str = "") -> Call[Swept]:
        """Promote, rescue and purge a bounded number of jobs, and tell that ``worker`` lives, and (``facts``) how."""
        limits = self.limits
        return self._call(
            "sweep", channel, calls.parse_swept,
            worker, ms(limits.sweep), limits.max_rescues, ms(limits.dead_keep), keep, ms(limits.lease), facts,
        )  # fmt: skip

    def leave(self, channel: str, worker: str) -> Call[int]:
        """``worker`` no longer consumes ``channel``."""
        return self._call("leave", channel, int, worker)

    def emit(
        self, channel: str, lease: Lease, events: Sequence[tuple[str, Mapping[str, str | float]]], *, batch: int
    ) -> Call[bool]:
        """Put events (name, fields) of a running attempt on its job's topic; False when the lease was lost.

        ``batch``: another number for every call of the attempt, so that a repeated one is known.
        """
        args: list[calls.Arg] = [batch, len(events)]
        for name, fields in events:
            args += [name, len(fields), *(arg for field, value in fields.items() for arg in (field, str(value)))]
        return self._call("emit", channel, lambda reply: reply == 1, *lease, *args)

    # Alerts

    def alerts(self) -> Call[dict[str, int]]:
        """Alerts that are raised: ms since the epoch, by name."""
        return Call(
            script("alerts"),
            (f"{self.prefix}:alerts",),
            (0, 0),
            lambda reply: {name: int(at) for name, at in calls.pairs(reply).items()},
        )

    def turn(self, worker: str, seconds: float) -> Call[bool]:
        """Take the turn to look for alerts, for so long; False: another worker has it."""
        return Call(script("turn"), (f"{self.prefix}:turn",), (0, 0, worker, ms(seconds)), bool)

    def alarm(self, token: str, names: Sequence[str]) -> Call[tuple[list[str], list[str]]]:
        """Say which alerts there are. Returns the new ones, and those that are over. ``token``: new and random."""

        def parse(reply: list[list[bytes]]) -> tuple[list[str], list[str]]:
            new, over = reply
            return [calls.text(name) for name in new], [calls.text(name) for name in over]

        args: tuple[calls.Arg, ...] = (0, 0, token, ms(ALERTS_KEEP), len(names), *names)
        return Call(script("alarm"), (f"{self.prefix}:alerts",), args, parse)

    # People

    def cancel(self, channel: str, job_id: str, reason: str) -> Call[State | None]:
        return self._call("cancel", channel, calls.parse_state, reason, 1, job_id)

    def cancel_many(self, channel: str, ids: Sequence[str], reason: str) -> Call[list[State | None]]:
        return self._call("cancel", channel, calls.parse_states, reason, len(ids), *ids)

    def retry_now(self, channel: str, job_id: str) -> Call[State | None]:
        return self._call("retry_now", channel, calls.parse_state, 1, job_id)

    def retry_now_many(self, channel: str, ids: Sequence[str]) -> Call[list[State | None]]:
        return self._call("retry_now", channel, calls.parse_states, len(ids), *ids)

    def redrive(self, channel: str, job_id: str) -> Call[State | None]:
        return self._call("redrive", channel, calls.redrive_parser(job_id), "", "", 1, job_id)

    def redrive_many(
        self, channel: str, ids: Sequence[str], *, pace: float | None = None, due: str = ""
    ) -> Call[tuple[str, list[tuple[State | None, str]]]]:
        """Redrive these, ``pace`` ms apart. Returns when (ms) the next is due, to be passed as ``due`` with the next
        ones, and for each its state, and the job that holds its unique name."""
        spacing = "" if pace is None else f"{pace:.6f}"
        return self._call("redrive", channel, calls.parse_redrives, spacing, due, len(ids), *ids)

    def get(self, channel: str, job_id: str) -> Call[Job | None]:
        return self._call("get", channel, calls.job_parser(channel, job_id), job_id)

    def whole(self, channel: str, job_id: str) -> Call[dict[str, bytes]]:
        """Every field of a job, payload, result and history too; {} when it is gone, or only its tombstone is left."""
        return self._call("whole", channel, calls.parse_whole, job_id)

    def counts(self, channel: str) -> Call[Counts]:
        return self._call("counts", channel, calls.parse_counts)

    def workers(self, channel: str) -> Call[list[WorkerInfo]]:
        """Workers heard of within three sweeps."""
        return self._call("workers", channel, calls.parse_workers, ms(3 * self.limits.sweep))

    def steer(self, channel: str, worker: str, word: str) -> Call[bool]:
        """Tell ``worker`` to be "quiet", to "work" or to "stop"; False when there is no such worker."""
        return self._call("steer", channel, bool, worker, word, ms(3 * self.limits.sweep), ms(TOLD_KEEP))

    def stats(self, channel: str, *, minutes: int = 0, unit: str = "minute", count: int = 0) -> Call[Seen]:
        """All there is to know of a channel: the counters as they stood when the last ``minutes`` began, and when
        the last ``count`` minutes or hours (``unit``) began."""
        return self._call("stats", channel, calls.parse_stats, ms(3 * self.limits.sweep), minutes, unit, count)

    def search(self, channel: str, state: State, limit: int, after: Cursor | None = None) -> Call[Page]:
        """Up to ``limit`` jobs of that state, those that came last first."""
        words = ("", *[""] * 5)
        return self._call(
            "search", channel, calls.page_parser(channel), state, *(after or ("", "")), limit, MAX_LOOK, *words
        )

    def look(
        self,
        channel: str,
        state: State,
        match: Match,
        *,
        limit: int,
        after: Cursor | None = None,
        looks: int = LOOK,
        payload_bytes: int | None = None,
        brief: bool = False,
    ) -> Call[Look]:
        """Up to ``limit`` jobs of that state that match, among the next ``looks``.

        ``payload_bytes``: with their payloads, and no more jobs once these take so many bytes. ``brief``: of each only
        its state.
        """
        words = ["" if value is None else value for value in (match.older, match.newer)]
        details: calls.Arg = "-" if brief else "" if payload_bytes is None else payload_bytes
        return self._call(
            "search", channel, calls.look_parser(channel), state, *(after or ("", "")), limit, looks,
            details, match.key, match.error, match.name, *words,
        )  # fmt: skip

    def groups(self, channel: str, *, skip: int, limit: int) -> Call[ErrorGroups]:
        """Dead letters by error class and message type, those first in which one died last."""
        return self._call("groups", channel, calls.parse_groups, skip, limit)

    def inspect(self, channel: str, job_id: str) -> Call[Inspected]:
        """Everything that is kept of a job but its result; no fields when there is no such job."""
        return self._call("inspect", channel, calls.parse_inspected, job_id)

    def redrive_all(
        self, channel: str, token: str, *, wanted: int, pace: float | None = None, after: Redriven | None = None
    ) -> Call[Redriven]:
        """Redrive a bounded number of dead letters, ``pace`` ms apart. ``token``: new and random for every batch."""
        spacing = "" if pace is None else f"{pace:.6f}"
        since = ("", "", 0) if after is None else (after.before, after.due, after.left)
        return self._call("redrive_all", channel, calls.parse_redriven, token, wanted, spacing, *since)

    def purge(self, channel: str, job_id: str) -> Call[State | None]:
        return self._call("purge", channel, calls.parse_state, "", 1, job_id)

    def purge_many(self, channel: str, ids: Sequence[str], state: State | None = None) -> Call[list[State | None]]:
        """Forget those of these jobs that ended in ``state`` (None: that ended); for each the state that keeps it."""
        return self._call("purge", channel, calls.parse_states, state or "", len(ids), *ids)

    def purge_all(self, channel: str, state: State, *, age: int, after: Purged | None = None) -> Call[Purged]:
        """Forget a bounded number of jobs that ended in ``state`` at least ``age`` ms ago."""
        since: tuple[str | int, int] = ("", 0) if after is None else (after.before, after.skip)
        return self._call("purge_all", channel, calls.parse_purged, state, age, *since)

    def pause(self, channel: str) -> Call[bool]:
        return self._call("pause", channel, bool)

    def resume(self, channel: str) -> Call[bool]:
        return self._call("resume", channel, bool)

    def paused(self, channel: str) -> Call[float | None]:
        """Seconds since the channel was paused; None when it isn't."""
        return self._call("paused", channel, lambda reply: None if reply < 0 else reply / 1000)

    # Schedules

    def slots(self, channel: str, looks: Sequence[ScheduleLook]) -> Call[Looks]:
        """Look at schedules of ``channel``, and make jobs of their slots; times that are not due yet are left alone."""
        args: list[calls.Arg] = []
        for name, line, slots in looks:
            args += [name, line, len(slots)]
            for slot in slots:
                args += slot.args()
        return self._call("slot", channel, calls.parse_looks, ms(SCHEDULE_KEEP), len(looks), *args)

    def schedule(self, channel: str, name: str) -> Call[ScheduleState]:
        return self._call("schedule", channel, calls.parse_schedule_state, name)

    def pause_schedule(self, channel: str, name: str) -> Call[bool]:
        return self._call("pause_schedule", channel, bool, name, ms(SCHEDULE_KEEP))

    def resume_schedule(self, channel: str, name: str) -> Call[bool]:
        return self._call("resume_schedule", channel, bool, name)

    # Topics

    def read_topic(self, channel: str, topic: str, after: Position | None, limit: int) -> Call[Slice]:
        """Up to ``limit`` events of ``topic`` after a position (None: all that the log holds)."""
        position: tuple[str | int, str | int] = ("", "") if after is None else (after.epoch, after.offset)
        return self._call("topic", channel, parse_slice, topic, *position, limit)

    def ends(self, channel: str, topics: Sequence[str]) -> Call[list[Position]]:
        """Where the logs of these topics end, as ``read_topic`` says it: epoch 0 and offset 0 without a log."""
        return self._call("ends", channel, parse_ends, len(topics), *topics)

    def _call(
        self,
        name: str,
        channel: str,
        parse: Callable[[Any], T],
        *args: calls.Arg,
        repeat_args: tuple[calls.Arg, ...] | None = None,
    ) -> Call[T]:
        return Call(
            script(name),
            self.keys(channel).sent,
            (*self._topics, *args),
            parse,
            None if repeat_args is None else (*self._topics, *repeat_args),
        )
