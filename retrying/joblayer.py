"""General channels as jobs: what both channel layers of this package share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import msgspec
from asgiref.sync import AsyncToSync
from channels.exceptions import ChannelFull
from channels_redis.serializers import registry
from channels_redis.utils import decode_hosts
from msgspec.structs import replace
from redis.exceptions import RedisError

from . import hooks
from .conf import get_settings
from .exceptions import InvalidJob
from .message import JobOptions, new_id, new_job
from .store import Store
from .store.calls import Burial, Call, Enqueued, Lease, NewJob, Piece, T
from .store.wire import Begun


class JobLayer:
    """Stores what is sent to general channels, and reads it back. Mixed into a layer of channels_redis."""

    #: The layer's CONFIG key ``channel_capacity``, compiled: pairs of a pattern and a number.
    channel_capacity: Any

    def __init__(
        self,
        hosts: Sequence[Any] | None = None,
        *,
        store: Any = None,
        prefix: str = "asgi",
        capacity: int | None = None,
        channel_capacity: Mapping[Any, int] | None = None,
        expiry: float | None = None,
        serializer_format: str = "msgpack",
        symmetric_encryption_keys: Sequence[str | bytes] | None = None,
        **options: Any,
    ) -> None:
        """What CONFIG may hold for both layers, and ``options`` of the layer of channels_redis."""
        self.open_layer(
            hosts=hosts,
            prefix=prefix,
            capacity=capacity,
            channel_capacity=channel_capacity,
            expiry=expiry,
            serializer_format=serializer_format,
            symmetric_encryption_keys=symmetric_encryption_keys,
            **options,
        )
        #: Channel -> when a bare receive() sweeps it again, by the monotonic clock.
        self._next_sweep: dict[str, float] = {}
        # None: not given, so without limit.
        self._job_capacity = capacity
        self._job_expiry = expiry
        # Without the layer's age limit on messages: a retry due in an hour must still decrypt.
        self._job_serializer = registry.get_serializer(
            serializer_format, expiry=None, symmetric_encryption_keys=symmetric_encryption_keys
        )
        self._is_msgpack = serializer_format == "msgpack" and not symmetric_encryption_keys
        self.store = Store(
            decode_hosts([store] if store else hosts)[0],
            prefix=f"retrying:{prefix}",
            limits=get_settings().limits(),
        )

    def open_layer(
        self, *, capacity: int | None, channel_capacity: Mapping[Any, int] | None, expiry: float | None, **config: Any
    ) -> None:
        """Make the layer of channels_redis that this is mixed into, of its part of CONFIG; None: not given."""
        raise NotImplementedError

    def send_job(self, channel: str, message: dict[str, Any]) -> Coroutine[Any, Any, None]:
        """Store a message as a job. Raises ChannelFull when a given capacity is reached, StoreUnavailable, StoreFull,
        InvalidJob (too large, or not serializable).

        Called where no event loop runs, as ``async_to_sync(layer.send)`` does it in a view, it sends the request at
        once, on a connection that the process keeps: the server works while the caller is on its way to the loop.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            try:
                job = self._job_of(channel, message)
                call = self.store.enqueue_one(channel, job, capacity=self.capacity_of(channel))
                begun = self.store.begin(call)
                if begun is not None:
                    return self._end_send(channel, call, begun)
                _accepted(channel, self.store.run(call))
            except Exception as error:
                return _told(error)
            return _told(None)
        return self._send_job(channel, message)

    async def _end_send(self, channel: str, call: Call[Enqueued | None], begun: Begun) -> None:
        try:
            stored = call.parse(await begun.reply())
        except RedisError:  # safe to repeat, like every request
            stored = await self.arun(call)
        _accepted(channel, stored)

    async def _send_job(self, channel: str, message: dict[str, Any]) -> None:
        await self.asend_one(channel, self._job_of(channel, message))

    def _job_of(self, channel: str, message: dict[str, Any]) -> NewJob:
        options: JobOptions = {} if self._job_expiry is None else {"expires": self._job_expiry}
        return self.job(channel, message, options, is_json=False)

    def encode(self, message: dict[str, Any]) -> bytes:
        """A job's payload. Raises InvalidJob when the layer's serializer can't take the message."""
        try:
            return self._job_serializer.serialize(message)  # type: ignore[no-any-return]
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidJob(f"the message can't be serialized: {error}") from error

    def encode_json(self, message: dict[str, Any]) -> bytes:
        """The same bytes for a message that check_json let through, in less time where the format is msgpack."""
        if self._is_msgpack:
            try:
                return msgspec.msgpack.encode(message)
            except (TypeError, ValueError, OverflowError, RecursionError):  # a subclass of a plain type, or bad
                pass
        return self.encode(message)

    def job(self, channel: str, message: dict[str, Any], options: JobOptions, *, is_json: bool = True) -> NewJob:
        """The job of a message; ``is_json``: check_json let it through. Raises InvalidJob."""
        if hooks.observers:
            job_id = options.get("job_id") or new_id()
            options = {**options, "job_id": job_id}
            message = hooks.carrying(channel, job_id, message)
        payload = self.encode_json(message) if is_json else self.encode(message)
        return new_job(payload, max_bytes=get_settings().MAX_MESSAGE_BYTES, **options)

    def decode(self, payload: bytes) -> dict[str, Any]:
        """The message of a payload. Raises ValueError when it isn't one."""
        return self.open(payload)[0]

    def open(self, payload: bytes) -> tuple[dict[str, Any], Mapping[str, str] | None]:
        """The message of a payload, and what observers gave it along. Raises ValueError when it isn't one."""
        try:
            message = self._job_serializer.deserialize(payload)
        except Exception as error:  # whatever a codec raises on foreign bytes: msgpack's, json's, Fernet's
            raise ValueError(f"{type(error).__name__}: {error}") from error
        if not isinstance(message, dict):
            raise ValueError(f"a message is a dict, got {type(message).__name__}")  # noqa: TRY004  (bad data, no bug)
        carried = message.pop(hooks.CARRIED, None)
        return message, carried if isinstance(carried, dict) else None

    def capacity_of(self, channel: str) -> int | None:
        """Most jobs that may wait in ``channel``; None = without limit."""
        for pattern, limit in self.channel_capacity:
            if pattern.match(channel):
                return int(limit)
        return self._job_capacity

    def send_one(self, channel: str, job: NewJob) -> Enqueued:
        """Store a job; blocks. Raises ChannelFull when a given capacity is reached."""
        return _accepted(
            channel, self.store.run(self.store.enqueue_one(channel, job, capacity=self.capacity_of(channel)))
        )

    async def asend_one(self, channel: str, job: NewJob) -> Enqueued:
        """``send_one`` from async code: together with what else the running event loop sends meanwhile."""
        if asyncio.get_running_loop() in AsyncToSync.loop_thread_executors:  # see arun
            return self.send_one(channel, job)
        return _accepted(channel, await self.store.send(channel, job, capacity=self.capacity_of(channel)))

    def enqueue_call(self, channel: str, jobs: Sequence[NewJob]) -> Call[list[Enqueued]]:
        """The request that stores ``jobs``; running it raises ChannelFull when a given capacity would be exceeded."""
        return _refused_when_full(channel, self.store.enqueue(channel, jobs, capacity=self.capacity_of(channel)))

    def enqueue_piece_call(self, channel: str, jobs: Sequence[NewJob], batch: str | None, first: int) -> Call[Piece]:
        """The same for a piece of many jobs; see Store.enqueue_piece."""
        capacity = self.capacity_of(channel)
        call = self.store.enqueue_piece(channel, jobs, batch=batch, first=first, capacity=capacity)
        return _refused_when_full(channel, call)

    async def arun(self, call: Call[T]) -> T:
        """Run a request from async code; from inside ``async_to_sync`` on the process' kept sync connections."""
        if asyncio.get_running_loop() in AsyncToSync.loop_thread_executors:
            # A loop made for this one call: a connection of its own would be opened and closed with it. Nothing
            # else runs in that loop, so blocking it blocks only the caller, who is waiting anyway.
            return self.store.run(call)
        return await self.store.arun(call)

    async def receive_job(self, channel: str) -> dict[str, Any]:
        """The next message of a general channel; its job counts as done when it is returned.

        Cancelled between the two, it leaves a job leased to nobody: where no worker sweeps, the next call does.
        """
        worker = f"{socket.gethostname()}:{os.getpid()}:receive"
        task = asyncio.current_task()
        assert task is not None
        cancellations = task.cancelling()
        client = self.store.connections.async_()
        limits = get_settings().channel(channel)
        while True:
            if task.cancelling() > cancellations:  # it came with a reply, and the client swallowed it
                raise asyncio.CancelledError
            await self._sweep_sometimes(channel, worker, limits.keep_succeeded)
            token = new_id()
            claim = await self.store.arun(
                self.store.claim(
                    channel, worker, token, wanted=1, limit=limits.total_concurrency, throttle=limits.throttle
                )
            )
            for job in claim.jobs:
                lease = Lease(job.id, token)
                try:
                    message = self.decode(job.payload)
                except ValueError as error:
                    problem = f"its message can't be decoded: {error}"
                    await self.store.arun(self.store.bury(channel, [Burial(lease, problem, problem, None)]))
                    continue
                ack = self.store.claim(
                    channel, worker, new_id(), wanted=0, succeeded=[lease], keep=limits.keep_succeeded
                )
                await self.store.arun(ack)
                return message
            if claim.held is not None:
                await asyncio.sleep(claim.held / 1000)
                continue
            wait = 1.0 if claim.next_due is None else min(1.0, claim.next_due / 1000)
            with contextlib.suppress(RedisError):  # only the bell: the next claim tells whether the server is there
                await client.blpop([self.store.keys(channel).bell], timeout=max(wait, 0.01))

    async def _sweep_sometimes(self, channel: str, worker: str, keep: int) -> None:
        if time.monotonic() >= self._next_sweep.get(channel, 0.0):
            await self.store.arun(self.store.sweep(channel, worker, keep=keep))
            self._next_sweep[channel] = time.monotonic() + get_settings().SWEEP_SECONDS

    async def adopt(self, channel: str) -> int:
        """Move messages that processes of the plain layer left for ``channel`` into the store. Returns how many."""
        return 0


async def _told(error: Exception | None) -> None:
    """What has become of a request already."""
    if error is not None:
        raise error


def _accepted(channel: str, stored: Enqueued | None) -> Enqueued:
    if stored is None:
        raise ChannelFull(channel)
    return stored


def _refused_when_full(channel: str, call: Call[T]) -> Call[T]:
    def parse(reply: Any) -> T:
        if not reply:
            raise ChannelFull(channel)
        return call.parse(reply)

    return replace(call, parse=parse)
