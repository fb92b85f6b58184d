"""Observers are told of every attempt, in the context of its handler, and change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from channels.consumer import AsyncConsumer, SyncConsumer

from retrying import State, aenqueue, hooks, retry
from retrying.attempt import Attempt, Ending
from retrying.consumers import BackgroundConsumer
from tests.retrying.running import CHANNEL, reached, running

SEEN: ContextVar[str] = ContextVar("SEEN", default="")


class Witness:
    def __init__(self) -> None:
        self.began_with: list[dict[str, str]] = []
        self.ends: list[tuple[str, str, str]] = []
        self.sent: list[tuple[str, str, str]] = []

    def sending(self, channel: str, job_id: str, message_type: str) -> dict[str, str]:
        self.sent.append((channel, job_id, message_type))
        return {"traceparent": job_id}

    def began(self, attempt: Attempt) -> Callable[[Ending], object]:
        self.began_with.append(dict(attempt.carried))
        SEEN.set(attempt.lease.job_id)

        def ended(ending: Ending) -> None:
            self.ends.append((SEEN.get(), ending.end, type(attempt.error).__name__))

        return ended


class Broken:
    def sending(self, channel: str, job_id: str, message_type: str) -> dict[str, str]:
        raise ZeroDivisionError

    def began(self, attempt: Attempt) -> Callable[[Ending], object]:
        raise ZeroDivisionError


@pytest.fixture
def witness() -> Iterator[Witness]:
    made = Witness()
    hooks.observe(Broken())
    hooks.observe(made)
    hooks.observe(made)
    yield made
    hooks.observers.clear()


class Async(AsyncConsumer):
    seen: list[Any] = []

    async def work_do(self, message: dict[str, Any]) -> None:
        self.seen.append((message, SEEN.get()))

    @retry(max_retries=0)
    async def work_fail(self, message: dict[str, Any]) -> None:
        raise ValueError("no")

    @retry(max_retries=0, timeout=0.3)
    async def work_hang(self, message: dict[str, Any]) -> None:
        await asyncio.sleep(60)


class Sync(SyncConsumer):
    seen: list[Any] = []

    def work_do(self, message: dict[str, Any]) -> None:
        self.seen.append((message, SEEN.get()))

    @retry(max_retries=0)
    def work_fail(self, message: dict[str, Any]) -> None:
        raise ValueError("no")


class DirectAsync(BackgroundConsumer):
    seen: list[Any] = []
    work_do, work_fail = Async.work_do, Async.work_fail


class DirectSync(BackgroundConsumer):
    seen: list[Any] = []
    work_do, work_fail = Sync.work_do, Sync.work_fail


@pytest.mark.parametrize("consumer", [Async, Sync, DirectAsync, DirectSync])
async def test_consumers(consumer: Any, witness: Witness) -> None:
    consumer.seen.clear()
    async with running(consumer):
        for job_id in ("a", "b"):
            await aenqueue(CHANNEL, {"type": "work.do", "n": 1}, job_id=job_id)
            await reached(job_id, State.SUCCEEDED)
        await aenqueue(CHANNEL, {"type": "work.fail"}, job_id="c")
        await reached("c", State.DEAD)
    assert consumer.seen == [({"type": "work.do", "n": 1}, "a"), ({"type": "work.do", "n": 1}, "b")]
    assert witness.sent[-1] == (CHANNEL, "c", "work.fail")
    assert witness.began_with == [{"traceparent": job_id} for job_id in "abc"]
    assert witness.ends == [("a", "success", "NoneType"), ("b", "success", "NoneType"), ("c", "burial", "ValueError")]


async def test_a_timeout_is_what_it_ends_with(witness: Witness) -> None:
    async with running(Async):
        await aenqueue(CHANNEL, {"type": "work.hang"}, job_id="t")
        await reached("t", State.DEAD)
    assert witness.ends == [("t", "burial", "AttemptTimeout")]


async def test_a_message_carries_nothing_to_handlers_whoever_sent_it() -> None:
    """Also on a worker that has no observer."""
    Async.seen.clear()
    async with running(Async):
        hooks.observe(Witness())
        await aenqueue(CHANNEL, {"type": "work.do"}, job_id="x")
        hooks.observers.clear()
        await reached("x", State.SUCCEEDED)
    assert [message for message, _ in Async.seen] == [{"type": "work.do"}]
