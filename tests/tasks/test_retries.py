"""How a task ends, and when it is tried again: by @retry, by @task, by the queue, by what it raises."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import django
import pytest

from retrying import RetryPolicy, State, jobs
from retrying.backends import registry
from retrying.exceptions import AttemptTimeout
from retrying.testing import advance, run_until_idle
from tests.tasks.compat import TaskResultStatus, task
from tests.tasks.sample import tasks

CHANNEL = "tasks.default"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets a sample task be one that ``@task`` was told more of."""

    def tell(name: str, **fields: Any) -> Any:
        found = replace(getattr(tasks, name), **fields)
        monkeypatch.setitem(registry.tasks(), found.module_path, found)
        return found

    return tell


def outcomes(result: Any) -> list[str]:
    """What each attempt came to, until there is no next one."""
    found: list[str] = []
    while ran := run_until_idle(CHANNEL):
        found += [item.outcome for item in ran]
        job = jobs.get(CHANNEL, result.id)
        if job is not None and job.due_at is not None:
            advance(4000)
    result.refresh()
    return found


def test_by_retry_under_task() -> None:
    result = tasks.fails.enqueue(99)
    assert outcomes(result) == ["retrying", "retrying", "dead"]
    assert (result.status, result.attempts, len(result.errors)) == (TaskResultStatus.FAILED, 3, 3)


def test_by_the_queue(settings: Any) -> None:
    settings.RETRYING = {**settings.RETRYING, "CHANNELS": {CHANNEL: {"max_retries": 1, "backoff": 1}}}
    assert outcomes(tasks.raises.enqueue("ValueError")) == ["retrying", "dead"]


def test_by_the_default_policy() -> None:
    assert outcomes(tasks.raises.enqueue("ValueError")) == ["retrying", "retrying", "dead"]


def test_by_the_call() -> None:
    policy = RetryPolicy(max_retries=0)
    assert outcomes(tasks.raises.using(policy=policy).enqueue("ValueError")) == ["dead"]


def test_by_what_task_takes(told: Any) -> None:
    raises = told("raises", max_attempts=4, backoff=timedelta(seconds=7))
    result = raises.enqueue("ValueError")
    run_until_idle(CHANNEL)
    job = jobs.get(CHANNEL, result.id)
    assert job is not None
    assert job.due_at is not None
    assert job.started_at is not None
    assert timedelta(seconds=7) <= job.due_at - job.started_at <= timedelta(seconds=10)
    advance(10)
    assert outcomes(result) == ["retrying", "retrying", "dead"]


def test_a_backoff_function_gets_the_result_as_proposed_for_django(told: Any) -> None:
    seen: list[Any] = []

    def backoff(error: BaseException, task_result: Any) -> float | None:
        seen.append((str(error), task_result.id, task_result.attempts, len(task_result.errors)))
        return None if task_result.attempts == 3 else 1.0

    result = told("raises", max_attempts=10, backoff=backoff).enqueue("ValueError", "no")
    assert outcomes(result) == ["retrying", "retrying", "dead"]
    assert seen == [("no", result.id, n, n) for n in (1, 2, 3)]


def test_the_decorator_takes_them_except_on_django_6_0() -> None:
    told: dict[str, Any] = {"max_attempts": 2, "backoff": [1, 2], "enqueue_on_commit": True}
    if (6,) <= django.VERSION < (6, 1):
        for name, value in told.items():
            with pytest.raises(TypeError, match=rf"task\(\) got an unexpected keyword argument '{name}'"):
                task(**{name: value})(tasks.add.func)
    else:
        declared = task(**told)(tasks.add.func)
        assert (declared.max_attempts, declared.backoff.delays, declared.enqueue_on_commit) == (2, (1.0, 2.0), True)


@pytest.mark.parametrize(
    ("raised", "states", "error"),
    [
        (("Bury", "no use"), ["dead"], "no use"),
        (("Discard", "not wanted"), ["cancelled"], "not wanted"),
        (("RetryLater", 1), ["retrying", "retrying", "dead"], "retry in 1"),
        (("SystemExit",), ["retrying", "retrying", "dead"], "SystemExit"),
        (("KeyboardInterrupt",), ["retrying", "retrying", "dead"], "KeyboardInterrupt"),
    ],
)
def test_by_what_it_raises(raised: tuple[Any, ...], states: list[str], error: str) -> None:
    result = tasks.raises.enqueue(*raised)
    assert outcomes(result) == states
    assert result.status == TaskResultStatus.FAILED
    assert error in result.errors[-1].traceback
    assert issubclass(result.errors[-1].exception_class, BaseException)


def test_a_snooze_is_no_failure() -> None:
    result = tasks.raises.enqueue("Snooze", 60)
    run_until_idle(CHANNEL)
    result.refresh()
    assert (result.status, result.errors, result.attempts) == (TaskResultStatus.READY, [], 1)
    job = jobs.get(CHANNEL, result.id)
    assert job is not None
    assert (job.state, job.failures) == (State.SCHEDULED, 0)


@pytest.mark.parametrize("name", ["too_slow", "swallows"])
def test_a_timeout(name: str, caplog: Any) -> None:
    """Also of a task that swallows its cancellation and returns something: its end was decided before."""
    with caplog.at_level("INFO"):
        result = getattr(tasks, name).enqueue()
        assert outcomes(result) == ["dead"]
    assert result.status == TaskResultStatus.FAILED
    assert result.errors[-1].exception_class is AttemptTimeout
    assert [item for item in caplog.records if "state=FAILED" in item.getMessage()]
    assert not [item for item in caplog.records if "state=SUCCESSFUL" in item.getMessage()]


@pytest.mark.parametrize(("kind", "words"), [("date", "datetime.date"), ("large", "2000")])
def test_a_return_value_that_cannot_be_kept_is_not_tried_again(kind: str, words: str) -> None:
    result = tasks.returns.enqueue(kind)
    assert outcomes(result) == ["dead"]
    assert [kind] == tasks.RAN
    assert "its return value" in result.errors[-1].traceback
    assert words in result.errors[-1].traceback


def test_a_return_value_is_made_json_as_django_does() -> None:
    result = tasks.returns.enqueue("tuple")
    assert outcomes(result) == ["succeeded"]
    assert result.return_value == [1, "two"]


def test_a_dead_task_can_be_redriven() -> None:
    result = tasks.fails.enqueue(3)
    assert outcomes(result) == ["retrying", "retrying", "dead"]
    jobs.redrive(CHANNEL, result.id)
    assert outcomes(result) == ["succeeded"]
    assert (result.return_value, result.attempts, len(result.errors)) == ("at last", 4, 3)


def test_a_sync_task_that_raises_what_no_future_carries() -> None:
    result = tasks.stops.enqueue()
    assert outcomes(result) == ["dead"]
    assert "StopIteration" in result.errors[-1].traceback
