"""Which channel's jobs a worker takes next: apart, in strict order, or by weight; limits over all workers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from retrying import RetryPolicy, State, aenqueue, jobs
from retrying.group import BadConsumption, Consumption, parse
from retrying.intake import Intake
from retrying.layers import get_layer
from retrying.store.calls import NewJob
from retrying.worker import Worker
from tests.conftest import await_for

Handler = Callable[[dict[str, Any], str], Awaitable[None]]


def application(handle: Handler) -> Any:
    """An ASGI application that gives every message, and its channel, to ``handle``."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        while True:
            await handle(await receive(), scope["channel"])

    return app


async def run_until(worker: Worker, condition: Callable[[], Any], what: str) -> None:
    running = asyncio.create_task(worker.run())
    try:
        await await_for(condition, what)
    finally:
        worker.stop()
        await running
        await get_layer().close_pools()


@pytest.mark.parametrize(
    ("words", "groups"),
    [
        (["a"], [Consumption(("a",))]),
        (["a", "b"], [Consumption(("a",)), Consumption(("b",))]),
        (["a,b"], [Consumption(("a", "b"))]),
        (["a:3", "b:1"], [Consumption(("a", "b"), (3, 1))]),
        (["c", "a:3", "b:1"], [Consumption(("c",)), Consumption(("a", "b"), (3, 1))]),
    ],
)
def test_what_runworker_takes(words: list[str], groups: list[Consumption]) -> None:
    assert parse(words) == groups
    assert parse([word for group in groups for word in str(group).split()]) == groups


@pytest.mark.parametrize("words", [["a!b"], ["a", "a"], ["a,"], ["a:0", "b:1"], ["a:101"], ["a:3,b:1"], ["é"]])
def test_what_runworker_refuses(words: list[str]) -> None:
    with pytest.raises(BadConsumption):
        parse(words)


async def test_strict_order_takes_the_second_channel_only_while_the_first_is_empty() -> None:
    ran: list[str] = []

    async def handle(message: dict[str, Any], channel: str) -> None:
        ran.append(channel)
        if message.get("then"):  # more urgent work arrives while the other channel has plenty
            for _ in range(3):
                await aenqueue("urgent", {"type": "x"})
            (urgent,) = (lane for lane in worker._presence.lanes if lane.channel == "urgent")
            await await_for(lambda: urgent.intake.looking, "the worker heard of it")

    for n in range(6):
        await aenqueue("rest", {"type": "x", "then": n == 2})
    for _ in range(3):
        await aenqueue("urgent", {"type": "x"})
    worker = Worker(application(handle), {"urgent,rest": 1}, get_layer())
    await run_until(worker, lambda: len(ran) == 12, "all 12 ran")
    assert ran[:6] == ["urgent"] * 3 + ["rest"] * 3
    assert ran[6:] == ["urgent"] * 3 + ["rest"] * 3, "what arrived in the middle went before the rest"


async def test_a_paused_channel_with_many_due_jobs_does_not_keep_the_second_one_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = get_layer()
    store = layer.store
    due = [NewJob(id=str(n), payload=layer.encode({"type": "x.y"}), delay=1) for n in range(2000)]
    for start in range(0, len(due), 500):
        await store.arun(store.enqueue("first", due[start : start + 500]))
    await store.arun(store.pause("first"))
    await aenqueue("second", {"type": "x.y"}, job_id="b")
    claims: Counter[str] = Counter()
    before: list[int] = []
    claim = Intake._claim

    async def counted(intake: Intake, *args: Any) -> Any:
        claims[intake.lane.channel] += 1
        return await claim(intake, *args)

    async def handle(_: dict[str, Any], channel: str) -> None:
        before.append(claims["first"])

    monkeypatch.setattr(Intake, "_claim", counted)
    worker = Worker(application(handle), {"first,second": 100}, layer)
    await run_until(worker, lambda: before, "the job of the second channel ran")
    assert before[0] < 20, "it waits until all jobs of the first one are moved, in 40 claims"


async def test_two_cake_makers_share_an_oven_three_to_one() -> None:
    """Weights share by work that is there; a channel that is alone gets everything."""
    ran: list[str] = []

    async def handle(message: dict[str, Any], channel: str) -> None:
        ran.append(channel)

    store = get_layer().store
    payload = get_layer().encode({"type": "x"})
    for channel in ("wedding", "birthday"):
        await store.arun(store.enqueue(channel, [NewJob(id=str(n), payload=payload) for n in range(600)]))
    worker = Worker(application(handle), {"wedding:3 birthday:1": 4}, get_layer())
    await run_until(worker, lambda: len(ran) == 1200, "all cakes baked")
    while_both = ran[: 1 + max(index for index in range(800) if ran[index] == "wedding")]
    shares = Counter(while_both)
    assert 2 < shares["wedding"] / shares["birthday"] < 4.5
    assert set(ran[-300:]) == {"birthday"}


