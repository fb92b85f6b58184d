"""What Django's documentation and code promise of a backend, and what its results say."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import django
import pytest

from retrying import jobs
from retrying.exceptions import WorkerVanished
from retrying.layers import get_layer
from retrying.testing import advance, run_until_idle
from tests.conftest import wait_for
from tests.tasks.compat import (
    TaskResultDoesNotExist,
    TaskResultMismatch,
    TaskResultStatus,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)
from tests.tasks.sample import tasks

CHANNEL = "tasks.default"
#: The name of Django's own log of tasks.
LOG = "django.tasks" if django.VERSION >= (6,) else "django_tasks"
BACKEND = {"BACKEND": "retrying.backends.RetryingBackend"}


def ended(result: Any) -> Any:
    """``result`` once nothing is left to do."""
    run_until_idle(CHANNEL)
    result.refresh()
    return result


def test_all_four_abilities() -> None:
    backend: Any = task_backends["default"]
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority


def test_larger_priorities_first() -> None:
    tasks.add.enqueue(1)
    tasks.add.using(priority=-100).enqueue(2)
    tasks.urgent.enqueue()
    tasks.add.using(priority=100).enqueue(3)
    run_until_idle(CHANNEL)
    assert tasks.RAN == [(3, 1), "urgent", (1, 1), (2, 1)]


@pytest.mark.parametrize("after", [timedelta(seconds=30), "datetime"])
def test_run_after(after: Any) -> None:
    if after == "datetime":
        after = datetime.now(UTC) + timedelta(seconds=30)
    result = tasks.add.using(run_after=after).enqueue(1)
    assert run_until_idle(CHANNEL) == []
    result.refresh()
    assert result.status == TaskResultStatus.READY
    advance(25)
    assert run_until_idle(CHANNEL) == []
    advance(6)
    assert ended(result).return_value == 2


def test_a_delay_counts_from_the_enqueueing_by_the_store_clock() -> None:
    task = tasks.add.using(run_after=timedelta(seconds=30))
    assert (task.run_after, task.delay) == (None, timedelta(seconds=30))
    at = datetime.now(UTC) + timedelta(hours=1)
    assert (task.using(run_after=at).run_after, task.using(run_after=at).delay) == (at, None)


def test_result_ids_are_short_and_are_the_jobs_ids() -> None:
    result = tasks.add.enqueue(1)
    assert len(result.id) < 64
    job = jobs.get(CHANNEL, result.id)
    assert job is not None
    assert job.created_at == result.enqueued_at


@pytest.mark.parametrize("id", ["", "nothing", "x@", "@tasks.default", "x@tasks.default", "x@no such", "ä", None, 7])
async def test_a_result_that_does_not_exist(id: Any) -> None:
    with pytest.raises(TaskResultDoesNotExist):
        tasks.add.get_result(id)
    with pytest.raises(TaskResultDoesNotExist):
        await tasks.add.aget_result(id)


def test_a_result_of_another_task() -> None:
    result = tasks.add.enqueue(1)
    with pytest.raises(TaskResultMismatch):
        tasks.add_async.get_result(result.id)


def test_a_job_that_is_no_task_is_no_result() -> None:
    job = jobs_enqueue({"type": "work.do"})
    with pytest.raises(TaskResultDoesNotExist):
        tasks.add.get_result(job)


def jobs_enqueue(message: dict[str, Any]) -> str:
    from retrying import enqueue

    return enqueue(CHANNEL, message, job_id=f"mine@{CHANNEL}").id


def test_a_result_of_another_backend_is_none_of_ours(settings: Any) -> None:
    settings.TASKS = {"default": BACKEND, "other": BACKEND}
    result = tasks.add.using(backend="other").enqueue(1)
    assert task_backends["other"].get_result(result.id).args == [1]
    with pytest.raises(TaskResultDoesNotExist):
        task_backends["default"].get_result(result.id)


def test_results_end_by_themselves(settings: Any) -> None:
    settings.TASKS = {"default": {**BACKEND, "OPTIONS": {"RESULT_TTL": 600}}}
    result = ended(tasks.add.enqueue(1))
    store = get_layer().store
    key = store.keys(CHANNEL).all[0] + result.id
    assert 590_000 < store.connections.sync().pttl(key) <= 600_000
    store.connections.sync().pexpire(key, 1)
    wait_for(lambda: not store.connections.sync().exists(key), "the result has ended")
    with pytest.raises(TaskResultDoesNotExist):
        result.refresh()


def test_without_results_only_the_tombstone_stays(settings: Any) -> None:
    settings.TASKS = {"default": {**BACKEND, "OPTIONS": {"RESULT_TTL": 0}}}
    result = tasks.add.enqueue(1)
    assert tasks.add.get_result(result.id).status == TaskResultStatus.READY
    run_until_idle(CHANNEL)
    with pytest.raises(TaskResultDoesNotExist):
        result.refresh()
    store = get_layer().store
    assert store.connections.sync().type(store.keys(CHANNEL).all[0] + result.id) == b"string"


def test_kept_successes_and_results_live_side_by_side(settings: Any) -> None:
    settings.RETRYING = {**settings.RETRYING, "KEEP_SUCCEEDED": 1}
    first = tasks.add.enqueue(1)
    run_until_idle(CHANNEL)
    second = tasks.add.enqueue(2)
    run_until_idle(CHANNEL)
    advance(1)
    run_until_idle(CHANNEL)  # a sweep takes what is too much from the list, not from the results
    assert [job.id for job in jobs.search(CHANNEL, "succeeded").jobs] == [second.id]
    assert ended(first).return_value == 2


def test_errors_and_workers_of_every_attempt() -> None:
    result = tasks.stubborn.enqueue(3)
    for _ in range(4):
        run_until_idle(CHANNEL)
        advance(2)
    result.refresh()
    assert result.return_value == [3, 4]  # what the task saw of itself
    assert result.attempts == 4
    assert [error.traceback.splitlines()[-1] for error in result.errors] == [
        "ValueError: number 1", "ValueError: number 2", "ValueError: number 3",
    ]  # fmt: skip
    assert result.started_at < result.last_attempted_at < result.finished_at


def test_the_newest_twenty_attempts_are_remembered() -> None:
    result = tasks.stubborn.enqueue(24)
    for _ in range(25):
        run_until_idle(CHANNEL)
        advance(2)
    result.refresh()
    assert result.attempts == 25
    assert [bool(worker) for worker in result.worker_ids] == [False] * 5 + [True] * 20
    assert result.errors[0].traceback.endswith("ValueError: number 6\n")
    assert len(result.errors) == 19


def test_a_worker_that_vanished_is_an_attempt_with_an_error() -> None:
    result = tasks.tell.enqueue()
    store = get_layer().store
    claim = store.run(store.claim(CHANNEL, "host:1:gone", "token", wanted=1))
    assert [job.id for job in claim.jobs] == [result.id]
    result.refresh()
    assert (result.status, result.worker_ids) == (TaskResultStatus.RUNNING, ["host:1:gone"])
    advance(10)
    ended(result)
    assert result.return_value["attempt"] == 2
    assert result.return_value["workers"] == result.worker_ids
    assert result.worker_ids[0] == "host:1:gone"
    assert [error.exception_class for error in result.errors] == [WorkerVanished]
    assert "host:1:gone" in result.errors[0].traceback


def test_a_cancelled_task_failed_and_says_why() -> None:
    result = tasks.add.enqueue(1)
    jobs.cancel(CHANNEL, result.id, "changed my mind")
    result.refresh()
    assert result.status == TaskResultStatus.FAILED
    assert "changed my mind" in result.errors[-1].traceback
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value


@pytest.mark.parametrize("level", ["DEBUG", "CRITICAL"])
@pytest.mark.parametrize("name", ["add", "add_async"])
def test_signals(name: str, level: str, caplog: Any) -> None:
    """Whatever of them Django's own log tells."""
    caplog.set_level(level, LOG)
    seen: list[Any] = []

    def note(which: str) -> Any:
        def receiver(sender: Any, task_result: Any, **_: Any) -> None:
            seen.append((which, sender.__name__, str(task_result.status), task_result.attempts))

        return receiver

    receivers = {
        signal: note(word)
        for signal, word in ((task_enqueued, "enqueued"), (task_started, "started"), (task_finished, "finished"))
    }
    for signal, receiver in receivers.items():
        signal.connect(receiver)
    try:
        getattr(tasks, name).enqueue(1)
        run_until_idle(CHANNEL)
    finally:
        for signal, receiver in receivers.items():
            signal.disconnect(receiver)
    assert seen == [
        ("enqueued", "RetryingBackend", "READY", 0),
        ("started", "RetryingBackend", "RUNNING", 1),
        ("finished", "RetryingBackend", "SUCCESSFUL", 1),
    ]
    told = [item.getMessage() for item in caplog.records if item.name == LOG]
    assert [word in line for word, line in zip(("enqueued", "RUNNING", "SUCCESSFUL"), told, strict=False)] == (
        [True] * 3 if level == "DEBUG" else []
    )


