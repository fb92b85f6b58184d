"""Where what is sync in handlers runs."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import channels.consumer
import channels.db
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.consumer import AsyncConsumer

from retrying import State, aenqueue
from retrying.threads import NAME, SlotThread, Threads, spare_looks
from tests.conftest import await_for
from tests.retrying.running import CHANNEL, reached, running

PATIENCE = 20


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    made = Threads()
    made.size = 4
    yield made
    await made.close()
    await await_for(lambda: not ours(), "every thread ended")


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(NAME)]


async def test_calls_that_block_run_side_by_side(threads: Threads) -> None:
    together = threading.Barrier(4)
    calls = [threads.submit(lambda: together.wait(PATIENCE)) for _ in range(4)]
    assert sorted(await asyncio.gather(*calls)) == [0, 1, 2, 3]


async def test_more_calls_than_threads_all_run(threads: Threads) -> None:
    calls = [threads.submit(lambda n=n: time.sleep(0.001) or n) for n in range(200)]  # type: ignore[misc]
    assert await asyncio.gather(*calls) == list(range(200))
    assert len(ours()) <= 4


async def test_a_burst_of_short_calls_wakes_few_threads() -> None:
    threads = Threads()
    threads.size = 100
    for _ in range(3):
        names = await asyncio.gather(*(threads.submit(lambda: threading.current_thread().name) for _ in range(100)))
    assert len(set(names)) < 20
    await threads.close()


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_they_take_none_is_forgotten(threads: Threads, seed: int) -> None:
    rng = random.Random(seed)
    room, ended = asyncio.Semaphore(4), 0

    async def call() -> None:
        nonlocal ended
        async with room:
            await threads.submit(partial(time.sleep, rng.choice([0, 0, 0, 0.0001, 0.002])))
        ended += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(1000):
            group.create_task(call())
    assert ended == 1000


async def test_one_after_the_other_they_share_a_thread(threads: Threads) -> None:
    used = set()
    for _ in range(50):
        used.add(await threads.submit(threading.get_ident))
        await await_for(lambda: threads._idle, "it is free again")
    assert len(used) == 1


async def test_what_a_call_raises_comes_back(threads: Threads) -> None:
    def fails(error: BaseException) -> None:
        raise error

    for error in (ValueError("no"), SystemExit(3)):
        with pytest.raises(type(error), match=str(error)):
            await threads.submit(lambda error=error: fails(error))  # type: ignore[misc]
    with pytest.raises(RuntimeError, match="StopIteration"):
        await threads.submit(lambda: fails(StopIteration()))


async def test_a_call_that_nobody_waits_for_is_not_begun(threads: Threads) -> None:
    threads.size = 1
    go, ran = threading.Event(), []
    first = threads.submit(lambda: go.wait(PATIENCE))
    second = threads.submit(lambda: ran.append("second"))
    second.cancel()
    go.set()
    await first
    await threads.submit(lambda: ran.append("third"))
    assert ran == ["third"]


async def test_a_call_from_another_event_loop_is_answered_there(threads: Threads) -> None:
    async def nested() -> int:
        return int(await threads.submit(lambda: 7))

    assert await threads.submit(lambda: asyncio.run(nested())) == 7


async def test_sync_code_in_a_slot_has_its_thread_and_async_code_its_loop(threads: Threads) -> None:
    slot = SlotThread(threads)
    loop = asyncio.get_running_loop()

    async def where() -> Any:
        return asyncio.get_running_loop()

    async def work() -> None:
        slot.enter()
        for slot.shared in (False, True):
            assert await sync_to_async(async_to_sync(where))() is loop
        slot.shared = False
        first, second = [await sync_to_async(threading.current_thread)() for _ in range(2)]
        assert first is second
        assert first.name.startswith(NAME)

    await asyncio.create_task(work())
    assert slot.used
    await slot.end_job()
    assert not slot.used
    slot.close()


async def test_an_async_handler_without_sync_code_needs_no_thread() -> None:
    """Channels looks for old connections before each message; where there can be none, no thread is woken for it."""
    seen: list[list[str]] = []

    class Consumer(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            seen.append(ours())

    async with running(Consumer):
        for n in range(3):
            await aenqueue(CHANNEL, {"type": "work.do"}, job_id=f"{n}")
            await reached(f"{n}", State.SUCCEEDED)
    assert seen == [[], [], []]


async def test_outside_of_slots_channels_own_look_for_connections_remains(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []

    async def look() -> None:
        looks.append("Channels'")

    monkeypatch.setattr(channels.db, "aclose_old_connections", look)
    monkeypatch.setattr(channels.consumer, "aclose_old_connections", look)  # puts back what was there, in the end
    spare_looks()
    await channels.consumer.aclose_old_connections()
    assert looks == ["Channels'"]

    async def in_a_slot() -> None:
        slot = SlotThread(threads)
        slot.enter()
        await channels.consumer.aclose_old_connections()
        slot.close()

    await asyncio.create_task(in_a_slot())
    assert looks == ["Channels'"]


async def test_what_is_submitted_while_connections_are_closed_is_looked_at_later(threads: Threads) -> None:
    """By a task that a handler has left behind."""
    slot = SlotThread(threads)
    go = threading.Event()
    slot.submit(go.wait, PATIENCE)
    closing = asyncio.create_task(slot.close_connections())
    await asyncio.sleep(0)
    slot.submit(lambda: None)
    go.set()
    await closing
    assert slot.used
    slot.close()


async def test_a_thread_that_cannot_be_started_is_tried_again(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads.size = 2
    ran: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        with pytest.raises(RuntimeError, match="can't start"):
            threads.submit(lambda: ran.append(0))
    go = threading.Event()
    first = threads.submit(lambda: go.wait(PATIENCE))
    await await_for(lambda: not threads._calls, "it runs")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        second = threads.submit(lambda: ran.append(1))
    go.set()
    await asyncio.gather(first, second)
    third, fourth = threads.submit(lambda: ran.append(2)), threads.submit(lambda: ran.append(3))
    await asyncio.gather(third, fourth)
    assert sorted(ran) == [1, 2, 3]


async def test_sync_code_of_a_handler_may_dispatch_to_a_consumer() -> None:
    """The look for old connections doesn't wait for the thread that waits for it."""
    seen: list[str] = []

    class Consumer(AsyncConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            await sync_to_async(lambda: async_to_sync(self.dispatch)({"type": "work.inner"}))()

        async def work_inner(self, message: dict[str, Any]) -> None:
            seen.append(message["type"])

    async with running(Consumer):
        await aenqueue(CHANNEL, {"type": "work.do"}, job_id="outer")
        await reached("outer", State.SUCCEEDED)
    assert seen == ["work.inner"]
