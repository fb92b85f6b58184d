"""Consumers that the worker calls directly, and the same classes as ordinary ASGI applications."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from contextvars import ContextVar
from typing import Any

import pytest
from channels.consumer import AsyncConsumer
from channels.exceptions import StopConsumer
from channels.layers import get_channel_layer
from channels.testing import ApplicationCommunicator

from retrying import Bury, RetryPolicy, State, aenqueue, current_job, retry
from retrying.consumers import BackgroundConsumer
from retrying.routes import ApplicationRoute, NoHandler
from tests.retrying.running import CHANNEL, reached, routed, running

MESSAGE = {"type": "work.do"}
ONCE = RetryPolicy(max_retries=0)
SEEN: list[Any] = []
COLOUR: ContextVar[str] = ContextVar("COLOUR", default="none")


class Worker(BackgroundConsumer):
    def __init__(self, greeting: str = "hello") -> None:
        self.greeting = greeting
        self.messages = 0

    async def work_do(self, message: dict[str, Any]) -> None:
        self.messages += 1
        colour = COLOUR.get()
        COLOUR.set("red")
        SEEN.append((self.greeting, self.messages, current_job().id, threading.current_thread().name, colour))

    def work_sync(self, message: dict[str, Any]) -> None:
        self.messages += 1
        SEEN.append((self.greeting, self.messages, current_job().id, threading.current_thread().name, COLOUR.get()))

    @retry(max_retries=7)
    async def work_fail(self, message: dict[str, Any]) -> None:
        raise ValueError("no")

    @retry(max_retries=3)
    def work_fail_sync(self, message: dict[str, Any]) -> None:
        raise ValueError("no")

    async def work_stop(self, message: dict[str, Any]) -> None:
        raise StopConsumer

    def work_forgets_async(self, message: dict[str, Any]) -> Any:
        return asyncio.sleep(0)

    async def work_sends(self, message: dict[str, Any]) -> None:
        await self.send({"type": "to.nobody"})

    async def work_forwards(self, message: dict[str, Any]) -> None:
        assert self.channel_layer is get_channel_layer()
        assert self.scope == {"type": "channel", "channel": CHANNEL}
        await self.channel_layer.send(CHANNEL, MESSAGE)


class Middleware:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        return await self.inner({**scope, "seen": True}, receive, send)


APPLICATIONS = pytest.mark.parametrize(
    "application", [Worker, Middleware(Worker.as_asgi())], ids=["direct", "behind middleware"]
)


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    SEEN.clear()


def route(application: Any) -> ApplicationRoute:
    return ApplicationRoute(routed(application), CHANNEL, RetryPolicy())


def test_it_is_called_directly_only_where_nothing_stands_between() -> None:
    class Dispatches(Worker):
        async def dispatch(self, message: dict[str, Any]) -> None: ...

    class Answers(Worker):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    assert route(Worker).is_direct
    assert route(Worker.as_asgi(greeting="hi")).is_direct
    for other in (Dispatches, Answers, AsyncConsumer, Middleware(Worker.as_asgi())):
        assert not route(other).is_direct


def test_how_its_handlers_are_treated() -> None:
    found = route(Worker)
    assert (found.handler("work.fail").policy.max_retries, found.handler("work.fail").cancellable) == (7, True)
    assert (found.handler("work.fail_sync").policy.max_retries, found.handler("work.fail_sync").cancellable) == (
        3,
        False,
    )
    for none in ("dispatch", "send", "open", "handler", "__init__", "messages", "nothing.like.it"):
        with pytest.raises(NoHandler):
            found.handler(none)


@APPLICATIONS
async def test_both_kinds_of_handlers_run_on_one_instance(application: Any) -> None:
    for job, kind in (("1", "work.do"), ("2", "work.sync"), ("3", "work.do")):
        await aenqueue(CHANNEL, {"type": kind}, job_id=job)
    async with running(application):
        await reached("3", State.SUCCEEDED)
    main = threading.main_thread().name
    assert [(greeting, messages, job) for greeting, messages, job, *_ in SEEN] == [
        ("hello", 1, "1"), ("hello", 2, "2"), ("hello", 3, "3"),
    ]  # fmt: skip
    assert [thread == main for *_, thread, _ in SEEN] == [True, False, True]


async def test_arguments_of_as_asgi_and_a_context_of_its_own_for_each_message() -> None:
    for job in ("1", "2"):
        await aenqueue(CHANNEL, MESSAGE, job_id=job)
    async with running(Worker.as_asgi(greeting="hi")):
        await reached("2", State.SUCCEEDED)
    assert [(greeting, colour) for greeting, *_, colour in SEEN] == [("hi", "none"), ("hi", "none")]


@APPLICATIONS
async def test_a_handler_that_raised_takes_its_instance_along(application: Any) -> None:
    async with running(application):
        for job, kind in (("1", "work.do"), ("2", "work.fail"), ("3", "work.do"), ("4", "work.stop"), ("5", "work.do")):
            await aenqueue(CHANNEL, {"type": kind}, job_id=job, policy=ONCE)
            await reached(job, State.SUCCEEDED, State.DEAD)
    assert [messages for _, messages, *_ in SEEN] == [1, 1, 1]
    assert (await reached("2", State.DEAD)).error == "ValueError: no"
    await reached("4", State.SUCCEEDED)


@APPLICATIONS
@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("work.fail_sync", "ValueError: no"),
        ("work.sends", "no client to send to"),
        ("work.forgets_async", "declare it as async def"),
        ("no.such", "no.such"),
        ("dispatch", "no handler for type 'dispatch'"),
        ("_private", ""),
    ],
)
async def test_what_goes_wrong_is_told(application: Any, kind: str, error: str) -> None:
    await aenqueue(CHANNEL, {"type": kind}, job_id="bad", policy=ONCE)
    async with running(application):
        job = await reached("bad", State.DEAD)
    assert error in job.error + job.reason


async def test_it_has_the_layer_and_the_scope() -> None:
    await aenqueue(CHANNEL, {"type": "work.forwards"}, job_id="1")
    async with running(Worker):
        await reached("1", State.SUCCEEDED)
    assert len(SEEN) == 1


async def test_a_swallowed_cancellation_ends_the_instance() -> None:
    class Swallows(Worker):
        @retry(max_retries=0, timeout=0.2)
        async def work_wait(self, message: dict[str, Any]) -> None:
            self.messages = 100
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    await aenqueue(CHANNEL, {"type": "work.wait"}, job_id="1")
    await aenqueue(CHANNEL, MESSAGE, job_id="2")
    async with running(Swallows):
        await reached("2", State.SUCCEEDED)
        assert (await reached("1", State.DEAD)).error.startswith("AttemptTimeout")
    assert [messages for _, messages, *_ in SEEN] == [1]


async def test_it_is_an_asgi_application_like_any_other() -> None:
    """As under Channels' own worker: messages come in, nobody knows of jobs."""
    ran: list[str] = []

    class Plain(BackgroundConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            ran.append("async")

        def work_sync(self, message: dict[str, Any]) -> None:
            ran.append("sync")

        async def work_bury(self, message: dict[str, Any]) -> None:
            raise Bury("no")

    one = ApplicationCommunicator(Plain.as_asgi(), {"type": "channel", "channel": CHANNEL})
    for kind in ("work.do", "work.sync", "work.bury"):
        await one.send_input({"type": kind})
    with pytest.raises(Bury):
        await one.wait()
    assert ran == ["async", "sync"]