async def test_a_group_never_runs_more_than_its_total() -> None:
    running, most, done = 0, 0, 0

    async def handle(message: dict[str, Any], channel: str) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1
        done += 1

    for n in range(40):
        await aenqueue("a" if n % 2 else "b", {"type": "x"})
    await run_until(Worker(application(handle), {"a:2 b:1": 3}, get_layer()), lambda: done == 40, "all ran")
    assert most == 3


async def test_total_concurrency_holds_over_all_workers(settings: Any) -> None:
    settings.RETRYING = {"CHANNELS": {"a": {"total_concurrency": 2, "concurrency": 5}}, "POLL_SECONDS": 0.1}
    running, most, done = 0, 0, 0

    async def handle(message: dict[str, Any], channel: str) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        done += 1

    for _ in range(20):
        await aenqueue("a", {"type": "x"})
    workers = [Worker(application(handle), {"a": None}, get_layer()) for _ in range(2)]
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    await await_for(lambda: done == 20, "all ran")
    for worker in workers:
        worker.stop()
    await asyncio.gather(*tasks)
    await get_layer().close_pools()
    assert most == 2


async def test_a_retry_that_would_come_after_the_deadline_is_a_dead_letter() -> None:
    async def handle(message: dict[str, Any], channel: str) -> None:
        raise RuntimeError("no luck")

    job = await aenqueue("a", {"type": "x"}, policy=RetryPolicy(deadline=30, backoff=60))

    async def dead() -> bool:
        found = await jobs.aget("a", job.id)
        return found is not None and found.state is State.DEAD

    running = asyncio.create_task((worker := Worker(application(handle), {"a": 1}, get_layer())).run())
    await await_for(dead, "the job is dead")
    found = await jobs.aget("a", job.id)
    assert found is not None
    assert "deadline" in found.reason
    worker.stop()
    await running
    await get_layer().close_pools()


async def test_a_deadline_ends_a_running_attempt() -> None:
    cancelled = asyncio.Event()

    async def handle(message: dict[str, Any], channel: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    job = await aenqueue("a", {"type": "x"}, policy=RetryPolicy(deadline=0.3))
    await run_until(Worker(application(handle), {"a": 1}, get_layer()), cancelled.is_set, "the handler was cancelled")
    found = await jobs.aget("a", job.id)
    assert found is not None
    assert found.state is State.DEAD


async def test_a_job_of_a_newer_format_is_left_for_a_newer_worker(caplog: pytest.LogCaptureFixture) -> None:
    ran: list[Any] = []

    async def handle(message: dict[str, Any], channel: str) -> None:
        ran.append(message["n"])

    layer = get_layer()
    new = await aenqueue("a", {"type": "x", "n": "new"})
    await aenqueue("a", {"type": "x", "n": "old"})
    client = layer.store.connections.async_()
    key = layer.store.keys("a").all[0] + new.id
    await client.hset(key, "v", 2)
    await run_until(Worker(application(handle), {"a": 1}, layer), lambda: ran == ["old"], "the other job ran")
    found = await jobs.aget("a", new.id)
    assert found is not None
    assert (found.state, found.attempt) == (State.READY, 0)
    # A worker that knows the format takes it.
    await layer.store.connections.async_().hset(key, "v", 1)
    await run_until(Worker(application(handle), {"a": 1}, layer), lambda: ran == ["old", "new"], "it ran after all")


async def test_a_worker_of_many_channels_hears_each_of_them(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Doorbells block a connection each: beyond the limit, so that none waits for another, and no request for them."""
    monkeypatch.setattr("retrying.store.connections.MAX_CONNECTIONS", 3)
    settings.RETRYING = {"POLL_SECONDS": 9.0}
    channels = [f"work-{number}" for number in range(12)]
    ran: set[str] = set()

    async def handle(message: dict[str, Any], channel: str) -> None:
        ran.add(channel)

    async def hears_all() -> bool:
        found = await get_layer().store.connections.async_().info("clients")
        return bool(found["blocked_clients"] == len(channels))

    worker = Worker(application(handle), dict.fromkeys(channels, 1), get_layer())
    running = asyncio.create_task(worker.run())
    await asyncio.sleep(0)  # the worker says how many connections it needs before the first one is made
    try:
        await await_for(hears_all, "it listens to all", timeout=8)
        for channel in channels:
            await aenqueue(channel, {"type": "x"})
        await await_for(lambda: ran == set(channels), "all of them run", timeout=8)
    finally:
        worker.stop()
        await running
        await get_layer().close_pools()
