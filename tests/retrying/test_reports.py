"""What a handler says: in order, in few round trips, never less than the last of it, and refused when too late."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from channels.consumer import AsyncConsumer, SyncConsumer

from retrying import LeaseLost, RetryPolicy, State, aenqueue, current_job, topics
from retrying.layers import get_layer
from retrying.reports import PROGRESS_SECONDS, WAITING_BYTES, WAITING_EVENTS, Report
from tests.conftest import await_for
from tests.retrying.running import CHANNEL, reached, running

MESSAGE = {"type": "work.do"}


async def events() -> list[topics.TopicEvent]:
    return (await topics.aread(CHANNEL, "t", limit=10_000)).events


@pytest.fixture
def _long_topics(settings: Any) -> None:
    settings.RETRYING = {**settings.RETRYING, "TOPIC_MAX_EVENTS": 10_000}


@pytest.mark.usefixtures("_long_topics")
async def test_a_thousand_tokens_are_not_a_thousand_round_trips() -> None:
    class Async(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            for number in range(3000):
                await current_job().aemit({"token": number})

    client = topics.client()
    await client.config_resetstat()
    await aenqueue(CHANNEL, MESSAGE, job_id="a", topic="t")
    async with running(Async):
        await reached("a", State.SUCCEEDED)
        found = await events()
        trips = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    tokens = [event.data["data"]["token"] for event in found if event.name == "emit"]
    assert tokens == list(range(3000))
    assert found[-1].name == "succeeded", "everything that was said comes before the end"
    assert trips < 100


@pytest.mark.usefixtures("_long_topics")
async def test_a_sync_handler_that_says_more_than_is_sent_waits_for_room() -> None:
    most = 0

    class Sync(SyncConsumer):
        def work_do(self, message: dict[str, Any]) -> None:
            nonlocal most
            job = current_job()
            for number in range(3000):
                job.emit({"token": number})
                most = max(most, len(job._reports._waiting))

    await aenqueue(CHANNEL, MESSAGE, job_id="a", topic="t")
    async with running(Sync):
        await reached("a", State.SUCCEEDED)
        tokens = [event.data["data"]["token"] for event in await events() if event.name == "emit"]
    assert tokens == list(range(3000))
    assert most <= WAITING_EVENTS


@pytest.mark.usefixtures("_long_topics")
async def test_large_events_wait_for_room_sooner() -> None:
    most = 0

    class Async(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            nonlocal most
            job = current_job()
            for number in range(300):
                await job.aemit({"number": number, "text": "x" * 16_000})
                most = max(most, job._reports._bytes)

    await aenqueue(CHANNEL, MESSAGE, job_id="a", topic="t")
    async with running(Async):
        await reached("a", State.SUCCEEDED)
        found = [event.data["data"]["number"] for event in await events() if event.name == "emit"]
    assert found == list(range(300))
    assert most <= WAITING_BYTES + 17_000


@pytest.mark.usefixtures("_long_topics")
async def test_who_stops_waiting_for_room_harms_nobody() -> None:
    class Async(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            job = current_job()
            for _ in range(WAITING_EVENTS):
                job.emit({})
            room = job._reports.say(Report("emit", {"data": "{}"}))
            assert room is not None
            room.cancel()  # as a coroutine does that is cancelled while it awaits aemit()
            await job.aemit({"last": True})

    await aenqueue(CHANNEL, MESSAGE, job_id="a", topic="t")
    async with running(Async):
        await reached("a", State.SUCCEEDED)
        found = [event.data["data"] for event in await events() if event.name == "emit"]
    assert found == [{}] * WAITING_EVENTS + [{"last": True}]


async def test_emit_in_a_coroutine_says_when_it_must_be_awaited() -> None:
    found: list[Exception] = []

    class Async(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            try:
                for _ in range(WAITING_EVENTS + 1):
                    current_job().emit({})
            except RuntimeError as error:
                found.append(error)

    await aenqueue(CHANNEL, MESSAGE, job_id="a", topic="t")
    async with running(Async):
        await reached("a", State.SUCCEEDED)
        assert sum(event.name == "emit" for event in await events()) == WAITING_EVENTS
    assert "await aemit()" in str(found[0])


@pytest.mark.alone
async def test_progress_is_thinned_out_and_its_last_word_is_kept() -> None:
    class Async(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            for number in range(1000):
                await current_job().aprogress(number / 999, f"row {number}")
                await asyncio.sleep(0.0005)
            raise ValueError("no more rows")

    await aenqueue(CHANNEL, MESSAGE, job_id="a", topic="t", policy=RetryPolicy(max_retries=0))
    began = time.monotonic()
    async with running(Async):
        await reached("a", State.DEAD)
        seconds = time.monotonic() - began
        found = await events()
    said = [event.data["fraction"] for event in found if event.name == "progress"]
    assert said == sorted(said)
    assert said[-1] == 1.0
    assert 2 <= len(said) <= seconds / PROGRESS_SECONDS + 2
    assert [event.name for event in found][-2:] == ["progress", "dead"]


async def test_a_progress_that_had_to_wait_is_told_while_the_handler_goes_on() -> None:
    class Async(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            await current_job().aprogress(0.1)
            await current_job().aprogress(0.2)
            await go_on.wait()

    go_on = asyncio.Event()
    await aenqueue(CHANNEL, MESSAGE, job_id="a", topic="t")
    async with running(Async):

        async def told() -> bool:
            return [event.data.get("fraction") for event in await events()][-1] == 0.2

        await await_for(told, "the second report is on the topic")
        go_on.set()
        await reached("a", State.SUCCEEDED)


async def test_the_end_of_an_attempt_does_not_wait_for_progress_to_be_due(monkeypatch: pytest.MonkeyPatch) -> None:
    class Async(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            await current_job().aprogress(0.1)
            await current_job().aprogress(1.0)

    monkeypatch.setattr("retrying.reports.PROGRESS_SECONDS", 1000.0)
    await aenqueue(CHANNEL, MESSAGE, job_id="a", topic="t")
    async with running(Async):
        await reached("a", State.SUCCEEDED)
        assert [event.data.get("fraction") for event in await events()] == [None, None, 0.1, 1.0, None]


async def test_a_handler_that_lost_its_lease_is_told_by_what_it_says() -> None:
    """The worker has not heard of it yet; the store refuses the first batch."""
    refused = threading.Event()

    class Sync(SyncConsumer):
        def work_do(self, message: dict[str, Any]) -> None:
            lost.wait(10)
            try:
                for _ in range(1000):
                    current_job().emit({"from": "the stale one"})
                    time.sleep(0.005)
            except LeaseLost:
                refused.set()

    lost = threading.Event()
    await aenqueue(CHANNEL, MESSAGE, job_id="a", topic="t")
    async with running(Sync):
        await reached("a", State.RUNNING)
        store = get_layer().store
        await store.connections.async_().hset(store.keys(CHANNEL).all[0] + "a", "token", "another")
        lost.set()
        await await_for(refused.is_set, "the handler is told")
        assert [event.name for event in await events()] == ["ready", "running"]


async def test_reports_that_can_not_be_stored_do_not_hold_up_the_job(caplog: pytest.LogCaptureFixture) -> None:
    """Somebody else's data lies under the key of the topic."""

    class Async(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            store = get_layer().store
            await store.connections.async_().set(store.keys(CHANNEL).topic("t"), "not a stream")
            await current_job().aemit({})
            await current_job().aprogress(0.5)
            await asyncio.sleep(0)
            await await_for(lambda: "were not stored" in caplog.text, "it is in the log")
            await store.connections.async_().delete(store.keys(CHANNEL).topic("t"))

    await aenqueue(CHANNEL, MESSAGE, job_id="a", topic="t")
    async with running(Async):
        await reached("a", State.SUCCEEDED)
