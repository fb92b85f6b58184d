"""Tasks in the worker: which ones may run, where they run, and what they leave behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from channels.routing import ProtocolTypeRouter
from django.db import connection

from retrying import InvalidJob, State, current_job, enqueue, jobs
from retrying.backends import registry
from retrying.layers import get_layer
from retrying.management.routes import routes_for
from retrying.routes import NoRoute
from retrying.testing import run_until_idle
from retrying.worker import Worker
from tests.conftest import await_for
from tests.tasks.compat import TaskResultStatus, task_finished, task_started
from tests.tasks.sample import tasks

CHANNEL = "tasks.default"
BACKEND = {"BACKEND": "retrying.backends.RetryingBackend"}


def done(task: Any, *args: Any) -> Any:
    result = task.enqueue(*args)
    run_until_idle(CHANNEL)
    result.refresh()
    return result.return_value


@asynccontextmanager
async def working(concurrency: int) -> AsyncIterator[Worker]:
    layer = get_layer()
    routes = routes_for([CHANNEL], "default")
    worker = Worker(ProtocolTypeRouter({}), {CHANNEL: concurrency}, layer, routes=routes)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        assert await asyncio.wait_for(running, 20) == 0
        await layer.close_pools()


async def finished(result: Any) -> Any:
    async def there() -> bool:
        await result.arefresh()
        return bool(result.is_finished)

    await await_for(there, "the task has ended")
    return result


@pytest.mark.parametrize("name", ["says_who", "says_who_in_thread"])
def test_current_job(name: str) -> None:
    task = getattr(tasks, name)
    result = task.enqueue()
    run_until_idle(CHANNEL)
    result.refresh()
    assert result.return_value == [result.id, CHANNEL, 1]


@pytest.mark.parametrize("name", ["paints", "paints_in_thread"])
def test_one_task_leaves_nothing_in_the_context_of_the_next(name: str) -> None:
    task = getattr(tasks, name)
    assert done(task, "red") == "none"
    first, second = task.enqueue("green"), task.enqueue("blue")
    run_until_idle(CHANNEL)
    for result in (first, second):
        result.refresh()
        assert result.return_value == "none"


@pytest.mark.parametrize("name", ["counts_rows", "counts_rows_async"])
@pytest.mark.django_db(transaction=True)
def test_the_database_is_used_in_the_slot_s_thread(name: str, settings: Any) -> None:
    thread, connected = done(getattr(tasks, name))
    assert thread.startswith("retrying-slot")
    assert connected


@pytest.mark.parametrize(("age", "kept"), [(0, False), (None, True)])
@pytest.mark.parametrize("name", ["counts_rows", "counts_rows_async"])
@pytest.mark.django_db(transaction=True)
async def test_connections_live_as_in_the_request_cycle(
    name: str, age: int | None, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed after each task, unless CONN_MAX_AGE keeps them; in the end all are closed."""
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", age)
    tasks.CONNECTIONS.clear()
    async with working(1):
        await finished(await getattr(tasks, name).aenqueue())
        (used,) = tasks.CONNECTIONS
        assert (used.connection is not None) is kept
    assert used.connection is None


async def test_async_to_sync_in_a_sync_task_runs_on_the_worker_s_loop() -> None:
    async with working(1):
        result = await finished(await tasks.asks_the_loop.aenqueue())
    assert result.return_value == [id(asyncio.get_running_loop()), result.id]


@pytest.mark.django_db(transaction=True)
async def test_receivers_of_a_sync_task_are_called_in_its_thread_and_context() -> None:
    heard: list[tuple[str, str, str]] = []

    def receiver(signal: Any, task_result: Any, **_: Any) -> None:
        name = "started" if signal is task_started else "finished"
        heard.append((name, threading.current_thread().name, current_job().id))

    async def async_receiver(signal: Any, task_result: Any, **_: Any) -> None:
        heard.append(("async", threading.current_thread().name, current_job().id))

    for signal in (task_started, task_finished):
        signal.connect(receiver)
    task_finished.connect(async_receiver)
    try:
        async with working(1):
            result = await finished(await tasks.counts_rows.aenqueue())
    finally:
        for signal in (task_started, task_finished):
            signal.disconnect(receiver)
        task_finished.disconnect(async_receiver)
    thread, _ = result.return_value
    main = threading.current_thread().name
    assert sorted(heard) == [
        ("async", main, result.id),
        ("finished", thread, result.id),
        ("started", thread, result.id),
    ]


