"""What is wrong is refused where it is written, naming the field, in the exceptions that Django has for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import django
import pytest
from django.core.checks import run_checks

from retrying import retry
from retrying.checks import check_backport
from tests.tasks.compat import InvalidTask, InvalidTaskBackend, task, task_backends
from tests.tasks.outside import unlisted
from tests.tasks.sample import tasks

CHANNEL = "tasks.default"
BACKEND = {"BACKEND": "retrying.backends.RetryingBackend"}


def complaints(settings: Any, **params: Any) -> list[str]:
    settings.TASKS = {"default": {**BACKEND, **params}}
    return [message.msg for message in run_checks() if message.id == "retrying.E007"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"OPTIONS": {"RESULT_TLT": 5}}, "no option 'RESULT_TLT'; it takes LAYER, RESULT_TTL, ENQUEUE_ON_COMMIT"),
        ({"OPTIONS": {"RESULT_TTL": "1 h"}}, "number of seconds >= 0, got '1 h'"),
        ({"OPTIONS": {"RESULT_TTL": 10}}, "at least RETRYING['DEDUP_SECONDS'] (300), got 10"),
        ({"OPTIONS": {"ENQUEUE_ON_COMMIT": "nowhere"}}, "alias in DATABASES, got 'nowhere'"),
        ({"OPTIONS": {"LAYER": "nowhere"}}, "alias in CHANNEL_LAYERS, got 'nowhere'"),
        ({"OPTIONS": ["RESULT_TTL"]}, "must be a dict"),
        ({"QUEUES": "default"}, "must be a list of names, got 'default'"),
        ({"QUEUES": ["with space"]}, "queue 'with space'"),
        ({"QUEUES": ["q" * 40]}, "at most 40"),
    ],
)
def test_settings(settings: Any, params: dict[str, Any], words: str) -> None:
    (found,) = complaints(settings, **params)
    assert words in found
    assert found.startswith("TASKS['default']")
    with pytest.raises((InvalidTaskBackend, InvalidTask)):
        tasks.add.using(queue_name=next(iter(params.get("QUEUES", ["default"])))).enqueue(1)


@pytest.mark.django_db
def test_good_settings(settings: Any) -> None:
    options = {"LAYER": "default", "RESULT_TTL": 300, "ENQUEUE_ON_COMMIT": "default"}
    assert complaints(settings, QUEUES=["default", "q.1-2_3"], OPTIONS=options) == []


@pytest.mark.django_db
def test_routes_are_checked(settings: Any) -> None:
    settings.RETRYING = {"ROUTES": {"app.tasks.*": "not a channel"}}
    (found,) = [message.msg for message in run_checks() if message.id == "retrying.E002"]
    assert "RETRYING['ROUTES']['app.tasks.*']" in found


def test_queue_not_in_queues() -> None:
    with pytest.raises(InvalidTask, match="Queue 'elsewhere'"):
        tasks.add.using(queue_name="elsewhere")


def test_a_task_that_is_not_module_level() -> None:
    with pytest.raises(InvalidTask, match="module level"):

        @task
        def inner() -> None: ...


def test_a_task_that_no_worker_would_find(settings: Any) -> None:
    with pytest.raises(InvalidTask, match=r"no worker would find.*'tasks' module.*ROUTES"):
        unlisted.enqueue()
    settings.RETRYING = {"ROUTES": {unlisted.module_path: CHANNEL}}
    assert unlisted.enqueue().id.endswith(f"@{CHANNEL}")
    settings.RETRYING = {"ROUTES": {"tests.*": CHANNEL}}
    with pytest.raises(InvalidTask):
        unlisted.enqueue()


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((datetime(2026, 1, 1),), {}, r"args\[0\] is a datetime, which isn't JSON"),  # noqa: DTZ001
        ((), {"b": {"x": [1, {2}]}}, r"kwargs\['b'\]\['x'\]\[1\] is a set"),
        (({1: 2},), {}, r"args\[0\] has the key 1"),
        ((float("nan"),), {}, r"args\[0\] is nan"),
        ((2**70,), {}, r"args\[0\] is an integer of more than 64 bits"),
        ((b"\xff",), {}, r"args\[0\] is a bytes"),
    ],
)
def test_arguments_that_json_cannot_carry(args: Any, kwargs: Any, words: str) -> None:
    with pytest.raises(InvalidTask, match=words) as caught:
        tasks.add.enqueue(*args, **kwargs)
    assert isinstance(caught.value, TypeError)  # what Django's own backends raise


def test_arguments_are_made_json_as_django_does() -> None:
    assert tasks.add.enqueue((1, b"two")).args == [[1, "two"]]


def test_too_large() -> None:
    with pytest.raises(InvalidTask, match=r"tests\.tasks\.sample\.tasks\.add: the message takes .* the limit is"):
        tasks.add.enqueue("x" * 2_000_000)


@pytest.mark.parametrize(
    "run_after",
    [datetime(2030, 1, 1), timedelta(seconds=-1), "tomorrow"],  # noqa: DTZ001
)
def test_run_after(run_after: Any) -> None:
    with pytest.raises(InvalidTask, match="run_after"):
        tasks.add.using(run_after=run_after)


def test_a_job_id_that_is_too_long() -> None:
    with pytest.raises(InvalidTask, match="job_id takes at most 49 characters"):
        tasks.add.using(job_id="x" * 50).enqueue(1)


def test_an_option_that_tasks_do_not_have() -> None:
    for options in ({"colour": "red"}, {"delay": 5}):
        with pytest.raises((InvalidTask, TypeError), match=next(iter(options))):
            tasks.add.using(**options)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_attempts": 0}, "max_attempts takes a whole number from 1 on, got 0"),
        ({"max_attempts": True}, "max_attempts"),
        ({"backoff": -1}, "backoff"),
        ({"enqueue_on_commit": 3}, "enqueue_on_commit takes True, False or the alias of a database, got 3"),
    ],
)
def test_what_the_decorator_takes(fields: Any, words: str) -> None:
    with pytest.raises(InvalidTask, match=words):
        replace(tasks.add, **fields)


def test_a_policy_is_said_once() -> None:
    with pytest.raises(InvalidTask, match="either @retry under @task, or"):
        replace(tasks.fails, max_attempts=3)


def test_retry_above_task_is_refused_in_words() -> None:
    with pytest.raises(TypeError, match="under @task"):
        retry()(tasks.add)


def test_run_after_in_the_decorator_is_refused() -> None:
    with pytest.raises(TypeError):
        task(run_after=timedelta(1))(tasks.add.func)


def test_nothing_connects_before_something_is_enqueued(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {
        "default": {**settings.CHANNEL_LAYERS["default"], "CONFIG": {"hosts": ["redis://[::]:1"]}}
    }
    assert task_backends["default"].validate_task(tasks.add) is None
    assert tasks.add.using(priority=3).priority == 3


def test_without_the_backport_the_check_says_what_to_do(settings: Any) -> None:
    settings.INSTALLED_APPS = [name for name in settings.INSTALLED_APPS if name != "django_tasks"]
    found = check_backport()
    assert ["django-tasks" in f"{item.msg} {item.hint}" for item in found] == [True] * (django.VERSION < (6,))
    settings.TASKS = {}
    assert check_backport() == []


def test_with_tasks_the_check_is_content() -> None:
    assert check_backport() == []
