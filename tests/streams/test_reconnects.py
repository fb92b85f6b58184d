"""A thousand reconnects at random moments: every client has seen what the store's log says, once and in order."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from retrying import aenqueue, jobs, topics
from retrying.topics import Position
from tests.conftest import await_for
from tests.streams.clients import Client, Tab, chromium, in_node, in_tab, served
from tests.streams.figures import report
from tests.streams.havoc import Havoc
from tests.streams.parts import Daphne, worker
from tests.streams.site import CHANNEL


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    nodes: int
    tabs: int
    topics: int
    #: By each client.
    followed: int
    #: Jobs of each topic, one after the other (more, until there were enough reconnects), and what each says.
    rounds: int
    events: int
    per_second: float
    reconnects: int
    #: Mean seconds between two faults of one client, and between two kills of daphne.
    pause: float
    kill_every: float


SHORT = Plan(6, 0, topics=6, followed=3, rounds=2, events=70, per_second=70, reconnects=50, pause=0.12, kill_every=2.5)
WHOLE = Plan(
    12, 4, topics=20, followed=5, rounds=10, events=500, per_second=25, reconnects=1000, pause=1.6, kill_every=7
)


@pytest.mark.timeout(600)
@pytest.mark.long
@pytest.mark.parametrize("plan", [SHORT, WHOLE], ids=["short", "whole"])
async def test_every_client_sees_every_event_once(daphne: Daphne, tmp_path: Path, plan: Plan) -> None:
    seed = int(os.environ.get("SEED") or random.randrange(2**32))
    print(f"SEED={seed}")
    havoc = Havoc(seed, daphne, pause=plan.pause, kill_every=plan.kill_every)
    async with AsyncExitStack() as stack:
        stack.enter_context(daphne)
        stack.enter_context(worker(tmp_path)).ready()
        clients = await _clients(stack, daphne, plan, havoc.random)
        enough = lambda: sum(len(client.resumed) for client in clients) >= plan.reconnects  # noqa: E731
        hurting = [asyncio.create_task(havoc.to(client)) for client in clients]
        hurting.append(asyncio.create_task(havoc.kill(clients)))
        names = [f"topic.{number}" for number in range(plan.topics)]
        producing = asyncio.create_task(_produce(plan, names, enough))
        await await_for(lambda: producing.done() or _failed(hurting), "all was said", timeout=500)
        if _failed(hurting):
            for client in clients:
                print(client.name, client.connections, client.resumed[-3:], (await client.look())["status"])
        havoc.over.set()
        await asyncio.gather(*hurting, producing)
        logs = {topic: await whole_log(topic) for topic in names}
        for client in clients:
            await _compare(client, logs)
    _count(plan, clients, havoc, sum(len(log) for log in logs.values()))


async def _clients(stack: AsyncExitStack, daphne: Daphne, plan: Plan, choice: random.Random) -> list[Client]:
    users = range(1, plan.nodes + plan.tabs + 1)
    opened: list[AbstractAsyncContextManager[Client]]
    opened = [in_node(daphne, user, _some(plan, choice)) for user in users[: plan.nodes]]
    if plan.tabs:
        pages, window = stack.enter_context(served()), await stack.enter_async_context(chromium())
        opened += [in_tab(window, pages, daphne, user, _some(plan, choice)) for user in users[plan.nodes :]]
    return [await stack.enter_async_context(client) for client in opened]


def _some(plan: Plan, choice: random.Random) -> list[str]:
    return [f"topic.{number}" for number in sorted(choice.sample(range(plan.topics), plan.followed))]


async def _produce(plan: Plan, names: list[str], enough: Callable[[], bool]) -> None:
    async def idle() -> bool:
        counts = await jobs.acounts(CHANNEL)
        return counts.ready == counts.running == 0

    rounds = 0
    while rounds < plan.rounds or not enough():
        for topic in names:
            message = {"type": "stream.run", "events": plan.events, "per_second": plan.per_second, "bytes": 100}
            await aenqueue(CHANNEL, message, topic=topic)
        await await_for(idle, "a round is over", timeout=plan.events / plan.per_second * 5 + 20)
        rounds += 1


async def _compare(client: Client, logs: dict[str, list[list[Any]]]) -> None:
    """What it has seen, once it has got as far as the logs go, is what they say."""

    async def whole() -> dict[str, list[list[Any]]] | None:
        seen: dict[str, list[list[Any]]] = (await client.look())["seen"]
        return seen if all(len(events) >= len(logs[topic]) for topic, events in seen.items()) else None

    seen = await await_for(whole, f"{client.name} has seen everything") or {}
    assert seen.keys() == set(client.topics)
    for topic, events in seen.items():
        assert events == logs[topic], difference(client, topic, events, logs[topic])


def _failed(tasks: list[asyncio.Task[None]]) -> bool:
    return any(task.done() and task.exception() for task in tasks)


def _count(plan: Plan, clients: list[Client], havoc: Havoc, events: int) -> None:
    resumed = [resume for client in clients for resume in client.resumed]
    in_tabs = sum(len(client.resumed) for client in clients if isinstance(client, Tab))
    replayed = sum(bool(missed) for missed, _ in resumed)
    recovered = sum(whole for _, whole in resumed)
    connections = sum(client.connections - 1 for client in clients)
    print(f"{connections} connections after the first, {len(resumed)} of them lived long enough to resume every topic")
    print(f"{replayed} were sent what they had missed; what was done to them: {dict(havoc.did)}")
    assert len(resumed) >= plan.reconnects
    assert recovered >= 0.99 * len(resumed)
    assert replayed > len(resumed) / 10, "the faults hit where it hurts"
    if plan is WHOLE:
        assert events >= 100_000
        assert in_tabs >= 50
        report(
            "reconnects",
            f"{len(resumed)} ({in_tabs} in Chromium; {havoc.did['kill']} kills of daphne), {recovered} recovered by "
            f"replay ({replayed} had missed something), over {events} events to {len(clients)} clients: no gap, no "
            "repeat, in order",
        )


async def whole_log(topic: str) -> list[list[Any]]:
    """What the store has: [epoch, offset, name, number] of every event."""
    found: list[list[Any]] = []
    after: Position | None = None
    while True:
        piece = await topics.aread(CHANNEL, topic, after, limit=1000)
        if not piece.events:
            return found
        found += [
            [event.epoch, event.offset, event.name, event.data.get("data", {}).get("n")] for event in piece.events
        ]
        after = Position(piece.events[-1].epoch, piece.events[-1].offset)


def difference(client: Client, topic: str, seen: list[list[Any]], log: list[list[Any]]) -> str:
    """Where they part."""
    at = next(
        (n for n, (ours, theirs) in enumerate(zip(seen, log, strict=False)) if ours != theirs), min(len(seen), len(log))
    )
    return f"{client.name}, {topic}: at {at} of {len(log)} it saw {seen[at : at + 3]}, the log has {log[at : at + 3]}"
