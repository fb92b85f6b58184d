"""Enqueued when the transaction of a database other than the default one commits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.db import connections, transaction

from retrying import jobs
from tests.tasks.sample import tasks

CHANNEL = "tasks.default"
BACKEND = {"BACKEND": "retrying.backends.RetryingBackend", "QUEUES": ["default"]}


class RolledBack(Exception):
    """Ends a transaction."""


@pytest.fixture
def two(tmp_path: Path, django_db_blocker: Any) -> Iterator[tuple[str, str]]:
    """Aliases of two databases, neither of them the default one; Django's test cases know nothing of them."""
    names = ("first", "second")
    for name in names:
        own = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / name), "OPTIONS": {}}
        connections.settings[name] = {**connections["default"].settings_dict, **own}
    with django_db_blocker.unblock():
        yield names
    for name in names:
        connections[name].close()
        del connections[name], connections.settings[name]


@pytest.mark.parametrize("said_by", ["task", "call", "option"])
def test_only_the_commit_of_that_database_counts(said_by: str, two: tuple[str, str], settings: Any) -> None:
    first, second = two
    task = tasks.add
    if said_by == "task":  # as @task(enqueue_on_commit="second") makes it
        task = replace(task, enqueue_on_commit=second)
    elif said_by == "call":
        task = task.using(enqueue_on_commit=second)
    else:
        settings.TASKS = {"default": {**BACKEND, "OPTIONS": {"ENQUEUE_ON_COMMIT": second}}}

    with suppress(RolledBack), transaction.atomic(using=first):
        with transaction.atomic(using=second):
            task.enqueue(1)
            assert jobs.counts(CHANNEL).ready == 0
        assert jobs.counts(CHANNEL).ready == 1
        raise RolledBack
    with transaction.atomic(using=first), suppress(RolledBack), transaction.atomic(using=second):
        task.enqueue(2)
        raise RolledBack
    assert jobs.counts(CHANNEL).ready == 1
    with transaction.atomic(using=first):  # no transaction of the second one is open: at once
        task.enqueue(3)
        assert jobs.counts(CHANNEL).ready == 2
