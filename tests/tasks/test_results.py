"""A task is enqueued, run, retried, and its result read back."""

from __future__ import annotations

import pytest

from retrying.testing import advance, arun_until_idle, run_until_idle
from tests.tasks.compat import TaskResultStatus
from tests.tasks.sample import tasks

CHANNEL = "tasks.default"


@pytest.mark.parametrize("name", ["add", "add_async"])
def test_a_task_runs_and_its_result_is_read_back(name: str) -> None:
    task = getattr(tasks, name)
    result = task.enqueue(1, b=2)
    assert result.status == TaskResultStatus.READY
    assert task.get_result(result.id).status == TaskResultStatus.READY
    (ran,) = run_until_idle(CHANNEL)
    assert (ran.outcome, ran.type) == ("succeeded", f"tests.tasks.sample.tasks.{name}")
    result.refresh()
    assert result.status == TaskResultStatus.SUCCESSFUL
    assert result.return_value == 3
    assert result.attempts == 1
    assert result.errors == []
    assert result.enqueued_at <= result.started_at <= result.finished_at


def test_a_task_that_fails_is_tried_again() -> None:
    result = tasks.fails.enqueue(2)
    for attempt in (1, 2):
        run_until_idle(CHANNEL)
        result.refresh()
        assert result.status == TaskResultStatus.READY
        assert [error.exception_class for error in result.errors] == [ValueError] * attempt
        assert f"failure {attempt}" in result.errors[-1].traceback
        assert run_until_idle(CHANNEL) == []
        advance(6.5)
    run_until_idle(CHANNEL)
    result.refresh()
    assert (result.status, result.return_value, result.attempts) == (TaskResultStatus.SUCCESSFUL, "at last", 3)
    assert len(set(result.worker_ids)) == 3  # run_until_idle starts a worker each time


async def test_the_same_from_async_code() -> None:
    result = await tasks.add_async.aenqueue(1)
    await arun_until_idle(CHANNEL)
    await result.arefresh()
    assert result.return_value == 2


def test_a_task_knows_its_context() -> None:
    result = tasks.tell.enqueue()
    run_until_idle(CHANNEL)
    result.refresh()
    assert result.return_value == {
        "attempt": 1, "id": result.id, "workers": result.worker_ids, "status": TaskResultStatus.RUNNING,
    }  # fmt: skip
