"""The worker: what it asks of an application, and how each way in which a handler ends becomes a state of its job."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from channels.consumer import AsyncConsumer, SyncConsumer
from channels.exceptions import StopConsumer
from channels.layers import get_channel_layer

from retrying import (
    Bury,
    Discard,
    InvalidJob,
    LeaseLost,
    RetryLater,
    RetryPolicy,
    Snooze,
    State,
    aenqueue,
    current_job,
    jobs,
    retry,
    topics,
)
from retrying.consumers import BackgroundConsumer
from retrying.intake import Intake
from retrying.layers import get_layer
from retrying.logs import JobContext
from retrying.routes import NoRoute
from retrying.store.calls import Claim, NewJob
from retrying.store.wire import Line
from retrying.worker import Worker
from tests.conftest import await_for
from tests.retrying.conftest import QUICK
from tests.retrying.running import CHANNEL, reached, routed, running

MESSAGE = {"type": "work.do"}

FLAVOURS = pytest.mark.parametrize("flavour", ["async", "sync", "own", "own sync"])


def consumer(flavour: str, work: Callable[[dict[str, Any]], Any]) -> type[AsyncConsumer]:
    """A consumer of that flavour whose handler calls ``work``."""

    class Async(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            work(message)

    class Sync(SyncConsumer):
        def work_do(self, message: dict[str, Any]) -> None:
            work(message)

    class Own(BackgroundConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            work(message)

    class OwnSync(BackgroundConsumer):
        def work_do(self, message: dict[str, Any]) -> None:
            work(message)

    return {"async": Async, "sync": Sync, "own": Own, "own sync": OwnSync}[flavour]


def async_consumer(work: Callable[[dict[str, Any]], Awaitable[Any]]) -> type[AsyncConsumer]:
    """A consumer whose handler awaits ``work``."""

    class Async(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            await work(message)

    return Async


async def log_of(topic: str) -> list[str]:
    return [event.name for event in (await topics.aread(CHANNEL, topic)).events]


# Success


@FLAVOURS
async def test_jobs_run_once_and_are_gone(flavour: str, redis_url: str) -> None:
    seen: list[int] = []
    for n in range(20):
        await aenqueue(CHANNEL, {**MESSAGE, "n": n}, job_id=f"{n}")
    async with running(consumer(flavour, lambda message: seen.append(message["n"]))):
        for n in range(20):
            await reached(f"{n}", State.SUCCEEDED)
    assert seen == list(range(20)), "one at a time by default: the order is kept"
    counts = jobs.counts(CHANNEL)
    assert (counts.ready, counts.running, counts.scheduled, counts.dead) == (0, 0, 0, 0)


@FLAVOURS
@pytest.mark.alone
async def test_concurrency_is_the_number_of_handlers_at_once(flavour: str) -> None:
    width, ends, starts = 20, [], []  # type: ignore[var-annotated]
    together = threading.Barrier(width)
    arrived = asyncio.Event()
    inside = 0

    def sync_work(message: dict[str, Any]) -> None:
        starts.append(time.monotonic())
        together.wait(10)  # passes only when all of them are here at once
        time.sleep(0.05)
        ends.append(time.monotonic())

    async def async_work(message: dict[str, Any]) -> None:
        nonlocal inside
        starts.append(time.monotonic())
        inside += 1
        if inside == width:
            arrived.set()
        await asyncio.wait_for(arrived.wait(), 10)
        await asyncio.sleep(0.05)
        ends.append(time.monotonic())

    for n in range(width):
        await aenqueue(CHANNEL, MESSAGE, job_id=f"{n}")
    application = consumer("sync", sync_work) if flavour == "sync" else async_consumer(async_work)
    async with running(application, concurrency=width):
        await await_for(lambda: len(ends) == width, "all have run")
    assert max(ends) - min(starts) < 0.5, "one after the other they would take a second"


async def test_concurrency_is_never_exceeded() -> None:
    inside, most = 0, 0
    done = 0

    async def work(message: dict[str, Any]) -> None:
        nonlocal inside, most, done
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.002)
        inside -= 1
        done += 1

    for _ in range(60):
        await aenqueue(CHANNEL, MESSAGE)
    async with running(async_consumer(work), concurrency=3):
        await await_for(lambda: done == 60, "all have run")
    assert most == 3


async def test_channel_setting_of_concurrency(settings: Any) -> None:
    settings.RETRYING = {**QUICK, "CHANNELS": {CHANNEL: {"concurrency": 2}}}
    inside, open_ = [], asyncio.Event()  # type: ignore[var-annotated]

    async def work(message: dict[str, Any]) -> None:
        inside.append(1)
        await open_.wait()

    for _ in range(5):
        await aenqueue(CHANNEL, MESSAGE)
    async with running(async_consumer(work), concurrency=None):
        await await_for(lambda: len(inside) == 2, "two run")
        counts = await jobs.acounts(CHANNEL)
        assert (counts.running, counts.ready) == (2, 3), "nothing is prefetched beyond free slots"
        open_.set()
        await await_for(lambda: len(inside) == 5, "the others run")


async def test_workers_are_listed() -> None:
    async with running(consumer("async", lambda _: None)) as worker:

        async def listed() -> bool:
            return [info.id for info in await jobs.aworkers(CHANNEL)] == [worker.id]

        await await_for(listed, "the worker is listed")
    assert jobs.workers(CHANNEL) == []


# What a handler knows of its job


@FLAVOURS
async def test_current_job(flavour: str) -> None:
    seen: dict[str, Any] = {}

    def work(message: dict[str, Any]) -> None:
        job = current_job()
        for name in ("id", "channel", "attempt", "retries", "max_retries", "is_last_attempt", "worker", "cancelled"):
            seen[name] = getattr(job, name)
        assert job.deadline is not None
        seen["left"] = (job.deadline - datetime.now(UTC)).total_seconds()

    await aenqueue(CHANNEL, MESSAGE, job_id="a", policy=RetryPolicy(max_retries=0, timeout=60))
    async with running(consumer(flavour, work)) as worker:
        await reached("a", State.SUCCEEDED)
    assert 59 < seen.pop("left") <= 60
    assert seen == {
        "id": "a", "channel": CHANNEL, "attempt": 1, "retries": 0, "max_retries": 0, "is_last_attempt": True,
        "worker": worker.id, "cancelled": "",
    }  # fmt: skip


@FLAVOURS
async def test_each_handler_sees_its_own_job(flavour: str) -> None:
    seen: set[tuple[int, str]] = set()
    for n in range(50):
        await aenqueue(CHANNEL, {**MESSAGE, "n": n}, job_id=f"job.{n}")
    async with running(consumer(flavour, lambda m: seen.add((m["n"], current_job().id))), concurrency=10):
        await await_for(lambda: len(seen) == 50, "all have run")
    assert seen == {(n, f"job.{n}") for n in range(50)}


def test_current_job_outside_of_a_handler() -> None:
    with pytest.raises(LookupError, match="inside a handler"):
        current_job()


@FLAVOURS
async def test_current_job_without_a_job(flavour: str) -> None:
    """A group's message is handled between jobs: there is none then."""
    found: list[object] = []

    def look(_: object) -> None:
        try:
            found.append(current_job())
        except LookupError as error:
            found.append(error)

    class Async(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            await self.channel_layer.group_add("news", self.channel_name)

        async def news(self, message: dict[str, Any]) -> None:
            look(message)

    class Sync(SyncConsumer):
        def work_do(self, message: dict[str, Any]) -> None:
            from asgiref.sync import async_to_sync

            async_to_sync(self.channel_layer.group_add)("news", self.channel_name)

        def news(self, message: dict[str, Any]) -> None:
            look(message)

    await aenqueue(CHANNEL, MESSAGE, job_id="a")
    async with running(Async if flavour == "async" else Sync):
        await reached("a", State.SUCCEEDED)
        await get_layer().group_send("news", {"type": "news"})
        await await_for(lambda: found, "the group's message is handled")
    assert isinstance(found[0], LookupError)


@FLAVOURS
async def test_progress_and_events_of_a_handler(flavour: str) -> None:
    class Async(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            await current_job().aprogress(0.5, "half")
            await current_job().aemit({"row": 1})

    def work(_: object) -> None:
        current_job().progress(0.5, "half")
        current_job().emit({"row": 1})

    await aenqueue(CHANNEL, MESSAGE, job_id="a", topic="t")
    async with running(Async if flavour == "async" else consumer("sync", work)) as worker:
        await reached("a", State.SUCCEEDED)
        events = (await topics.aread(CHANNEL, "t")).events
    assert [(event.name, event.data) for event in events] == [
        ("ready", {}),
        ("running", {"attempt": 1, "worker": worker.id}),
        ("progress", {"attempt": 1, "fraction": 0.5, "text": "half"}),
        ("emit", {"attempt": 1, "data": {"row": 1}}),
        ("succeeded", {"attempt": 1}),
    ]


async def test_bad_progress_and_events_are_refused() -> None:
    errors: list[Exception] = []

    def work(_: object) -> None:
        job = current_job()
        for say in (
            lambda: job.progress(1.5),
            lambda: job.progress(-0.1),
            lambda: job.emit({"at": datetime.now(UTC)}),
            lambda: job.emit({"text": "x" * 20_000}),
        ):
            try:
                say()
            except (ValueError, InvalidJob) as error:
                errors.append(error)

    await aenqueue(CHANNEL, MESSAGE, job_id="a", topic="t")
    async with running(consumer("async", work)):
        await reached("a", State.SUCCEEDED)
        assert await log_of("t") == ["ready", "running", "succeeded"]
    assert [str(error).split(",")[0] for error in errors] == [
        "progress takes a fraction from 0 to 1",
        "progress takes a fraction from 0 to 1",
        "event['at'] is a datetime",
        "an event takes at most 16384 bytes of JSON",
    ]


# Failure


@FLAVOURS
async def test_retried_until_it_succeeds(flavour: str) -> None:
    seen: list[tuple[int, int, bool]] = []

    def work(_: object) -> None:
        job = current_job()
        seen.append((job.attempt, job.retries, job.is_last_attempt))
        if job.attempt < 3:
            raise ValueError(f"no luck at attempt {job.attempt}")

    await aenqueue(CHANNEL, MESSAGE, job_id="a", topic="t")
    async with running(consumer(flavour, work)):
        await reached("a", State.SUCCEEDED)
        events = (await topics.aread(CHANNEL, "t")).events
    assert seen == [(1, 0, False), (2, 1, False), (3, 2, True)]
    assert [event.name for event in events] == [
        "ready", "running", "retrying", "ready", "running", "retrying", "ready", "running", "succeeded",
    ]  # fmt: skip
    first = events[2]
    assert (first.data["error"], first.data["failures"]) == ("ValueError: no luck at attempt 1", 1)
    for before, again in ((events[2], events[4]), (events[5], events[7])):
        assert again.at >= before.data["due"], "never early"


@FLAVOURS
async def test_dead_after_its_last_retry(flavour: str) -> None:
    attempts: list[int] = []

    def work(_: object) -> None:
        attempts.append(current_job().attempt)
        raise ValueError("never")

    await aenqueue(CHANNEL, MESSAGE, job_id="a")
    async with running(consumer(flavour, work)):
        job = await reached("a", State.DEAD)
    assert attempts == [1, 2, 3]
    assert (job.failures, job.max_retries) == (3, 2)
    assert (job.reason, job.error) == ("no attempts left", "ValueError: never")


OUTCOMES: dict[str, tuple[Exception, State, dict[str, Any]]] = {
    "bury": (Bury("hopeless"), State.DEAD, {"reason": "hopeless", "failures": 1}),
    "discard": (Discard("not wanted"), State.CANCELLED, {"reason": "not wanted", "failures": 0}),
    "snooze": (Snooze(60), State.SCHEDULED, {"failures": 0}),
    "retry later": (RetryLater(timedelta(seconds=60)), State.SCHEDULED, {"failures": 1}),
}


@FLAVOURS
@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_what_a_handler_says_of_its_end(flavour: str, outcome: str) -> None:
    error, state, fields = OUTCOMES[outcome]

    def work(_: object) -> None:
        raise error

    await aenqueue(CHANNEL, MESSAGE, job_id="a")
    async with running(consumer(flavour, work)):
        job = await reached("a", state, **fields)
    if job.due_at is not None:
        assert job.started_at is not None
        assert 60 <= (job.due_at - job.started_at).total_seconds() < 70


async def test_retry_after_of_an_exception() -> None:
    class Busy(Exception):
        retry_after = 3600

    def work(_: object) -> None:
        raise Busy

    await aenqueue(CHANNEL, MESSAGE, job_id="a")
    async with running(consumer("async", work)):
        job = await reached("a", State.SCHEDULED)
    assert job.due_at is not None
    assert job.started_at is not None
    assert 3600 <= (job.due_at - job.started_at).total_seconds() < 4510


async def test_policy_of_the_handler_then_of_the_job() -> None:
    class Consumer(AsyncConsumer):
        @retry(max_retries=7, backoff=3600, give_up_on=KeyError)
        async def work_do(self, message: dict[str, Any]) -> None:
            raise (KeyError if message.get("key") else ValueError)("x")

        async def other(self, message: dict[str, Any]) -> None:
            raise ValueError("y")

    await aenqueue(CHANNEL, MESSAGE, job_id="handler")
    await aenqueue(CHANNEL, {**MESSAGE, "key": 1}, job_id="given-up")
    await aenqueue(CHANNEL, {"type": "other"}, job_id="channel")
    await aenqueue(CHANNEL, MESSAGE, job_id="own", policy=RetryPolicy(max_retries=0))
    async with running(Consumer):
        assert (await reached("handler", State.SCHEDULED)).max_retries == 7
        assert "KeyError" in (await reached("given-up", State.DEAD)).reason
        assert (await reached("channel", State.DEAD)).failures == 3
        assert (await reached("own", State.DEAD)).failures == 1


async def test_policy_that_fails_itself_falls_back(caplog: pytest.LogCaptureFixture) -> None:
    def backoff(error: BaseException, job: object) -> float:
        raise RuntimeError("the backoff function is broken")

    class Consumer(AsyncConsumer):
        @retry(max_retries=1, backoff=backoff)
        async def work_do(self, message: dict[str, Any]) -> None:
            raise ValueError("x")

    await aenqueue(CHANNEL, MESSAGE, job_id="a")
    async with running(Consumer):
        job = await reached("a", State.SCHEDULED)
        assert job.failures == 1
        await jobs.aretry_now(CHANNEL, "a")
        await reached("a", State.DEAD)
    assert "the retry policy failed, the default backoff applies" in caplog.text


async def test_huge_error_text_is_cut_with_a_marker() -> None:
    def work(_: object) -> None:
        raise ValueError("x" * 50 * 2**20)

    await aenqueue(CHANNEL, MESSAGE, job_id="a", policy=RetryPolicy(max_retries=0))
    async with running(consumer("async", work)):
        job = await reached("a", State.DEAD)
    assert len(job.error) < 5000
    assert job.error.endswith("more characters cut]")


class Odd(BaseException):
    """Not an Exception."""


@FLAVOURS
@pytest.mark.parametrize("error", [SystemExit(3), Odd("odd"), asyncio.CancelledError()])
async def test_handlers_cannot_take_the_worker_with_them(flavour: str, error: BaseException) -> None:
    def work(message: dict[str, Any]) -> None:
        if "bad" in message:
            raise error

    await aenqueue(CHANNEL, {**MESSAGE, "bad": True}, job_id="bad")
    await aenqueue(CHANNEL, MESSAGE, job_id="good")
    async with running(consumer(flavour, work)):
        job = await reached("bad", State.DEAD)
        await reached("good", State.SUCCEEDED)
    assert job.failures == 3
    assert job.error.startswith(type(error).__name__)


@FLAVOURS
async def test_stop_consumer_is_success(flavour: str) -> None:
    ran: list[str] = []

    def work(_: object) -> None:
        ran.append(current_job().id)
        raise StopConsumer

    await aenqueue(CHANNEL, MESSAGE, job_id="a")
    await aenqueue(CHANNEL, MESSAGE, job_id="b")
    async with running(consumer(flavour, work)):
        await reached("a", State.SUCCEEDED)
        await reached("b", State.SUCCEEDED)
    assert ran == ["a", "b"]


async def test_bad_messages_end_as_dead_letters_and_the_listener_lives() -> None:
    layer = get_layer()
    await aenqueue(CHANNEL, {"type": "nobody.home"}, job_id="unknown")
    await aenqueue(CHANNEL, {"type": "_private"}, job_id="private")
    await layer.send(CHANNEL, {"no": "type"})
    raw = [
        NewJob(id="no-type", payload=layer.encode({"no": "type"})),
        NewJob(id="undecodable", payload=b"\xc1\xff not msgpack"),
        NewJob(id="no-dict", payload=layer.encode([1, 2])),  # type: ignore[arg-type]
        NewJob(id="bad-policy", payload=layer.encode(MESSAGE), policy="{"),
    ]
    await layer.store.arun(layer.store.enqueue(CHANNEL, raw))
    await aenqueue(CHANNEL, MESSAGE, job_id="good")
    async with running(consumer("async", lambda _: None)):
        await reached("good", State.SUCCEEDED)
        for job_id, reason in {
            "unknown": "no handler for type 'nobody.home'",
            "private": "no handler for type '_private'",
            "no-type": "its message has no type",
            "undecodable": "its message can't be decoded",
            "no-dict": "a message is a dict, got list",
            "bad-policy": "its policy can't be read",
        }.items():
            job = await reached(job_id, State.DEAD)
            assert reason in job.reason
            assert job.attempt == 1
        assert (await jobs.acounts(CHANNEL)).dead == 7


# Timeouts and cancelling


async def test_timeout_cancels_an_async_handler() -> None:
    cancelled: list[str] = []

    async def work(_: object) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append("yes")
            raise

    await aenqueue(CHANNEL, MESSAGE, job_id="a", policy=RetryPolicy(max_retries=1, backoff=0, timeout=0.2))
    async with running(async_consumer(work)):
        job = await reached("a", State.DEAD)
    assert cancelled == ["yes", "yes"]
    assert job.failures == 2
    assert job.error == "AttemptTimeout: the attempt took longer than its timeout of 0.2 s"


async def test_handler_that_swallows_its_cancellation_has_failed_nevertheless() -> None:
    attempts: list[int] = []

    async def work(_: object) -> None:
        attempts.append(current_job().attempt)
        if len(attempts) == 1:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return  # as if all were well

    await aenqueue(CHANNEL, MESSAGE, job_id="a", topic="t", policy=RetryPolicy(backoff=0.1, timeout=0.2))
    await aenqueue(CHANNEL, MESSAGE, job_id="b")
    async with running(async_consumer(work)):
        await reached("a", State.SUCCEEDED)
        await reached("b", State.SUCCEEDED)
        assert (await log_of("t")).count("retrying") == 1
    assert sorted(attempts) == [1, 1, 2]


async def test_handler_that_never_ends_keeps_only_its_own_slot() -> None:
    let_go = asyncio.Event()
    done: list[str] = []

    async def work(message: dict[str, Any]) -> None:
        while message.get("stubborn") and not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                done.append("swallowed")
        done.append(message["n"])

    once = RetryPolicy(max_retries=0, timeout=0.2)
    await aenqueue(CHANNEL, {**MESSAGE, "n": "stubborn", "stubborn": True}, job_id="stubborn", policy=once)
    async with running(async_consumer(work), concurrency=2):
        await reached("stubborn", State.DEAD)
        for n in range(5):
            await aenqueue(CHANNEL, {**MESSAGE, "n": f"{n}"}, job_id=f"{n}")
        for n in range(5):
            await reached(f"{n}", State.SUCCEEDED)
        assert done == ["swallowed", "0", "1", "2", "3", "4"], "one after the other: the other slot is lost"
        let_go.set()
        await await_for(lambda: "stubborn" in done, "it ends at last")
        assert (await reached("stubborn", State.DEAD)).attempt == 1, "what it did late changes nothing"


async def test_timeout_is_told_to_a_sync_handler_which_keeps_its_lease() -> None:
    told: list[str] = []

    def work(_: object) -> None:
        job = current_job()
        until = time.monotonic() + 10
        while not job.cancelled and time.monotonic() < until:
            time.sleep(0.01)
        told.append(job.cancelled)

    await aenqueue(CHANNEL, MESSAGE, job_id="a", policy=RetryPolicy(timeout=0.2))
    async with running(consumer("sync", work)):
        await reached("a", State.SUCCEEDED)
    assert told == ["timeout"]


@FLAVOURS
async def test_cancel_of_a_running_job(flavour: str) -> None:
    told: list[str] = []

    async def async_work(_: object) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            told.append(current_job().cancelled)

    def sync_work(_: object) -> None:
        until = time.monotonic() + 10
        while not current_job().cancelled and time.monotonic() < until:
            time.sleep(0.01)
        told.append(current_job().cancelled)
        raise RuntimeError("stopped half-way")

    await aenqueue(CHANNEL, MESSAGE, job_id="a", topic="t")
    async with running(async_consumer(async_work) if flavour == "async" else consumer("sync", sync_work)):
        await reached("a", State.RUNNING)
        assert await jobs.acancel(CHANNEL, "a", "the user said so") is State.RUNNING
        job = await reached("a", State.CANCELLED)
    assert told == ["cancelled on request"]
    assert (job.reason, job.failures) == ("the user said so", 0)


# The ack is the call of receive()


async def test_success_is_acked_though_the_consumers_own_channel_raises_next() -> None:
    ran: list[str] = []

    class Consumer(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            ran.append("work")
            await self.channel_layer.send(self.channel_name, {"type": "boom"})
            await asyncio.sleep(0.05)  # it is there before the handler returns

        async def boom(self, message: dict[str, Any]) -> None:
            ran.append("boom")
            raise ValueError("of a message that is no job")

    for n in range(5):
        await aenqueue(CHANNEL, MESSAGE, job_id=f"{n}", topic="t")
    async with running(Consumer):
        for n in range(5):
            await reached(f"{n}", State.SUCCEEDED)
        names = await log_of("t")
    assert ran.count("work") == 5, "a success was not read as a failure"
    assert names.count("succeeded") == 5
    assert not {"retrying", "dead", "rescued"} & set(names)


async def test_job_whose_handler_never_began_is_given_back_uncharged() -> None:
    entered, explode = asyncio.Event(), asyncio.Event()
    address: list[str] = []
    ran: list[int] = []

    class Consumer(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            if not address:
                address.append(self.channel_name)
                return
            ran.append(current_job().attempt)

        async def boom(self, message: dict[str, Any]) -> None:
            entered.set()
            await explode.wait()
            raise ValueError("busy with something else, and it failed")

    await aenqueue(CHANNEL, MESSAGE, job_id="first")
    async with running(Consumer):
        await reached("first", State.SUCCEEDED)
        await get_layer().send(address[0], {"type": "boom"})
        await asyncio.wait_for(entered.wait(), 5)
        await aenqueue(CHANNEL, MESSAGE, job_id="a", topic="t")
        await reached("a", State.RUNNING)
        explode.set()
        await reached("a", State.SUCCEEDED)
        names = await log_of("t")
    assert ran == [2]
    assert names == ["ready", "running", "released", "ready", "running", "succeeded"]


async def test_plain_asgi_function() -> None:
    seen: list[Any] = []

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        seen.append(scope)
        while True:
            message = await receive()
            seen.append(message["n"])
            if message["n"] == 1 and current_job().attempt == 1:
                raise ValueError("once")

    for n in range(3):
        await aenqueue(CHANNEL, {**MESSAGE, "n": n}, job_id=f"{n}")
    async with running(application):
        for n in range(3):
            await reached(f"{n}", State.SUCCEEDED)
    scope = {"type": "channel", "channel": CHANNEL}
    assert seen[0] == scope
    assert sorted(item for item in seen if isinstance(item, int)) == [0, 1, 1, 2]
    assert seen.count(scope) == 2, "a new instance after the failure, and only then"


async def test_application_that_waits_with_a_timeout_loses_nothing() -> None:
    seen: list[int] = []

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        while True:
            try:
                message = await asyncio.wait_for(receive(), 0.001)
            except TimeoutError:
                continue
            seen.append(message["n"])

    async with running(application):
        for n in range(30):
            await aenqueue(CHANNEL, {**MESSAGE, "n": n}, job_id=f"{n}")
        for n in range(30):
            await reached(f"{n}", State.SUCCEEDED)
    assert sorted(set(seen)) == list(range(30))


async def test_job_that_comes_as_its_waiter_is_cancelled_is_handed_out_again() -> None:
    """The waiting task wakes up with the message, and is told of its cancellation instead, as in asyncio.wait_for."""
    seen: list[tuple[int, int]] = []
    cancelled = 0

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        nonlocal cancelled
        while True:
            delivery = receive()

            async def wait(delivery: Any = delivery) -> Any:
                return await delivery

            waiter = asyncio.create_task(wait())
            if not cancelled:
                delivery.add_done_callback(lambda _, waiter=waiter: waiter.cancel())  # before the waiter's own callback
            try:
                message = await waiter
            except asyncio.CancelledError:
                if cancelled:
                    raise  # by the worker, which stops
                cancelled += 1
                continue
            seen.append((message["n"], current_job().attempt))

    async with running(application):
        await aenqueue(CHANNEL, {**MESSAGE, "n": 1}, job_id="1", topic="t")
        await reached("1", State.SUCCEEDED)
        names = await log_of("t")
    assert cancelled == 1
    assert seen == [(1, 1)]
    assert names == ["ready", "running", "succeeded"]


async def test_application_that_returns_after_each_job() -> None:
    seen: list[int] = []

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        seen.append((await receive())["n"])

    for n in range(20):
        await aenqueue(CHANNEL, {**MESSAGE, "n": n}, job_id=f"{n}")
    async with running(application):
        for n in range(20):
            await reached(f"{n}", State.SUCCEEDED)
    assert seen == list(range(20))


async def test_application_that_never_asks_is_started_again_with_backoff(caplog: pytest.LogCaptureFixture) -> None:
    starts: list[float] = []

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        starts.append(time.monotonic())
        if len(starts) <= 4:
            return
        while True:
            await receive()

    await aenqueue(CHANNEL, MESSAGE, job_id="a")
    async with running(application):
        await reached("a", State.SUCCEEDED)
    assert len(starts) == 5
    assert starts[4] - starts[0] >= 4 * 0.05, "not in a busy loop"
    assert "ended without" in caplog.text


async def test_sending_from_a_background_consumer_says_what_to_do_instead() -> None:
    class Consumer(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            await self.send({"type": "websocket.send", "text": "hello"})

    await aenqueue(CHANNEL, MESSAGE, job_id="a", policy=RetryPolicy(max_retries=0))
    async with running(Consumer):
        job = await reached("a", State.DEAD)
    assert "has no client to send to; use channel_layer.group_send()" in job.error


def test_no_route() -> None:
    from channels.routing import ChannelNameRouter, ProtocolTypeRouter

    layer = get_layer()
    with pytest.raises(NoRoute, match=r'no "channel" entry in its ProtocolTypeRouter.*Add "channel"'):
        Worker(ProtocolTypeRouter({}), {"work": 1}, layer)
    router = ChannelNameRouter({"a": object(), "b": object()})
    with pytest.raises(NoRoute, match="no application for 'work'; it has: a, b"):
        Worker(ProtocolTypeRouter({"channel": router}), {"work": 1}, layer)


async def test_policy_behind_middleware() -> None:
    """A middleware with ``inner`` is looked through; a function hides the consumer: the channel's policy applies."""

    class Consumer(AsyncConsumer):
        @retry(max_retries=9, backoff=3600)
        async def work_do(self, message: dict[str, Any]) -> None:
            raise ValueError("x")

    class Middleware:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
            return await self.inner(scope, receive, send)

    async def hidden(scope: Any, receive: Any, send: Any) -> Any:
        return await Consumer.as_asgi()(scope, receive, send)

    await aenqueue(CHANNEL, MESSAGE, job_id="seen")
    async with running(Middleware(Consumer.as_asgi())):
        assert (await reached("seen", State.SCHEDULED)).max_retries == 9
    await aenqueue(CHANNEL, MESSAGE, job_id="hidden")
    async with running(hidden):
        assert (await reached("hidden", State.DEAD)).max_retries == 2


# Nothing is left behind


async def test_failing_jobs_leave_no_connections_tasks_or_messages(redis_url: str) -> None:
    class Consumer(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            await self.channel_layer.send(self.channel_name, {"type": "late"})
            raise ValueError("no")

        async def late(self, message: dict[str, Any]) -> None: ...

    once = RetryPolicy(max_retries=0)
    layer = get_layer()
    with redis.Redis.from_url(redis_url) as server:
        async with running(Consumer, concurrency=4):

            async def after(first: int, last: int) -> tuple[int, int, int]:
                for n in range(first, last):
                    await aenqueue(CHANNEL, MESSAGE, job_id=f"{n}", policy=once)
                for n in range(first, last):
                    await reached(f"{n}", State.DEAD)
                return (len(asyncio.all_tasks()), len(server.client_list()), threading.active_count())

            before = await after(0, 10)
            later = await after(10, 110)
            assert later[0] <= before[0] + 4, "tasks"
            assert later[1] <= before[1] + 10, "connections: a pool of a few, not one for each failure"
            assert later[2] <= before[2] + 1, "threads"
            (inbox,) = layer._inboxes.values()
            assert not inbox._waiting or len(inbox._waiting) <= 4
            ours = (b"retrying:asgi:{work}:", b"retrying:asgi:channels")
            kept = [key for key in server.scan_iter() if not key.startswith(ours)]
            assert len(kept) <= 2, "messages to instances that are gone"


async def test_sync_handlers_use_a_thread_of_their_slot_and_leave_none(redis_url: str) -> None:
    names: set[str] = set()

    def work(_: object) -> None:
        names.add(threading.current_thread().name)

    async with running(consumer("sync", work), concurrency=3):
        for n in range(30):
            await aenqueue(CHANNEL, MESSAGE, job_id=f"{n}")
        for n in range(30):
            await reached(f"{n}", State.SUCCEEDED)
    assert 1 <= len(names) <= 3
    await await_for(lambda: not names & {thread.name for thread in threading.enumerate()}, "every thread ended")


# The rest of the channel layer


async def test_general_channel_in_a_group_gets_a_job() -> None:
    seen: list[Any] = []
    layer = get_channel_layer()
    await layer.group_add("everybody", CHANNEL)
    name = await layer.new_channel()
    await layer.group_add("everybody", name)
    await layer.group_send("everybody", {**MESSAGE, "n": 7})
    assert (await layer.receive(name))["n"] == 7
    assert (await jobs.acounts(CHANNEL)).ready == 1
    async with running(consumer("async", lambda message: seen.append(message["n"]))):
        await await_for(lambda: seen, "the group's message ran as a job")
    assert seen == [7]


# Leases and bells


@pytest.mark.usefixtures("_short_lease")
async def test_handler_that_blocks_the_event_loop_keeps_its_lease() -> None:
    runs: list[int] = []
    stop = threading.Event()
    rescued: list[Any] = []
    store = get_layer().store

    def others() -> None:  # a second worker, as far as leases go
        while not stop.wait(0.1):
            rescued.extend(store.run(store.sweep(CHANNEL, "host:2:b")).rescued)

    def work(_: object) -> None:
        runs.append(current_job().attempt)
        time.sleep(4.4)  # two leases

    await aenqueue(CHANNEL, MESSAGE, job_id="a", topic="t")
    thread = threading.Thread(target=others)
    thread.start()
    try:
        async with running(consumer("async", work)):
            await reached("a", State.SUCCEEDED)
            assert "rescued" not in await log_of("t")
    finally:
        stop.set()
        thread.join()
    assert (runs, rescued) == ([1], [])


async def test_lost_lease_is_told_to_the_handler_and_its_reports_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    """Another worker got the job (as after a long stall of this one)."""
    told: list[str] = []
    refused: list[type] = []
    layer = get_layer()

    async def work(_: object) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            told.append(current_job().cancelled)
            try:
                current_job().progress(0.5)
            except LeaseLost as error:
                refused.append(type(error))

    await aenqueue(CHANNEL, MESSAGE, job_id="a", topic="t")
    async with running(async_consumer(work)):
        await reached("a", State.RUNNING)
        key = layer.store.keys(CHANNEL).all[0] + "a"
        await layer.store.connections.async_().hset(key, mapping={"token": "another", "worker": "host:2:b"})
        await await_for(lambda: refused, "the handler is told")
    assert told == ["lease lost"]
    assert 'lease lost job=a channel=work attempt=1 reason="it was given to another worker"' in caplog.text
    assert jobs.get(CHANNEL, "a").state is State.RUNNING  # type: ignore[union-attr]


@pytest.mark.alone
async def test_lost_bell_costs_a_poll_at_most(redis_url: str) -> None:
    ran: list[float] = []
    bell = get_layer().store.keys(CHANNEL).bell

    def steal() -> None:
        with redis.Redis.from_url(redis_url, socket_timeout=None) as thief:
            thief.blpop([bell], timeout=20)

    thread = threading.Thread(target=steal)
    thread.start()
    with redis.Redis.from_url(redis_url) as server:
        # Waiting longer than the worker, so served first.
        await await_for(lambda: server.info("clients")["blocked_clients"] == 1, "the thief waits")
        async with running(consumer("async", lambda _: ran.append(time.monotonic()))):
            await await_for(lambda: server.info("clients")["blocked_clients"] == 2, "the worker waits")
            sent = time.monotonic()
            await aenqueue(CHANNEL, MESSAGE)
            await await_for(lambda: ran, "it ran")
    thread.join()
    assert ran[0] - sent < QUICK["POLL_SECONDS"] + 0.5


async def test_a_job_begins_before_the_doorbell_is_asked_again(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """The question takes a worker as long as a job."""
    settings.RETRYING = {**QUICK, "POLL_SECONDS": 300, "SWEEP_SECONDS": 60}
    order: list[str] = []
    ask = Line.ask

    def asked(line: Line, *words: Any) -> Any:
        if words[0] == "BLPOP":
            order.append("asked")
        return ask(line, *words)

    monkeypatch.setattr(Line, "ask", asked)
    async with running(consumer("own", lambda _: order.append("began")), concurrency=100):
        await await_for(lambda: order == ["asked"], "the worker waits")
        await aenqueue(CHANNEL, MESSAGE)
        await await_for(lambda: len(order) == 3, "it ran, and the worker waits again")
    assert order == ["asked", "began", "asked"]


@pytest.mark.alone
async def test_scheduled_job_starts_when_due_without_any_bell(settings: Any) -> None:
    settings.RETRYING = {**QUICK, "POLL_SECONDS": 5, "SWEEP_SECONDS": 30}
    ran: list[datetime] = []
    async with running(consumer("async", lambda _: ran.append(datetime.now(UTC)))):
        await aenqueue(CHANNEL, MESSAGE)
        await await_for(lambda: len(ran) == 1, "the worker works")
        job = await aenqueue(CHANNEL, MESSAGE, delay=0.3)
        await aenqueue(CHANNEL, MESSAGE)  # a claim: from here on the worker knows when the next one is due
        await await_for(lambda: len(ran) == 3, "the delayed one ran")
    assert job.due_at is not None
    assert 0 <= (ran[-1] - job.due_at).total_seconds() < 0.5


async def test_more_due_jobs_than_one_claim_moves_are_claimed_without_a_wait(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.RETRYING = {**QUICK, "POLL_SECONDS": 300, "SWEEP_SECONDS": 60}
    monkeypatch.setattr(Intake, "_watch_due", lambda *_: None)
    begun: list[str] = []
    let_go = asyncio.Event()

    async def work(_: object) -> None:  # no success to tell, which would claim on the way
        begun.append(current_job().id)
        await let_go.wait()

    layer = get_layer()
    due = [NewJob(id=str(n), payload=layer.encode(MESSAGE), delay=100) for n in range(150)]
    async with running(async_consumer(work), concurrency=200):
        await aenqueue(CHANNEL, MESSAGE)
        await await_for(lambda: begun, "the worker works, and has swept")
        await layer.store.arun(layer.store.enqueue(CHANNEL, due))
        last = await jobs.aget(CHANNEL, "149")
        assert last is not None
        assert last.due_at is not None
        await await_for(lambda: last.due_at < datetime.now(UTC), "they are due")  # type: ignore[operator]
        await aenqueue(CHANNEL, MESSAGE)  # rings: nobody else tells the worker
        await await_for(lambda: len(begun) == len(due) + 2, "all run")
        let_go.set()


# Stopping


async def test_stop_lets_running_handlers_end() -> None:
    entered, let_go = asyncio.Event(), asyncio.Event()

    async def work(_: object) -> None:
        entered.set()
        await let_go.wait()

    for id in ("a", "b"):
        await aenqueue(CHANNEL, MESSAGE, job_id=id)
    async with running(async_consumer(work)):
        await entered.wait()
        asyncio.get_running_loop().call_later(0.2, let_go.set)  # well after the worker was told to stop
    assert jobs.get(CHANNEL, "a").state is State.SUCCEEDED  # type: ignore[union-attr]
    assert jobs.get(CHANNEL, "b").attempt == 0, "no new job is taken"  # type: ignore[union-attr]


async def test_stop_gives_back_uncharged_what_does_not_end() -> None:
    entered = asyncio.Event()
    told: list[str] = []

    async def work(_: object) -> None:
        entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            told.append(current_job().cancelled)

    await aenqueue(CHANNEL, MESSAGE, job_id="a")
    async with running(async_consumer(work), shutdown_timeout=0.2):
        await entered.wait()
    job = jobs.get(CHANNEL, "a")
    assert job is not None
    assert (job.state, job.releases, job.failures, job.rescues) == (State.READY, 1, 0, 0)
    assert told == ["the worker stops"]


async def test_job_that_was_on_its_way_when_the_worker_was_told_to_stop_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claimed, stopped = asyncio.Event(), asyncio.Event()
    store = get_layer().store
    arun = store.arun

    async def late(call: Any) -> Any:
        answer = await arun(call)
        if isinstance(answer, Claim) and answer.jobs:
            claimed.set()
            await stopped.wait()
        return answer

    monkeypatch.setattr(store, "arun", late)
    await aenqueue(CHANNEL, MESSAGE, job_id="a")
    async with running(consumer("async", lambda _: pytest.fail("it ran"))):
        await claimed.wait()
        asyncio.get_running_loop().call_later(0.2, stopped.set)  # well after the worker was told to stop
    job = jobs.get(CHANNEL, "a")
    assert job is not None
    assert (job.state, job.releases, job.failures) == (State.READY, 1, 0)


async def test_a_worker_that_cannot_begin_a_job_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Intake, "_read", lambda *_: 1 / 0)
    await aenqueue(CHANNEL, MESSAGE)
    layer = get_layer()
    worker = Worker(routed(consumer("async", lambda _: None)), {CHANNEL: 8}, layer, shutdown_timeout=300)
    assert await asyncio.wait_for(worker.run(), 30) == 1
    await layer.close_pools()
    assert "a part of the worker failed, the worker ends" in caplog.text


@pytest.mark.parametrize("concurrency", [1, 8])
async def test_stop_under_load_strands_no_job(concurrency: int) -> None:
    """Whenever the worker is told to stop: no lease is left behind, and no running handler is cut short."""
    ran: list[str] = []
    cut: list[str] = []

    async def work(_: object) -> None:
        job = current_job().id
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            cut.append(job)
            raise
        ran.append(job)

    layer = get_layer()
    for turn in range(15):
        many = [NewJob(id=f"{turn}.{n}", payload=layer.encode(MESSAGE)) for n in range(100)]
        await layer.store.arun(layer.store.enqueue(CHANNEL, many))
        async with running(async_consumer(work), concurrency=concurrency):
            while not ran:
                await asyncio.sleep(0)
            for _ in range(turn):  # each time at another step of the loop
                await asyncio.sleep(0)
        assert jobs.counts(CHANNEL).running == 0, f"a lease is left behind at turn {turn}"
        assert len(ran) < 100, "it was stopped half-way"
        assert len(ran) == len(set(ran))
        assert cut == []
        ran.clear()


# Logs


async def test_one_line_per_transition(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "retrying")

    def work(message: dict[str, Any]) -> None:
        if message["end"] is not None:
            raise message["end"]

    ends = {"ok": None, "retry": ValueError("a"), "bury": Bury("b"), "discard": Discard("c"), "snooze": Snooze(60)}

    class Consumer(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            if error := ends[current_job().id]:
                raise error

    for id in ends:
        await aenqueue(CHANNEL, MESSAGE, job_id=id, policy=RetryPolicy(backoff=60))
    async with running(Consumer):
        await reached("snooze", State.SCHEDULED)
        await reached("ok", State.SUCCEEDED)
    lines = {id: [r for r in caplog.records if f"job={id} channel=work attempt=1" in r.getMessage()] for id in ends}
    assert {id: len(found) for id, found in lines.items()} == {
        "ok": 0,
        "retry": 1,
        "bury": 1,
        "discard": 1,
        "snooze": 1,
    }
    levels = {id: (found[0].levelname, found[0].getMessage().split()[0]) for id, found in lines.items() if found}
    assert levels == {
        "retry": ("INFO", "retrying"),
        "bury": ("ERROR", "dead"),
        "discard": ("INFO", "cancelled"),
        "snooze": ("INFO", "snoozed"),
    }
    assert "retry=1 max_retries=5" in lines["retry"][0].getMessage()
    assert 'error="ValueError: a"' in lines["retry"][0].getMessage()


async def test_success_is_told_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "retrying")
    await aenqueue(CHANNEL, MESSAGE, job_id="a")
    async with running(consumer("async", lambda _: None)):
        await reached("a", State.SUCCEEDED)
    told = [r for r in caplog.records if "succeeded job=a channel=work attempt=1" in r.getMessage()]
    assert [record.levelno for record in told] == [logging.DEBUG]


@FLAVOURS
async def test_what_a_handler_logs_carries_its_job(flavour: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.addFilter(JobContext())
    logger = logging.getLogger("a.project")

    def work(_: object) -> None:
        logger.warning("from the handler")

    await aenqueue(CHANNEL, MESSAGE, job_id="a")
    async with running(consumer(flavour, work)):
        await reached("a", State.SUCCEEDED)
        logger.warning("from elsewhere")
    found = {record.message: record for record in caplog.records}
    inside: Any = found["from the handler"]
    assert (inside.job, inside.channel, inside.attempt) == ("a", CHANNEL, 1)
    assert inside.job_context == " job=a channel=work attempt=1"
    outside: Any = found["from elsewhere"]
    assert (outside.job, outside.attempt, outside.job_context) == ("", 0, "")
