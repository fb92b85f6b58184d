"""The page and the tasks, by the queue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import AsyncRequestFactory, Client

from project.insights import tasks
from project.insights.models import Batch, Forecast, Precomputed, Quarter, Reading, Repository, Summary
from project.insights.precomputed import read
from retrying import jobs, schedule
from retrying.conf import get_settings
from retrying.schedule.discovery import declared
from retrying.testing import Ran, advance, dead_letters, run_until_idle
from tests.insights.conftest import Answer, Feed, repositories

pytestmark = pytest.mark.usefixtures("transactional_db")


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> Iterator[None]:
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def work(*queues: str) -> list[Ran]:
    return run_until_idle(*(f"tasks.{queue}" for queue in queues or ("default",)))


def test_the_site_has_its_schedules() -> None:
    found = {name: (item.channel, item.timing.line) for name, item in declared().items()}
    assert found == {
        "feed": ("tasks.default", "*/10 * * * * UTC"),
        "quarters": ("tasks.default", "*/15 * * * * UTC"),
        "statistics": ("tasks.default", "every 5 min"),
    }


def test_poll_is_tried_again_when_the_feed_says(feed: Feed) -> None:
    feed.answers = [Answer(503, headers={"Retry-After": "60"}), repositories("a/b")]
    schedule.run("feed")
    work()
    assert len(feed.paths) == 1
    advance(59)
    work()
    assert len(feed.paths) == 1, "not before the time that it asked for"
    advance(16)
    work()
    assert [repository.name for repository in Repository.objects.all()] == ["a/b"]


def test_page_shows_what_was_computed_before(signed_in: Client, feed: Feed) -> None:
    feed.answers = [repositories("a/b", "c/<d>")]
    assert "Not computed yet" in signed_in.get("/insights/").content.decode()
    for name in ("feed", "quarters", "statistics"):
        assert signed_in.post(f"/insights/run/{name}/").status_code == 302
    work()
    assert Precomputed.objects.count() == 1
    assert Quarter.objects.count() == 96
    page = signed_in.get("/insights/").content.decode()
    assert "computed by a task in" in page
    assert "c/&lt;d&gt;" in page
    state = signed_in.get("/insights/state/").json()
    value = read("statistics")
    assert value is not None
    assert state["texts"]["as-of"] == value.as_of.isoformat()


def test_the_page_asks_no_slow_question(signed_in: Client, django_assert_max_num_queries: Any) -> None:
    tasks.statistics.call()
    with django_assert_max_num_queries(12) as asked:
        signed_in.get("/insights/")
    assert not [query for query in asked.captured_queries if "webhooks_" in query["sql"]]


def test_the_page_works_without_the_store(signed_in: Client, settings: Any) -> None:
    tasks.statistics.call()
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "retrying.layers.RetryingChannelLayer",
            "CONFIG": {"hosts": ["redis://127.0.0.1:9"]},
        }
    }
    page = signed_in.get("/insights/")
    assert page.status_code == 200
    assert "The store (Redis) does not answer" in page.content.decode()
    assert signed_in.post("/insights/run/feed/").status_code == 503
    assert signed_in.post("/insights/spread/", {"count": "5"}).status_code == 503
    assert Batch.objects.count() == 0


def test_inserts_are_spread(signed_in: Client) -> None:
    assert signed_in.post("/insights/spread/", {"count": "25"}).status_code == 302
    work("default", "bulk")
    batch = Batch.objects.get()
    assert sorted(batch.readings.values_list("number", flat=True)) == list(range(25))
    assert "25 of 25 inserted" in signed_in.get("/insights/").content.decode()


@pytest.mark.parametrize("count", ["", "0", "-1", "1000001", "many", "1e3"])
def test_a_bad_count_is_refused_in_words(signed_in: Client, count: str) -> None:
    answer = signed_in.post("/insights/spread/", {"count": count})
    assert (answer.status_code, answer.content) == (400, b"count takes a whole number from 1 to 1000000")
    assert Batch.objects.count() == 0


def test_inserts_by_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("spread_inserts", 3)
    assert "3 inserts are enqueued" in capsys.readouterr().out
    work("bulk")
    assert Reading.objects.count() == 3
    with pytest.raises(CommandError, match="whole number from 1"):
        call_command("spread_inserts", 0)


def test_report(signed_in: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("project.insights.pages.FORECAST_DELIVERIES", 500)
    signed_in.post("/insights/forecast/")
    assert "waits for its worker" in signed_in.get("/insights/").content.decode()
    work("reports")
    row = Forecast.objects.get()
    assert row.result is not None
    assert "computed in" in signed_in.get("/insights/").content.decode()


def test_strangers_are_sent_to_the_door(client: Client) -> None:
    for path in ("/insights/", "/insights/state/"):
        assert client.get(path).status_code == 302
    for path in ("/insights/run/feed/", "/insights/spread/", "/insights/forecast/"):
        answer = client.post(path)
        assert (answer.status_code, answer["Location"].split("?")[0]) == (302, "/sign-in/")
    assert Batch.objects.count() == Forecast.objects.count() == 0


def test_an_unknown_schedule_is_not_found(signed_in: Client) -> None:
    assert signed_in.post("/insights/run/nothing/").status_code == 404


def test_the_stand_in_is_a_code_host(client: Client, settings: Any) -> None:
    from project.insights.stand_in import search

    request = client.get("/").wsgi_request
    busy, found = search(request), search(request)
    assert (busy.status_code, busy["Retry-After"]) == (503, "2")
    assert found.status_code == 200
    assert found.content.count(b"full_name") == 100


# A function service


def test_throttled_calls_come_back_without_using_up_an_attempt(signed_in: Client, feed: Feed, settings: Any) -> None:
    settings.FUNCTIONS_URL = feed.url
    feed.answers = [Answer(429, headers={"Retry-After": "30"})] * 7 + [Answer(200, b'"all is well"')]
    assert signed_in.post("/insights/summaries/").status_code == 302
    work()
    assert jobs.counts("tasks.default").scheduled == 5
    advance(29)
    work()
    assert len(feed.paths) == 5, "not before the time that the service asked for"
    advance(11)
    work()
    advance(31)
    work()
    assert list(Summary.objects.values_list("text", flat=True)) == ["all is well"] * 5
    assert sum(Summary.objects.values_list("calls", flat=True)) == 12
    assert "5 of 5 answered, 12 calls" in signed_in.get("/insights/").content.decode()
    assert feed.paths[0].endswith("/functions/summarise/invocations")
    assert len(set(feed.keys)) == 5, "every try of a call has the same key"


def test_a_function_that_fails_is_not_asked_again(feed: Feed, settings: Any) -> None:
    settings.FUNCTIONS_URL = feed.url
    feed.answers = [Answer(200, b'{"errorMessage": "no"}', {"X-Function-Error": "Unhandled"})]
    tasks.summarise.enqueue(Summary.objects.create().pk)
    work()
    (letter,) = dead_letters("tasks.default")
    assert "FunctionFailed" in (letter.job.error or "")
    assert len(feed.paths) == 1


@pytest.mark.parametrize("answer", [Answer(500), Answer(200, b"<html>")])
def test_a_service_that_is_down_is_asked_again(feed: Feed, settings: Any, answer: Answer) -> None:
    settings.FUNCTIONS_URL = feed.url
    feed.answers = [answer, Answer(200, b'"up again"')]
    tasks.summarise.enqueue(Summary.objects.create().pk)
    work()
    advance(15)
    work()
    assert Summary.objects.get().text == "up again"


async def test_the_stand_in_throttles() -> None:
    from project.insights import stand_in

    request = AsyncRequestFactory().post("/", {"accepted": 3, "delivered": 2}, content_type="application/json")
    answers = await asyncio.gather(*(stand_in.invoke(request, "summarise") for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429]
    words = next(answer for answer in answers if answer.status_code == 200)
    assert json.loads(words.content) == "3 deliveries in a day, 2 of them have arrived."