@pytest.mark.parametrize("name", ["add", "add_async"])
def test_a_receiver_of_the_end_alone_gets_the_whole_result(name: str, caplog: Any) -> None:
    """Nobody has asked for the result before then."""
    caplog.set_level("CRITICAL", LOG)
    seen: list[Any] = []

    def receiver(task_result: Any, **_: Any) -> None:
        seen.append(task_result)

    task_finished.connect(receiver)
    try:
        before = datetime.now(UTC)
        result = getattr(tasks, name).enqueue(20, b=22)
        run_until_idle(CHANNEL)
    finally:
        task_finished.disconnect(receiver)
    (told,) = seen
    assert (told.id, told.args, told.kwargs, told.return_value) == (result.id, [20], {"b": 22}, 42)
    assert before <= told.started_at == told.last_attempted_at <= told.finished_at <= datetime.now(UTC)


def test_a_failure_is_logged_where_only_failures_are(caplog: Any) -> None:
    caplog.set_level("ERROR", LOG)
    assert ended(tasks.raises.enqueue("Bury", "for ever")).status == TaskResultStatus.FAILED
    (record,) = [item for item in caplog.records if item.name == LOG]
    assert record.exc_info


def test_arguments_that_the_task_changed_hide_no_failure(caplog: Any) -> None:
    caplog.set_level("CRITICAL", LOG)
    result = ended(tasks.spoils.enqueue([]))
    assert result.errors[-1].exception_class is KeyError
    assert result.args == [[]]


