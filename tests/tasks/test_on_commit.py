"""Enqueued when the transaction commits, never when it is rolled back; the result's id is known before."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction

from retrying import jobs
from tests.tasks.compat import InvalidTask, TaskResultDoesNotExist, TaskResultStatus, task_enqueued
from tests.tasks.sample import tasks

CHANNEL = "tasks.default"
BACKEND = {"BACKEND": "retrying.backends.RetryingBackend", "QUEUES": ["default"]}

pytestmark = pytest.mark.django_db(transaction=True)


def ready() -> int:
    return jobs.counts(CHANNEL).ready


class RolledBack(Exception):
    """Ends a transaction."""


def test_per_call() -> None:
    task = tasks.add.using(enqueue_on_commit=True)
    with transaction.atomic():
        result = task.enqueue(1)
        assert result.status == TaskResultStatus.READY
        assert (ready(), result.enqueued_at) == (0, None)
        with pytest.raises(TaskResultDoesNotExist):
            task.get_result(result.id)
    assert ready() == 1
    assert result.enqueued_at == task.get_result(result.id).enqueued_at


def test_rolled_back_is_never_enqueued() -> None:
    heard: list[Any] = []

    def receiver(**found: Any) -> None:
        heard.append(found)

    task_enqueued.connect(receiver)
    try:
        with suppress(RolledBack), transaction.atomic():
            tasks.add.using(enqueue_on_commit=True).enqueue(1)
            raise RolledBack
    finally:
        task_enqueued.disconnect(receiver)
    assert (ready(), heard) == (0, [])


def test_without_a_transaction_at_once() -> None:
    tasks.add.using(enqueue_on_commit=True).enqueue(1)
    assert ready() == 1


def test_not_by_default() -> None:
    with transaction.atomic():
        tasks.add.enqueue(1)
        assert ready() == 1


@pytest.mark.parametrize("option", [True, "default"])
def test_by_option_and_not_for_one_task(settings: Any, option: Any) -> None:
    settings.TASKS = {"default": {**BACKEND, "OPTIONS": {"ENQUEUE_ON_COMMIT": option}}}
    with transaction.atomic():
        tasks.add.enqueue(1)
        assert ready() == 0
        tasks.add.using(enqueue_on_commit=False).enqueue(2)
        assert ready() == 1
    assert ready() == 2


def test_by_the_task() -> None:
    """As ``@task(enqueue_on_commit=True)`` makes it; what the call says goes over it."""
    task = replace(tasks.add, enqueue_on_commit=True)
    with transaction.atomic():
        result = task.enqueue(1)
        assert ready() == 0
        task.using(enqueue_on_commit=False).enqueue(2)
        assert ready() == 1
    assert ready() == 2
    assert task.get_result(result.id).args == [1]


def test_a_database_that_does_not_exist() -> None:
    with pytest.raises(InvalidTask, match="enqueue_on_commit names the database 'nowhere'; DATABASES has 'default'"):
        tasks.add.using(enqueue_on_commit="nowhere").enqueue(1)
    assert ready() == 0


def test_the_innermost_savepoint_counts() -> None:
    with transaction.atomic():
        with suppress(RolledBack), transaction.atomic():
            tasks.add.using(enqueue_on_commit=True).enqueue(1)
            raise RolledBack
        tasks.add.using(enqueue_on_commit=True).enqueue(2)
    assert ready() == 1


def test_async_code_below_a_transaction() -> None:
    """The transaction is in the thread of the sync code above."""
    with transaction.atomic():
        result = async_to_sync(tasks.add.using(enqueue_on_commit=True).aenqueue)(1)
        assert (ready(), result.enqueued_at) == (0, None)
    assert ready() == 1


async def test_async_code_without_one() -> None:
    await tasks.add.using(enqueue_on_commit=True).aenqueue(1)
    assert await sync_to_async(ready)() == 1
