"""The plain functions behind the tasks: no queue is needed to test them."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User

from project.insights import aggregates, spread
from project.insights.feed import Entry, FeedUnavailable, fetch, store
from project.insights.forecast import forecast
from project.insights.models import Batch, Precomputed, Quarter, Reading, Repository
from project.insights.precomputed import precomputed, read
from project.webhooks.models import Attempt, Delivery, Endpoint
from tests.insights.conftest import Answer, Feed, repositories

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def entry(name: str, stars: int = 1) -> Entry:
    return Entry(name=name, stars=stars, language="", description="", url="")


# The feed


def test_feed_is_read(feed: Feed) -> None:
    feed.answers = [repositories("a/b", "c/d")]
    found = async_to_sync(fetch)(feed.url)
    assert [(item.name, item.stars, item.url) for item in found] == [
        ("a/b", 100, "https://code.example/a/b"),
        ("c/d", 99, "https://code.example/c/d"),
    ]
    assert "per_page=100" in feed.paths[0]


@pytest.mark.parametrize(
    ("answer", "words", "retry_after"),
    [
        (Answer(503, headers={"Retry-After": "7"}), "503", 7.0),
        (Answer(503, headers={"Retry-After": "tomorrow"}), "503", None),
        (Answer(200, b"<html>"), "something else", None),
        (Answer(200, b'{"items": [{}]}'), "something else", None),
        (Answer(200, b'{"items": 5}'), "something else", None),
        (Answer(200, b"x" * (5 * 2**20 + 1)), "bytes", None),
    ],
)
def test_feed_that_does_not_answer_as_it_should(feed: Feed, answer: Answer, words: str, retry_after: Any) -> None:
    feed.answers = [answer]
    with pytest.raises(FeedUnavailable, match=words) as error:
        async_to_sync(fetch)(feed.url)
    assert error.value.retry_after == retry_after


def test_feed_is_not_there() -> None:
    with pytest.raises(FeedUnavailable, match="no answer"):
        async_to_sync(fetch)("http://127.0.0.1:9/search")


def test_links_lead_to_https_only(feed: Feed) -> None:
    feed.answers = [repositories("a/b", html_url="javascript:alert(1)")]
    assert async_to_sync(fetch)(feed.url)[0].url == ""


@pytest.mark.django_db
def test_table_becomes_what_the_feed_says() -> None:
    store([entry("a"), entry("b"), entry("c")])
    store([entry("c", 9), entry("a"), entry("c", 9)])
    assert list(Repository.objects.values_list("name", "stars")) == [("a", 1), ("c", 9)]


# Deliveries


def deliver(user: User, at: datetime, state: str, *outcomes: str, host: str = "a.example") -> None:
    endpoint, _ = Endpoint.objects.get_or_create(owner=user, url=f"https://{host}/hook")
    delivery = Delivery.objects.create(owner=user, endpoint=endpoint, payload="{}", state=state, created_at=at)
    for number, outcome in enumerate(outcomes, 1):
        Attempt.objects.create(
            delivery=delivery, generation=1, number=number, started_at=at, outcome=outcome, duration_ms=10 * number
        )


def test_quarters_are_added_up_and_again(user: User) -> None:
    deliver(user, NOON - timedelta(minutes=1), "delivered", "failed", "delivered")
    deliver(user, NOON - timedelta(minutes=14), "failed", "gave_up")
    deliver(user, NOON, "pending")  # of a quarter that hasn't ended
    assert aggregates.add_up(NOON + timedelta(minutes=7)) == 96
    quarter = Quarter.objects.get(pk=NOON - timedelta(minutes=15))
    assert (quarter.accepted, quarter.delivered, quarter.failed, quarter.attempts) == (2, 1, 1, 3)
    assert not Quarter.objects.filter(start__gte=NOON).exists()
    Delivery.objects.filter(state="failed").update(state="delivered")
    assert aggregates.add_up(NOON + timedelta(minutes=7)) == aggregates.AGAIN, "the newest ones are counted anew"
    quarter.refresh_from_db()
    assert (quarter.accepted, quarter.delivered, quarter.failed) == (2, 2, 0)
    later = NOON + timedelta(hours=10)
    aggregates.add_up(later)
    starts = list(Quarter.objects.values_list("start", flat=True))
    assert starts == [starts[0] + n * aggregates.QUARTER for n in range(len(starts))], "one run fills what was missed"
    assert starts[-1] == later - aggregates.QUARTER


def test_statistics_of_the_last_day(user: User) -> None:
    deliver(user, NOON - timedelta(hours=1), "delivered", "failed", "delivered")
    deliver(user, NOON - timedelta(hours=2), "failed", "gave_up", host="b.example")
    deliver(user, NOON - timedelta(hours=3), "pending")
    deliver(user, NOON - timedelta(days=2), "delivered", "delivered")
    found = aggregates.statistics(NOON)
    assert (found["accepted"], found["pending"], found["delivered_percent"], found["attempts"]) == (3, 1, 50.0, 3)
    assert found["hosts"] == [
        {"host": "a.example", "attempts": 2, "delivered_percent": 50, "median_ms": 15},
        {"host": "b.example", "attempts": 1, "delivered_percent": 0, "median_ms": 10},
    ]


# Precomputing, inserting, forecasting


@pytest.mark.django_db
def test_precomputed_value_is_stored_and_the_newest_wins() -> None:
    answers = iter([1, 2])

    @precomputed("number")
    def slow() -> int:
        time.sleep(0.02)
        return next(answers)

    assert read("number") is None
    slow()
    first = read("number")
    assert first is not None
    assert (first.value, first.took_ms >= 20) == (1, True)
    Precomputed.objects.update(as_of=first.as_of + timedelta(hours=1))
    slow()
    newest = read("number")
    assert newest is not None
    assert newest.value == 1, "what began before the stored one does not overwrite it"


@pytest.mark.django_db
def test_an_insert_runs_twice_and_is_there_once() -> None:
    batch = Batch.objects.create(count=2)
    for _ in range(2):
        spread.insert(batch.pk, 7)
    assert Reading.objects.count() == 1
    batch.delete()
    spread.insert(batch.pk, 8)
    assert Reading.objects.count() == 0, "its batch is gone"


def test_forecast() -> None:
    rare, even, often = forecast(2000)
    assert rare["arrive"] == 1.0
    assert rare["p50"] == 0.0
    assert 0.97 < (even["arrive"] or 0) <= 1
    assert 0.5 < (often["arrive"] or 0) < 0.7, "1 - 0.9 ** 9 is 0.61"
    assert forecast(2000) == [rare, even, often]
