"""@periodic under @task: each slot is a task like any other, with its result."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from channels.routing import ProtocolTypeRouter

from retrying import InvalidSchedule, periodic, schedule
from retrying.backends import registry
from retrying.backends.registry import tasks as registered
from retrying.layers import get_layer
from retrying.management.routes import routes_for
from retrying.schedule.discovery import declared
from retrying.schedule.scheduler import Scheduler
from retrying.testing import run_until_idle
from retrying.worker import Worker
from tests.conftest import await_for
from tests.tasks.compat import TaskResultStatus, task
from tests.tasks.ticking import tasks

CHANNEL = "tasks.default"
NOTHING = ProtocolTypeRouter({})


@pytest.fixture(autouse=True)
def _ticking(settings: Any) -> Iterator[None]:
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "tests.tasks.ticking"]
    registered.cache_clear()
    tasks.RAN.clear()
    yield
    registered.cache_clear()


def test_schedules_of_tasks_are_found() -> None:
    found = declared(NOTHING)
    assert {name: found[name].channel for name in ("nightly", "tick")} == {"nightly": CHANNEL, "tick": CHANNEL}
    assert found["nightly"].make("x").priority == 5
    assert found["nightly"].make("x").id == f"x@{CHANNEL}"


async def test_slots_are_tasks_with_results() -> None:
    layer = get_layer()
    schedules = [item for item in declared(NOTHING).values() if item.name == "tick"]
    routes = routes_for([CHANNEL], "default")
    worker = Worker(NOTHING, {CHANNEL: 2}, layer, routes=routes, beside=[Scheduler(schedules, layer.store).run])
    running = asyncio.create_task(worker.run())
    try:
        await await_for(lambda: len(tasks.RAN) >= 2, "two slots ran")
    finally:
        worker.stop()
        assert await running == 0
    first, second = tasks.RAN[:2]
    assert first is not None
    assert second is not None
    assert second - first == timedelta(seconds=1)
    result = await tasks.tick.aget_result(f"schedule:tick:{first:%Y-%m-%dT%H:%M:%SZ}@{CHANNEL}")
    assert (result.status, result.return_value, result.attempts) == (TaskResultStatus.SUCCESSFUL, "tock", 1)
    await layer.close_pools()


def test_one_is_run_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrying.routes.get_default_application", lambda: NOTHING)
    id = schedule.run("nightly")
    run_until_idle(CHANNEL, application=NOTHING)
    assert tasks.nightly.get_result(id).return_value == 30


@periodic(every=timedelta(seconds=1), name="needs")
def needs(a: int) -> None: ...


def test_a_task_that_needs_arguments_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    needy = task(needs)
    with monkeypatch.context() as patch:
        patch.setattr(registry, "tasks", lambda: {"needs": needy})
        with pytest.raises(InvalidSchedule, match="called without arguments: missing a required argument: 'a'"):
            declared(NOTHING)


def test_above_task_it_is_refused_in_words() -> None:
    with pytest.raises(TypeError, match="under @task"):
        periodic(every=timedelta(seconds=1), name="above")(tasks.tick)  # type: ignore[type-var]


def test_another_backend_runs_the_same_function(settings: Any) -> None:
    immediate = "django_tasks.backends.immediate.ImmediateBackend"
    if task.__module__.startswith("django.tasks"):
        immediate = "django.tasks.backends.immediate.ImmediateBackend"
    settings.TASKS = {"default": {"BACKEND": immediate}}
    assert tasks.nightly.using(backend="default").enqueue(keep=7).return_value == 7
    assert declared(NOTHING) == {}
