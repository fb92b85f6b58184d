"""What ``enqueue`` and the layer's ``send`` take, and how they refuse the rest: in words, with nothing written."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User

from retrying import InvalidJob, RetryPolicy, State, aenqueue, enqueue, jobs
from retrying.layers import get_layer

CHANNEL = "work"


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def endless() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["again"] = value
    return value


#: What is wrong -> the message's value "x", and words of the error.
MESSAGES: dict[str, tuple[Any, str]] = {
    "10 MiB": ("x" * 10 * 2**20, r"takes 104857\d\d bytes, the limit is 1048576"),
    "100,000 levels": (nested(100_000), r"message\['x'\](\[0\])+ is nested deeper than 64 levels"),
    "endless": (endless(), "nested deeper than 64 levels"),
    "NaN": ({"a": [1, math.nan]}, r"message\['x'\]\['a'\]\[1\] is nan"),
    "infinity": (-math.inf, r"message\['x'\] is -inf"),
    "key that is no string": ({"a": {1: 2}}, r"message\['x'\]\['a'\] has the key 1; JSON keys are strings"),
    "model instance": ([User(username="a")], r"message\['x'\]\[0\] is a User.*pass its primary key"),
    "datetime": (datetime(2026, 1, 1, tzinfo=UTC), r"message\['x'\] is a datetime.*isoformat"),
    "bytes": ({"raw": b"abc"}, r"message\['x'\]\['raw'\] is a bytes.*base64"),
    "set": ({1, 2}, r"message\['x'\] is a set, which isn't JSON"),
    "huge integer": (2**64, "more than 64 bits; send it as a string"),
    "lone surrogate": ("\ud800", "the message can't be serialized"),
}

#: What is wrong -> arguments, and words of the error.
OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "id of 300": ({"job_id": "x" * 300}, "job_id takes 1-200 of"),
    "empty id": ({"job_id": ""}, "job_id takes 1-200 of"),
    "id with a space": ({"job_id": "a b"}, "job_id takes 1-200 of"),
    "id that is no text": ({"job_id": 5}, "job_id takes 1-200 of"),
    "negative delay": ({"delay": -1}, "delay takes seconds >= 0 or a timedelta, got -1"),
    "negative timedelta": ({"delay": timedelta(seconds=-1)}, "delay takes seconds >= 0"),
    "delay that is no number": ({"delay": "soon"}, "delay takes seconds >= 0"),
    "delay beyond all dates": ({"delay": 1e18}, "delay takes at most"),
    "date without a zone": ({"run_at": datetime(2030, 1, 1)}, "run_at takes a datetime with a time zone"),  # noqa: DTZ001
    "delay and date": ({"delay": 1, "run_at": datetime(2030, 1, 1, tzinfo=UTC)}, "pass one of them"),
    "negative expiry": ({"expires": -5}, "expires takes seconds >= 0"),
    "priority 101": ({"priority": 101}, "priority takes a whole number from -100 to 100"),
    "priority 0.5": ({"priority": 0.5}, "priority takes a whole number"),
    "topic with a space": ({"topic": "a b"}, "topic takes 1-200 of"),
    "policy that is a dict": ({"policy": {"max_retries": 1}}, "policy takes a RetryPolicy, got dict"),
    "empty unique name": ({"unique": ""}, "unique takes a name of 1-200 of"),
    "unique name with a brace": ({"unique": "{a}"}, "unique takes a name of 1-200 of"),
    "unknown unique_until": (
        {"unique": "a", "unique_until": "done"},
        "takes 'finished' or 'started', got 'done'",
    ),
    "unique until a time": ({"unique": "a", "unique_until": 60}, "a time is said by unique_for"),
    "unique for no time": ({"unique": "a", "unique_for": 0}, "unique_for takes seconds > 0"),
    "unique for a word": ({"unique": "a", "unique_for": "1h"}, "unique_for takes seconds"),
    "unique for and until": ({"unique": "a", "unique_for": 5, "unique_until": "started"}, "pass one of them"),
    "until without unique": ({"unique_until": "started"}, "need unique, the name"),
    "for without unique": ({"unique_for": 5}, "need unique, the name"),
    "policy with a function": ({"policy": RetryPolicy(backoff=lambda e, j: 1)}, "belongs on the handler"),
}

CHANNELS = ["specific!abc", "käse", "", "a b", "x" * 100, "a:b", None, 5]


@pytest.fixture
def nothing_written(redis_url: str) -> Any:
    with redis.Redis.from_url(redis_url) as server:
        yield
        assert server.keys() == []


@pytest.mark.parametrize("case", MESSAGES)
def test_bad_message(case: str, nothing_written: None) -> None:
    value, words = MESSAGES[case]
    with pytest.raises(InvalidJob, match=words):
        enqueue(CHANNEL, {"type": "work.do", "x": value})


@pytest.mark.parametrize("case", OPTIONS)
def test_bad_option(case: str, nothing_written: None) -> None:
    options, words = OPTIONS[case]
    with pytest.raises(ValueError, match=words):
        enqueue(CHANNEL, {"type": "work.do"}, **options)


@pytest.mark.parametrize("channel", CHANNELS)
def test_bad_channel(channel: Any, nothing_written: None) -> None:
    with pytest.raises(InvalidJob, match="a channel for jobs is named by 1-99 ASCII letters"):
        enqueue(channel, {"type": "work.do"})


@pytest.mark.parametrize("message", [{}, {"type": ""}, {"type": 5}, {"type": None}, "text", None, []])
def test_message_needs_a_type(message: Any, nothing_written: None) -> None:
    with pytest.raises(InvalidJob, match="'type'"):
        enqueue(CHANNEL, message)


async def test_async_refuses_the_same(nothing_written: None) -> None:
    with pytest.raises(InvalidJob, match=r"message\['x'\] is nan"):
        await aenqueue(CHANNEL, {"type": "work.do", "x": math.nan})


def test_unknown_option(nothing_written: None) -> None:
    with pytest.raises(TypeError, match="got prio"):
        enqueue(CHANNEL, {"type": "work.do"}, prio=1)  # type: ignore[call-arg]


def test_limit_of_a_message_is_a_setting(settings: Any, nothing_written: None) -> None:
    settings.RETRYING = {"MAX_MESSAGE_BYTES": 100}
    with pytest.raises(InvalidJob, match="the limit is 100"):
        enqueue(CHANNEL, {"type": "work.do", "x": "x" * 100})


async def test_send_of_the_layer_refuses_too(nothing_written: None) -> None:
    layer = get_layer()
    with pytest.raises(InvalidJob, match="the limit is"):
        await layer.send(CHANNEL, {"type": "a", "x": "x" * 2**21})
    with pytest.raises(InvalidJob, match="can't be serialized"):
        await layer.send(CHANNEL, {"type": "a", "x": object()})
    with pytest.raises(TypeError):
        await layer.send("käse", {"type": "a"})
    with pytest.raises(TypeError):
        await layer.send(CHANNEL, "text")  # type: ignore[arg-type]
    await layer.close_pools()


# What is good


def test_what_enqueue_returns() -> None:
    job = enqueue(CHANNEL, {"type": "work.do"}, job_id="a", priority=-100, topic="t")
    assert (job.id, job.channel, job.state, job.attempt, job.priority, job.topic) == (
        "a", CHANNEL, State.READY, 0, -100, "t",
    )  # fmt: skip
    assert job.created_at is not None
    found = jobs.get(CHANNEL, "a")
    assert found == job


def test_enqueued_twice_is_the_first_job() -> None:
    first = enqueue(CHANNEL, {"type": "work.do"}, job_id="a", delay=60)
    again = enqueue(CHANNEL, {"type": "other"}, job_id="a")
    assert (again.state, again.due_at, again.created_at) == (State.SCHEDULED, first.due_at, first.created_at)
    assert jobs.counts(CHANNEL).scheduled == 1


def test_ids_are_random_without_one() -> None:
    assert len({enqueue(CHANNEL, {"type": "work.do"}).id for _ in range(50)}) == 50


@pytest.mark.parametrize("delay", [60, 60.0, timedelta(minutes=1)])
def test_delays(delay: Any) -> None:
    job = enqueue(CHANNEL, {"type": "work.do"}, delay=delay)
    assert job.due_at is not None
    assert job.created_at is not None
    assert (job.due_at - job.created_at).total_seconds() == 60


def test_date_of_any_zone() -> None:
    at = datetime(2100, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    assert enqueue(CHANNEL, {"type": "work.do"}, run_at=at).due_at == at


async def test_json_arrives_as_it_was() -> None:
    message = {"type": "work.do", "x": [1, -(2**63), 2**64 - 1, 1.5, True, None, "ü\0\n", {"a": {"b": []}}, ""]}
    await aenqueue(CHANNEL, message)
    layer = get_layer()
    assert await layer.receive(CHANNEL) == message
    await layer.close_pools()


def test_people_act_on_jobs() -> None:
    enqueue(CHANNEL, {"type": "work.do"}, job_id="a", delay=60)
    assert jobs.retry_now(CHANNEL, "a") is State.READY
    assert jobs.cancel(CHANNEL, "a") is State.CANCELLED
    assert jobs.redrive(CHANNEL, "a") is State.CANCELLED
    assert jobs.get(CHANNEL, "b") is jobs.cancel(CHANNEL, "b") is jobs.redrive(CHANNEL, "b") is None
    assert jobs.workers(CHANNEL) == []
