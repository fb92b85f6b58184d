"""Following topics: what a browser sees of a log, from its start, from where it was, and when the log is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from channels.layers import channel_layers

from project.development.valkey import Valkey
from realtime import protocol
from realtime.bells import Bells
from realtime.feed import TAIL_EVENTS
from retrying import StoreUnavailable, topics
from retrying.topics import Position
from tests.conftest import await_for

from .app import CHANNEL, StreamConsumer
from .browser import browser, end_of, happen, trim

TOPIC = "user.5"


async def test_a_new_topic_is_followed_from_its_first_event() -> None:
    async with browser() as socket:
        answer = await socket.follow(TOPIC)
        assert answer == {
            "type": "subscribed",
            "topic": TOPIC,
            "epoch": 0,
            "offset": 0,
            "recovered": True,
            "replayed": 0,
        }
        await happen(TOPIC, 3)
        events = [await socket.hear_only("event") for _ in range(3)]
    assert [event["offset"] for event in events] == [1, 2, 3]
    assert events[0].keys() == {"type", "topic", "epoch", "offset", "at", "job", "name", "data"}
    assert {event["name"] for event in events} == {"ready"}


async def test_the_history_comes_first() -> None:
    await happen(TOPIC, 5)
    async with browser() as socket:
        answer = await socket.follow(TOPIC)
        assert (answer["recovered"], answer["replayed"], answer["offset"]) == (True, 5, 5)
        assert await socket.offsets(5) == [1, 2, 3, 4, 5]
        await happen(TOPIC)
        assert await socket.offsets(1) == [6]


async def test_a_reconnect_goes_on_where_it_was() -> None:
    await happen(TOPIC, 4)
    end = await end_of(TOPIC)
    async with browser() as socket:
        answer = await socket.follow(TOPIC, Position(end.epoch, 1))
        assert (answer["recovered"], answer["replayed"]) == (True, 3)
        assert await socket.offsets(3) == [2, 3, 4]
    async with browser() as socket:
        answer = await socket.follow(TOPIC, end)
        assert (answer["recovered"], answer["replayed"]) == (True, 0)


async def test_a_topic_that_was_empty_when_last_seen_is_recovered() -> None:
    await happen(TOPIC, 2)
    async with browser() as socket:
        answer = await socket.follow(TOPIC, Position(0, 0))
        assert (answer["recovered"], answer["replayed"]) == (True, 2)
        assert await socket.offsets(2) == [1, 2]


async def test_a_long_replay_meets_live_events_without_a_gap() -> None:
    """The log is read in pieces while it grows; the pieces and what the hub remembers fit together."""
    await happen(TOPIC, 300)
    async with browser() as socket:
        growing = asyncio.create_task(happen(TOPIC, 200))
        await socket.follow(TOPIC)
        assert await socket.offsets(500) == list(range(1, 501))
        await growing


async def test_history_that_was_trimmed_is_not_recovered() -> None:
    await happen(TOPIC, 10)
    end = await end_of(TOPIC)
    await trim(TOPIC, keep=3)
    async with browser() as socket:
        answer = await socket.follow(TOPIC, Position(end.epoch, 2))
        assert (answer["recovered"], answer["replayed"], answer["offset"]) == (False, 3, 10)
        assert await socket.offsets(3) == [8, 9, 10]
        answer = await socket.follow(TOPIC, Position(end.epoch, 7))
        assert (answer["recovered"], answer["replayed"]) == (True, 3)
        assert await socket.offsets(3) == [8, 9, 10]
        answer = await socket.follow(TOPIC)
        assert (answer["recovered"], answer["replayed"]) == (False, 3)
        assert await socket.offsets(3) == [8, 9, 10]


@pytest.mark.parametrize("after", [Position(1, 3), Position(2**50, 3)], ids=["older log", "log of the future"])
async def test_a_place_in_another_log_is_not_recovered(after: Position) -> None:
    await happen(TOPIC, 2)
    async with browser() as socket:
        answer = await socket.follow(TOPIC, after)
        assert (answer["recovered"], answer["replayed"]) == (False, 2)
        assert await socket.offsets(2) == [1, 2]


async def test_an_offset_from_the_future_is_not_recovered() -> None:
    """The server lost the newest events (its disk is behind what browsers have seen)."""
    await happen(TOPIC, 2)
    end = await end_of(TOPIC)
    async with browser() as socket:
        answer = await socket.follow(TOPIC, Position(end.epoch, 9))
        assert (answer["recovered"], answer["replayed"], answer["offset"]) == (False, 2, 2)
        assert await socket.offsets(2) == [1, 2]


async def test_a_wiped_store_starts_every_follower_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.hub.FLOOR_SECONDS", 0.1)
    await happen(TOPIC, 3)
    async with browser() as socket:
        before = await socket.follow(TOPIC)
        await socket.offsets(3)
        await topics.client().flushall()
        answer = await socket.hear_only("subscribed")
        assert (answer["epoch"], answer["offset"], answer["recovered"]) == (0, 0, False)
        await happen(TOPIC, 2)
        events = [await socket.hear_only("event") for _ in range(2)]
        assert [event["offset"] for event in events] == [1, 2]
        assert events[0]["epoch"] > before["epoch"]


async def test_a_wiped_store_is_noticed_by_the_next_event_too() -> None:
    await happen(TOPIC, 3)
    async with browser() as socket:
        await socket.follow(TOPIC)
        await socket.offsets(3)
        await topics.client().flushall()
        await happen(TOPIC)
        answer = await socket.hear_only("subscribed")
        assert (answer["recovered"], answer["replayed"]) == (False, 1)
        assert await socket.offsets(1) == [1]


async def test_a_snapshot_stands_for_the_history() -> None:
    topic = "user.5.state"
    await happen(topic, 3)
    async with browser() as socket:
        answer = await socket.follow(topic)
        assert (answer["recovered"], answer["replayed"], answer["offset"]) == (False, 0, 3)
        assert await socket.hear() == {"type": "snapshot", "topic": topic, "data": {"snapshot": 1}}
        await happen(topic)
        assert await socket.offsets(1) == [4]
        end = await end_of(topic)
        answer = await socket.follow(topic, Position(end.epoch, 2))  # resumed: what is missing, no snapshot
        assert (answer["recovered"], answer["replayed"]) == (True, 2)
        assert await socket.offsets(2) == [3, 4]
        await trim(topic, keep=1)
        answer = await socket.follow(topic, Position(end.epoch, 1))  # can't be resumed
        assert (answer["recovered"], answer["replayed"]) == (False, 0)
        assert (await socket.hear_only("snapshot"))["data"] == {"snapshot": 2}
    assert StreamConsumer.snapshots == 2


@pytest.mark.parametrize("topic", ["user.6", "user.55", "anything"])
async def test_a_topic_that_is_not_yours(topic: str) -> None:
    await happen(topic)
    async with browser(user=5) as socket:
        await socket.say(type="subscribe", topic=topic)
        error = await socket.hear_only("error")
        assert (error["code"], error["topic"], "id" in error) == ("forbidden", topic, False)
        await happen(topic)
        await socket.say(type="ping")
        assert await socket.hear() == {"type": "pong"}


async def test_an_unsubscribed_topic_is_silent() -> None:
    async with browser() as socket:
        await socket.follow(TOPIC)
        await socket.follow("user.5.other")
        await socket.say(type="unsubscribe", topic=TOPIC)
        await socket.say(type="command", id="marker", name="refuse")
        await socket.hear_only("error")
        await happen(TOPIC)
        await happen("user.5.other")
        assert (await socket.hear_only("event"))["topic"] == "user.5.other"


async def test_a_mistake_in_may_follow_is_told_without_its_details() -> None:
    async with browser() as socket:
        await socket.say(type="subscribe", topic="public.broken")
        error = await socket.hear_only("error")
        assert (error["code"], error["topic"]) == ("internal", "public.broken")
        assert "mistake" not in str(error)


async def test_at_most_50_subscriptions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "FRAMES_BURST", 100)
    async with browser() as socket:
        for number in range(protocol.SUBSCRIPTIONS):
            await socket.follow(f"public.{number}")
        await socket.say(type="subscribe", topic="public.more")
        assert (await socket.hear_only("error"))["code"] == "too_many"
        assert (await socket.follow("public.0"))["recovered"]  # one that it has may be asked for again


async def test_twenty_sockets_read_the_log_once() -> None:
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(browser()) for _ in range(20)]
        for socket in sockets:
            await socket.follow("public.one")
        client = topics.client()
        await client.config_resetstat()
        await happen("public.one")
        for socket in sockets:
            assert await socket.offsets(1) == [1]
        reads = (await client.info("commandstats"))["cmdstat_xrange"]["calls"]
        assert reads <= 4, "one read of the log, or two when a bell rang meanwhile; each is at most two XRANGE"
        assert (await client.pubsub_numsub(topics.key(CHANNEL, "public.one")))[0][1] == 1


async def test_a_socket_that_is_behind_what_the_hub_remembers_reads_for_itself() -> None:
    await happen("public.one")
    async with browser() as first, browser() as second:
        await first.follow("public.one")
        await first.offsets(1)
        await happen("public.one", TAIL_EVENTS + 10)
        await first.offsets(TAIL_EVENTS + 10)
        end = await end_of("public.one")
        await second.follow("public.one", Position(end.epoch, 3))
        assert await second.offsets(TAIL_EVENTS + 8) == list(range(4, TAIL_EVENTS + 12))


async def test_a_lost_bell_costs_only_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.hub.FLOOR_SECONDS", 0.1)
    async with browser() as socket:
        await socket.follow(TOPIC)
        monkeypatch.setattr(Bells.current(), "_hear", lambda kind, key, news: None)
        await happen(TOPIC, 2)
        assert await socket.offsets(2) == [1, 2]


async def test_a_slow_browser_is_cut_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "CHECK_BYTES", 2_000)
    monkeypatch.setattr(protocol, "WINDOW_BYTES", 8_000)
    monkeypatch.setattr(protocol, "SLOW_SECONDS", 0.5)
    async with browser() as slow, browser() as quick:
        slow.confirms = False
        await slow.follow("public.one")
        await quick.follow("public.one")
        _, heard = await asyncio.gather(happen("public.one", 300), quick.offsets(300))
        assert heard == list(range(1, 301))
        frames = []
        while (frame := await slow.hear())["type"] == "event":
            frames.append(frame)
        assert frame == {"type": "close", "code": 4503}
        assert 30 < len(frames) < 100, "no more than the window was sent"


async def test_several_event_loops_have_hubs_of_their_own() -> None:
    """Each is what another process, or a thread with a loop, would be."""

    def elsewhere() -> list[int]:
        async def main() -> list[int]:
            async with browser() as socket:
                await socket.follow(TOPIC)
                return await socket.offsets(2)

        return asyncio.run(main())

    async with browser() as socket:
        await socket.follow(TOPIC)
        await happen(TOPIC, 2)
        assert await socket.offsets(2) == [1, 2]
        assert await asyncio.to_thread(elsewhere) == [1, 2]
        await happen(TOPIC)
        assert await socket.offsets(1) == [3]


async def test_leaving_gives_the_pubsub_subscription_back() -> None:
    client = topics.client()
    async with browser() as socket:
        await socket.follow(TOPIC)
        await socket.follow("user.5.other")
        await socket.say(type="unsubscribe", topic="user.5.other")

        async def left() -> bool:
            return (await client.pubsub_numsub(topics.key(CHANNEL, "user.5.other")))[0][1] == 0

        await await_for(left, "the hub has unsubscribed")
        assert (await client.pubsub_numsub(topics.key(CHANNEL, TOPIC)))[0][1] == 1

    async def all_left() -> bool:
        return not await client.pubsub_channels()

    await await_for(all_left, "the hub has hung up")


@pytest.fixture
def own_valkey(tmp_path: Path, settings: Any) -> Iterator[Valkey]:
    """A server of the test's own that keeps its data when it is stopped."""
    with Valkey(tmp_path / "valkey", appendonly=True) as server:
        settings.CHANNEL_LAYERS = {
            "default": {"BACKEND": "retrying.layers.RetryingChannelLayer", "CONFIG": {"hosts": [server.url]}}
        }
        channel_layers.backends.clear()
        yield server


