"""From an ordinary view to the browser: work that tells how it goes, fails half-way, and is followed to its end."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.consumer import AsyncConsumer
from channels.routing import URLRouter
from django.contrib.auth.models import User
from django.http import HttpRequest, JsonResponse
from django.test import RequestFactory
from django.urls import path

from realtime.consumers import UserJobsConsumer, user_topic
from retrying import current_job, enqueue
from retrying.reports import PROGRESS_SECONDS
from retrying.topics import Position
from tests.retrying.running import CHANNEL, running

from .app import UserOfQuery
from .browser import Browser, browser

WORDS = ["once", "upon", "a", "time", "there", "was", "a", "queue", "that", "lost", "nothing"]


class MyStories(UserJobsConsumer):
    """All that a page needs."""

    channel = CHANNEL


class LongStories(MyStories):
    """Its topics may outgrow their log: who comes new gets the text so far."""

    async def snapshot(self, topic: str) -> dict[str, Any] | None:
        return {"text": " ".join(Teller.told)}


application = UserOfQuery(
    URLRouter([path("ws/", MyStories.as_asgi()), path("ws/long/", LongStories.as_asgi())]),
)


def tell_a_story(request: HttpRequest) -> JsonResponse:
    """An ordinary view."""
    topic = user_topic(request.user, "story", request.GET["number"])
    job = enqueue(CHANNEL, {"type": "story.tell"}, topic=topic)
    return JsonResponse({"job": job.id, "topic": topic})


class Teller(AsyncConsumer):
    """Its first attempt fails in the middle of the story."""

    told: list[str] = []
    words = WORDS
    pause = 0.0
    fails = True

    async def story_tell(self, message: dict[str, Any]) -> None:
        job = current_job()
        self.told.clear()
        for number, word in enumerate(self.words):
            if self.fails and job.attempt == 1 and number == len(self.words) // 2:
                raise ConnectionError("the teller lost the thread")
            await job.aemit({"word": word})
            self.told.append(word)
            if self.pause:
                await asyncio.sleep(self.pause)


@pytest.fixture(autouse=True)
def _quick(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.RETRYING = {"DEFAULT_POLICY": {"max_retries": 2, "backoff": 0.05}, "POLL_SECONDS": 0.2}
    monkeypatch.setattr(Teller, "told", [])


async def visit(number: int = 17) -> dict[str, str]:
    request = RequestFactory().post(f"/stories/?number={number}")
    request.user = User(pk=5)
    found: dict[str, str] = json.loads((await sync_to_async(tell_a_story)(request)).content)
    return found


class Page:
    """What a page makes of the events: the text of the newest attempt, by the rule of the protocol."""

    def __init__(self) -> None:
        self.attempt = 0
        self.words: list[str] = []
        self.place: Position | None = None
        self.names: list[str] = []
        self.dropped: list[str] = []

    def take(self, event: dict[str, Any]) -> None:
        if self.place is not None:
            assert event.get("first", event["offset"]) == self.place.offset + 1
        self.place = Position(event["epoch"], event["offset"])
        self.names.append(event["name"])
        if (attempt := event["data"].get("attempt", 0)) > self.attempt:
            self.attempt, self.dropped, self.words = attempt, self.words, []
        if event["name"] == "emit":
            assert attempt == self.attempt, "what an attempt says never comes after the next one has begun"
            self.words.append(event["data"]["data"]["word"])

    async def read(self, socket: Browser, until: int | None = None) -> None:
        """Up to the end of the job, or until there are so many events."""
        while until is None or len(self.names) < until:
            self.take(await socket.hear_only("event"))
            if self.names[-1] == "succeeded":
                return


async def test_a_view_enqueues_and_the_browser_follows_to_the_end() -> None:
    page = Page()
    async with browser(app=application) as socket, running(Teller):
        topic = (await visit())["topic"]
        assert topic == "user.5.story.17"
        await socket.follow(topic)
        await page.read(socket)
    assert page.words == WORDS
    assert page.attempt == 2
    assert page.dropped == WORDS[: len(WORDS) // 2], "the first attempt's half was started over"
    assert [name for name in page.names if name != "emit"] == [
        "ready", "running", "retrying", "ready", "running", "succeeded",
    ]  # fmt: skip


async def test_a_page_that_comes_in_the_middle_has_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reloaded, opened on another device, and cut off and resumed: all end on the same text."""
    monkeypatch.setattr(Teller, "pause", 0.02)
    first, reloaded, elsewhere = Page(), Page(), Page()
    async with running(Teller):
        topic = (await visit())["topic"]
        async with browser(app=application) as socket:
            await socket.follow(topic)
            await first.read(socket, until=6)
        async with browser(app=application) as other:  # another device, from now on to the end
            assert (await other.follow(topic))["recovered"]
            reading = asyncio.create_task(elsewhere.read(other))
            async with browser(app=application) as socket:
                assert (await socket.follow(topic))["recovered"]
                await reloaded.read(socket)
            async with browser(app=application) as socket:
                assert (await socket.follow(topic, first.place))["recovered"]
                await first.read(socket)
            await reading
    assert first.words == reloaded.words == elsewhere.words == WORDS
    assert first.names == reloaded.names == elsewhere.names


async def test_a_stream_that_outgrew_its_log(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a snapshot a new page is told that the start is gone; with one it has the text so far."""
    settings.RETRYING = {**settings.RETRYING, "TOPIC_MAX_EVENTS": 100}
    monkeypatch.setattr(Teller, "words", [f"word-{number}" for number in range(1000)])
    monkeypatch.setattr(Teller, "fails", False)
    page = Page()
    async with browser(app=application) as socket, running(Teller):
        topic = (await visit())["topic"]
        await socket.follow(topic)
        while page.names[-1:] != ["succeeded"]:
            frame = await socket.hear()
            if frame["type"] == "subscribed":  # it read more slowly than the log was trimmed: a new start
                assert not frame["recovered"]
                page.place = Position(frame["epoch"], frame["offset"] - frame["replayed"])
            else:
                page.take(frame)
        answer = await socket.follow(topic)
        assert not answer["recovered"]
        assert 100 <= answer["replayed"] < 1000
        assert answer["offset"] == 1003
        new = Page()
        await new.read(socket)
        assert new.words == Teller.words[-len(new.words) :]

    socket = Browser(application, "/ws/long/?user=5")
    await socket.connect()
    await socket.hear_only("welcome")
    answer = await socket.follow(topic)
    assert (answer["recovered"], answer["replayed"]) == (False, 0)
    assert (await socket.hear_only("snapshot"))["data"]["text"].split() == Teller.words
    await socket.disconnect()


class Counter(AsyncConsumer):
    async def story_tell(self, message: dict[str, Any]) -> None:
        for number in range(1000):
            await current_job().aprogress((number + 1) / 1000)
            await asyncio.sleep(0.001)


@pytest.mark.alone
async def test_progress_a_thousand_times_a_second_is_told_five_times() -> None:
    fractions: list[float] = []
    async with browser(app=application) as socket, running(Counter):
        topic = (await visit())["topic"]
        await socket.follow(topic)
        began = time.monotonic()
        while (event := await socket.hear_only("event"))["name"] != "succeeded":
            if event["name"] == "progress":
                fractions.append(event["data"]["fraction"])
        seconds = time.monotonic() - began
    assert fractions[-1] == 1.0, "the last word is never lost"
    assert fractions == sorted(fractions)
    assert 4 <= len(fractions) <= seconds / PROGRESS_SECONDS + 2
