"""A task enqueued many times at once, and once at a time by a unique name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from retrying import EnqueuedMany, jobs
from retrying.layers import get_layer
from retrying.testing import run_until_idle
from tests.tasks.compat import InvalidTask, TaskResultStatus
from tests.tasks.sample import tasks

CHANNEL = "tasks.default"


def test_many_by_name_and_by_position() -> None:
    assert tasks.add.enqueue_many([{"a": 1, "b": 2}, (3,), [4, 5]]) == EnqueuedMany(3, 0)
    run_until_idle(CHANNEL)
    assert tasks.RAN == [(1, 2), (3, 1), (4, 5)]


async def test_async() -> None:
    async def calls() -> AsyncIterator[dict[str, Any]]:
        for n in range(600):
            yield {"a": n}

    assert await tasks.add.aenqueue_many(calls()) == EnqueuedMany(600, 0)
    await get_layer().close_pools()
    assert jobs.counts(CHANNEL).ready == 600


def test_batch_is_resumed_and_its_results_are_found() -> None:
    with pytest.raises(InvalidTask, match=r"item 2 \(the items before it are stored\): arguments are a dict"):
        tasks.add.enqueue_many([(1,), (2,), 5, (4,)], batch="b")
    assert tasks.add.enqueue_many([(1,), (2,), (3,), (4,)], batch="b") == EnqueuedMany(2, 2)
    run_until_idle(CHANNEL)
    result = tasks.add.get_result("b:3@tasks.default")
    assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, 5)


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ([{"a": {1, 2}}], "item 0 .*"),
        (["text"], "item 0 .*arguments are a dict"),
        ([{1: 2}], "item 0 .*"),
    ],
)
def test_bad_arguments(calls: list[Any], words: str) -> None:
    with pytest.raises(InvalidTask, match=words):
        tasks.add.enqueue_many(calls)
    assert jobs.counts(CHANNEL).ready == 0


def test_batch_that_is_too_long_for_a_result_id() -> None:
    with pytest.raises(InvalidTask, match="job_id takes at most"):
        tasks.add.enqueue_many([(1,)], batch="x" * 60)


def test_unique_gives_the_first_result_back() -> None:
    first = tasks.add.using(unique="sum").enqueue(1)
    second = tasks.add.using(unique="sum").enqueue(2)
    assert (second.id, second.status) == (first.id, TaskResultStatus.READY)
    run_until_idle(CHANNEL)
    assert tasks.RAN == [(1, 1)]
    assert tasks.add.using(unique="sum").enqueue(3).id != first.id