@pytest.mark.alone
@pytest.mark.django_db(transaction=True)
async def test_slow_queries_of_one_task_hold_up_no_other() -> None:
    async with working(10):
        began = asyncio.get_running_loop().time()
        results = [await tasks.counts_rows.aenqueue(0.3) for _ in range(10)]
        for result in results:
            await finished(result)
        assert asyncio.get_running_loop().time() - began < 1.5  # one after the other: 3 s


async def test_a_running_task_can_be_cancelled() -> None:
    async with working(1):
        result = await tasks.sleeps.aenqueue(60)
        await await_for(lambda: tasks.RAN, "it runs")
        await jobs.acancel(CHANNEL, result.id, "enough")
        await finished(result)
    assert result.status == TaskResultStatus.FAILED
    job = await jobs.aget(CHANNEL, result.id)
    assert job is not None
    assert (job.state, job.reason) == (State.CANCELLED, "enough")


async def test_a_stopped_worker_gives_its_tasks_back() -> None:
    layer = get_layer()
    async with working(1) as worker:
        worker.shutdown_timeout = 0
        result = await tasks.sleeps.aenqueue(60)
        await await_for(lambda: tasks.RAN, "it runs")
    await result.arefresh()
    assert (result.status, result.errors) == (TaskResultStatus.READY, [])
    await layer.close_pools()


def test_a_task_that_the_code_no_longer_has_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    result = tasks.add.enqueue(1)
    with monkeypatch.context() as without:
        without.delitem(registry.tasks(), tasks.add.module_path)
        run_until_idle(CHANNEL)
        job = jobs.get(CHANNEL, result.id)
    assert job is not None
    assert job.state == State.DEAD
    assert "no task 'tests.tasks.sample.tasks.add'" in job.reason
    jobs.redrive(CHANNEL, result.id)
    run_until_idle(CHANNEL)
    result.refresh()
    assert result.return_value == 2


@pytest.mark.parametrize(
    "message",
    [
        {"type": "os.system", "backend": "default", "queue": "default", "args": ["true"], "kwargs": {}},
        {"type": "tests.tasks.outside.unlisted", "backend": "default", "queue": "default", "args": [], "kwargs": {}},
        {"type": "retrying.enqueue", "backend": "default", "queue": "default", "args": [], "kwargs": {}},
        {"type": "tests.tasks.sample.tasks.add", "backend": "nobody", "queue": "default", "args": [], "kwargs": {}},
        {"type": "tests.tasks.sample.tasks.add"},
        {"type": "tests.tasks.sample.tasks.add", "backend": "default", "queue": "default", "args": 3, "kwargs": None},
    ],
)
def test_only_tasks_run(message: dict[str, Any]) -> None:
    """Whatever somebody put into the store."""
    job = enqueue(CHANNEL, message)
    (ran,) = run_until_idle(CHANNEL)
    assert ran.outcome == "dead"
    assert tasks.RAN == []
    assert jobs.get(CHANNEL, job.id).state == State.DEAD  # type: ignore[union-attr]


def test_routes(settings: Any) -> None:
    settings.RETRYING = {**settings.RETRYING, "ROUTES": {"tests.tasks.sample.tasks.add_*": "heavy"}}
    light, heavy = tasks.add.enqueue(1), tasks.add_async.enqueue(1)
    assert (jobs.counts(CHANNEL).ready, jobs.counts("heavy").ready) == (1, 1)
    run_until_idle("heavy")
    heavy.refresh()
    light.refresh()
    assert (heavy.return_value, light.status) == (2, TaskResultStatus.READY)
    assert heavy.task.queue_name == "default"


def test_queues_of_any_name(settings: Any) -> None:
    settings.TASKS = {"default": {**BACKEND, "QUEUES": []}}
    result = tasks.add.using(queue_name="nightly").enqueue(1)
    run_until_idle("tasks.nightly")
    result.refresh()
    assert (result.return_value, result.task.queue_name) == (2, "nightly")


def test_a_queue_that_no_backend_has_is_not_for_tasks() -> None:
    assert routes_for(["tasks.other", "work"], "default") == {}
    with pytest.raises((NoRoute, InvalidJob)):
        run_until_idle("tasks.other")