def test_the_end_of_a_failure_is_told_inside_the_except_block(caplog: Any) -> None:
    result = tasks.raises.enqueue("Bury", "for ever")
    with caplog.at_level("INFO"):
        assert ended(result).status == TaskResultStatus.FAILED
    (record,) = [item for item in caplog.records if "state=FAILED" in item.getMessage()]
    assert record.exc_info
    assert "for ever" in str(record.exc_info[1])


def test_a_failure_that_is_tried_again_is_no_end(caplog: Any) -> None:
    result = tasks.fails.enqueue(1)
    with caplog.at_level("INFO"):
        assert ended(result).status == TaskResultStatus.READY
    assert not [item for item in caplog.records if "state=FAILED" in item.getMessage()]


def test_a_receiver_that_fails_changes_nothing() -> None:
    def receiver(**_: Any) -> None:
        raise RuntimeError("a broken overlay")

    task_finished.connect(receiver)
    try:
        assert ended(tasks.add.enqueue(1)).status == TaskResultStatus.SUCCESSFUL
    finally:
        task_finished.disconnect(receiver)


def test_tasks_can_be_pickled() -> None:
    task = tasks.fails.using(priority=7, run_after=timedelta(seconds=3), job_id="x")
    again = pickle.loads(pickle.dumps(task))  # noqa: S301  (our own)
    assert again == task
    assert again.func is tasks.fails.func