async def test_a_store_that_comes_back_is_followed_again(own_valkey: Valkey) -> None:
    await happen(TOPIC, 2)
    async with browser() as socket:
        await socket.follow(TOPIC)
        await socket.offsets(2)
        for start in (3, 6):
            own_valkey.stop()
            await socket.say(type="ping")  # the socket doesn't notice
            assert await socket.hear() == {"type": "pong"}
            own_valkey.start()
            await happen(TOPIC, 3)
            assert await socket.offsets(3) == [start, start + 1, start + 2]


async def test_a_topic_asked_for_while_the_store_is_away_is_followed_when_it_is_back(own_valkey: Valkey) -> None:
    await happen(TOPIC, 2)
    own_valkey.stop()
    async with browser() as socket:
        await socket.say(type="subscribe", topic=TOPIC)
        await socket.say(type="command", id="c1", name="say", args={"topic": TOPIC})
        error = await socket.hear_only("error")
        assert (error["id"], error["code"]) == ("c1", "unavailable")
        own_valkey.start()
        assert (await socket.hear_only("subscribed"))["replayed"] == 2
        assert await socket.offsets(2) == [1, 2]


async def test_a_read_that_fails_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bell was heard, the read was not answered: the next look reads it."""
    monkeypatch.setattr("realtime.hub.FLOOR_SECONDS", 0.1)
    async with browser() as socket:
        await socket.follow(TOPIC)
        real, failures = topics.aread, 3

        async def failing(*args: Any, **kwargs: Any) -> Any:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise StoreUnavailable
            return await real(*args, **kwargs)

        monkeypatch.setattr(topics, "aread", failing)
        await happen(TOPIC, 2)
        assert await socket.offsets(2) == [1, 2]
        assert failures < 0
