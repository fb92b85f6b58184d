"""`retrying.jobs`: what operators do with jobs, on a real server, sync and async."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
import redis
from channels.consumer import AsyncConsumer
from channels.routing import get_default_application

from retrying import State, StoreUnavailable, enqueue, jobs
from retrying.conf import get_settings, task_channels
from retrying.find import parse_cursor
from retrying.layers import get_layer
from retrying.store import Store
from retrying.store.calls import Burial, Claim, Cursor, Lease
from tests.conftest import await_for, wait_for
from tests.retrying.running import running

CHANNEL = "work"
TOKEN = "t"


@pytest.fixture
def layer_store(redis_url: str) -> Store:
    """The store of the default layer, on the shared server."""
    return get_layer().store


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def put(count: int, prefix: str = "j", **options: Any) -> list[str]:
    return [enqueue(CHANNEL, {"type": "work.do"}, job_id=f"{prefix}{n:04}", **options).id for n in range(count)]


def claim(store: Store, wanted: int, token: str = TOKEN) -> Claim:
    return store.run(store.claim(CHANNEL, "host:1:a", token, wanted=wanted))


def bury(store: Store, count: int, prefix: str = "dead") -> list[str]:
    """Dead letters, that died in the order of their ids."""
    ids = put(count, prefix)
    for job in claim(store, count, prefix).jobs:
        store.run(store.bury(CHANNEL, [Burial(Lease(job.id, prefix), "gave up", "ValueError: no", 5)]))
    return ids


def drain(state: State | str, limit: int) -> list[str]:
    """Every page of a state."""
    found: list[str] = []
    cursor = None
    while True:
        page = jobs.search(CHANNEL, state, limit=limit, cursor=cursor)
        found += [job.id for job in page.jobs]
        if page.cursor is None:
            return found
        cursor = page.cursor


# Both flavours


def test_every_function_has_an_async_twin_with_the_same_signature() -> None:
    plain = [name for name in jobs.__all__ if inspect.isfunction(getattr(jobs, name)) and f"a{name}" in jobs.__all__]
    assert len(plain) == 18
    for name in plain:
        function, twin = getattr(jobs, name), getattr(jobs, f"a{name}")
        assert inspect.iscoroutinefunction(twin)
        assert not inspect.iscoroutinefunction(function)
        assert twin.__name__ == f"a{name}"
        assert inspect.signature(twin) == inspect.signature(function)
        assert "Steps" not in str(inspect.signature(function))
        assert function.__doc__


async def test_async_functions_do_what_the_sync_ones_do(layer_store: Store) -> None:
    await jobs.apause(CHANNEL)
    assert await jobs.ais_paused(CHANNEL)
    await jobs.aresume(CHANNEL)
    assert await jobs.apaused_seconds(CHANNEL) is None
    for n in range(3):
        await get_layer().send(CHANNEL, {"type": "work.do", "n": n})
    page = await jobs.asearch(CHANNEL, "ready", limit=2)
    assert [job.state for job in page.jobs] == [State.READY] * 2
    assert page.cursor
    assert await jobs.acancel(CHANNEL, page.jobs[0].id, "no") == State.CANCELLED
    assert await jobs.apurge_all(CHANNEL, "cancelled") == 1
    assert await jobs.aget(CHANNEL, page.jobs[0].id) is None
    assert await jobs.aredrive_all(CHANNEL) == 0
    with pytest.raises(ValueError, match="limit"):
        await jobs.asearch(CHANNEL, "ready", limit=0)
    await get_layer().close_pools()


def test_no_server_is_said(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "retrying.layers.RetryingChannelLayer",
            "CONFIG": {"hosts": ["redis://127.0.0.1:1/0"]},
        }
    }
    with pytest.raises(StoreUnavailable):
        jobs.search(CHANNEL, "dead")
    with pytest.raises(StoreUnavailable):
        jobs.redrive_all(CHANNEL)


# Search


def test_pages_hold_every_job_once_newest_first(layer_store: Store) -> None:
    ids = put(25)
    assert drain(State.READY, limit=10) == ids[::-1]
    assert drain("ready", limit=25) == ids[::-1]
    assert drain("scheduled", limit=10) == []


def test_search_finds_jobs_by_each_state(layer_store: Store) -> None:
    assert [job.id for job in jobs.search(CHANNEL, "ready").jobs] == []
    bury(layer_store, 2)
    put(1, "later", delay=60)
    put(1, "gone")
    jobs.cancel(CHANNEL, "gone0000", "not wanted")
    put(1, "run", topic="t")
    claim(layer_store, 1, "token")
    put(1, "wait")
    found = {state: [job.id for job in jobs.search(CHANNEL, state).jobs] for state in State}
    assert found == {
        State.SCHEDULED: ["later0000"],
        State.READY: ["wait0000"],
        State.RUNNING: ["run0000"],
        State.SUCCEEDED: [],
        State.DEAD: ["dead0001", "dead0000"],
        State.CANCELLED: ["gone0000"],
        State.EXPIRED: [],
    }


def test_a_listed_job_is_the_job(layer_store: Store) -> None:
    bury(layer_store, 1)
    (job,) = jobs.search(CHANNEL, "dead").jobs
    assert job == jobs.get(CHANNEL, "dead0000")
    assert (job.reason, job.error, job.attempt) == ("gave up", "ValueError: no", 1)
    put(1, "run", topic="t", priority=7)
    claim(layer_store, 1)
    jobs.cancel(CHANNEL, "run0000", "stop")
    assert jobs.search(CHANNEL, "running").jobs == [jobs.get(CHANNEL, "run0000")]


def test_kept_successes_are_listed_and_purged(layer_store: Store) -> None:
    put(3)
    leases = [Lease(job.id, "t") for job in claim(layer_store, 3).jobs]
    layer_store.run(layer_store.claim(CHANNEL, "host:1:a", "u", wanted=0, succeeded=leases, keep=10))
    assert sorted(drain("succeeded", limit=2)) == ["j0000", "j0001", "j0002"]
    assert jobs.purge(CHANNEL, "j0001") is None
    assert jobs.purge_all(CHANNEL, State.SUCCEEDED) == 2
    assert jobs.counts(CHANNEL).finished == 0


def test_pages_of_equal_times_hold_every_job_once(layer_store: Store, server: redis.Redis) -> None:
    """Equal scores, and ids whose order a locale would see differently: the cursor is exact all the same."""
    ids = [f"{letter}{n}" for letter in ("a", "B", "_", "-", "Z", "z", "10", "9") for n in range(4)]
    for id in ids:
        enqueue(CHANNEL, {"type": "work.do"}, job_id=id, delay=60)
    scheduled = layer_store.keys(CHANNEL).all[2]
    server.zadd(scheduled, dict.fromkeys(ids, 5e12))
    for limit in (1, 3, 7, 32):
        assert drain("scheduled", limit=limit) == sorted(ids, reverse=True)


def test_paging_goes_on_where_it_was_when_jobs_leave_and_come(layer_store: Store) -> None:
    ids = put(10)
    first = jobs.search(CHANNEL, "ready", limit=4)
    assert [job.id for job in first.jobs] == ids[:5:-1]
    for id in ids[5:8]:  # the cursor's own job among them
        jobs.cancel(CHANNEL, id)
    put(3, "new")
    second = jobs.search(CHANNEL, "ready", limit=4, cursor=first.cursor)
    assert [job.id for job in second.jobs] == ids[4:0:-1]


def test_cancelled_and_expired_share_a_set_but_not_a_list(layer_store: Store) -> None:
    put(1500, "c")
    for id in [f"c{n:04}" for n in range(1500)]:
        jobs.cancel(CHANNEL, id)
    put(2, "e", expires=0)
    assert claim(layer_store, 2).jobs == []
    assert [job.id for job in jobs.search(CHANNEL, "expired").jobs] == ["e0001", "e0000"]
    assert len(drain("cancelled", limit=400)) == 1500
    assert jobs.purge_all(CHANNEL, "cancelled") == 1500
    assert jobs.counts(CHANNEL).finished == 2
    assert jobs.purge_all(CHANNEL, "expired") == 2


def test_jobs_that_were_evicted_are_passed_over(layer_store: Store, server: redis.Redis) -> None:
    put(3)
    server.delete(layer_store.keys(CHANNEL).all[0] + "j0001")
    assert drain("ready", limit=1) == ["j0002", "j0000"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"state": "broken"}, "broken"),
        ({"state": "ready", "limit": 0}, "1 to 1000"),
        ({"state": "ready", "limit": 1001}, "1 to 1000"),
        ({"state": "ready", "cursor": "nonsense"}, "cursor takes"),
        ({"state": "ready", "cursor": "+inf:a"}, "cursor takes"),
        ({"state": "ready", "cursor": "5:"}, "cursor takes"),
    ],
)
def test_bad_searches_are_refused_in_words(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        jobs.search(CHANNEL, **arguments)


# Purge


def test_only_ended_jobs_are_purged(layer_store: Store) -> None:
    bury(layer_store, 1)
    put(1, "later", delay=60)
    put(1, "run")
    claim(layer_store, 1)
    put(1, "wait")
    assert jobs.purge(CHANNEL, "later0000") == State.SCHEDULED
    assert jobs.purge(CHANNEL, "run0000") == State.RUNNING
    assert jobs.purge(CHANNEL, "wait0000") == State.READY
    assert jobs.purge(CHANNEL, "dead0000") is None
    assert jobs.purge(CHANNEL, "dead0000") is None
    assert jobs.get(CHANNEL, "dead0000") is None
    counts = jobs.counts(CHANNEL)
    assert (counts.scheduled, counts.running, counts.ready, counts.dead) == (1, 1, 1, 0)


def test_a_purged_id_may_be_used_again(layer_store: Store) -> None:
    put(1)
    lease = Lease(claim(layer_store, 1).jobs[0].id, "t")
    layer_store.run(layer_store.claim(CHANNEL, "host:1:a", "u", wanted=0, succeeded=[lease]))
    assert enqueue(CHANNEL, {"type": "work.do"}, job_id="j0000").state == State.SUCCEEDED
    assert jobs.purge(CHANNEL, "j0000") is None
    assert enqueue(CHANNEL, {"type": "work.do"}, job_id="j0000").state == State.READY


def test_purge_all_goes_by_age(layer_store: Store, server: redis.Redis) -> None:
    bury(layer_store, 1200)
    dead = layer_store.keys(CHANNEL).all[4]
    seconds, _ = server.time()
    server.zadd(dead, {f"dead{n:04}": (seconds - 7200) * 1000 for n in range(700)})
    assert jobs.purge_all(CHANNEL, "dead", older_than=timedelta(days=1)) == 0
    assert jobs.purge_all(CHANNEL, "dead", older_than=3600) == 700
    assert jobs.counts(CHANNEL).dead == 500
    assert not [key for key in server.scan_iter() if "job:dead00" in key]
    assert jobs.purge_all(CHANNEL, "dead") == 500
    assert list(server.scan_iter("*job:*")) == []


def test_purge_all_forgets_places_of_evicted_jobs(layer_store: Store, server: redis.Redis) -> None:
    bury(layer_store, 2)
    server.delete(layer_store.keys(CHANNEL).all[0] + "dead0000")
    assert jobs.purge_all(CHANNEL, "dead") == 2
    assert jobs.counts(CHANNEL).dead == 0


@pytest.mark.parametrize(
    ("state", "older_than", "words"), [("ready", 0, "cancel these"), ("dead", -1, ">= 0"), ("dead", float("nan"), ">=")]
)
def test_bad_purges_are_refused_in_words(state: str, older_than: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        jobs.purge_all(CHANNEL, state, older_than=older_than)


# Redrive


def test_redrive_all_makes_every_dead_letter_ready(layer_store: Store) -> None:
    ids = bury(layer_store, 450)
    assert jobs.redrive_all(CHANNEL) == 450
    assert jobs.counts(CHANNEL).ready == 450
    job = jobs.get(CHANNEL, ids[0])
    assert job is not None
    assert (job.state, job.attempt, job.failures, job.reason) == (State.READY, 1, 0, "")
    assert len(claim(layer_store, 1000, "again").jobs) == 450


def test_redrive_all_takes_those_that_died_first(layer_store: Store, server: redis.Redis) -> None:
    bury(layer_store, 5)
    # Deaths within one millisecond have the order of their ids.
    assert jobs.redrive_all(CHANNEL, limit=3) == 3
    assert drain("dead", limit=10) == ["dead0004", "dead0003"]


def test_redrive_all_keeps_the_rate(layer_store: Store, server: redis.Redis) -> None:
    bury(layer_store, 450)
    assert jobs.redrive_all(CHANNEL, rate=100) == 450
    dues = sorted(score for _, score in server.zrange(layer_store.keys(CHANNEL).all[2], 0, -1, withscores=True))
    assert len(dues) == 450
    steps = [later - earlier for earlier, later in pairwise(dues)]
    # Ten ms apart, over the batches' borders too (rounded to whole ms).
    assert all(9 <= step <= 11 for step in steps), sorted(set(steps))
    assert jobs.counts(CHANNEL).ready == 0


def test_a_rate_above_the_clock_is_kept_on_average(layer_store: Store, server: redis.Redis) -> None:
    bury(layer_store, 400)
    assert jobs.redrive_all(CHANNEL, rate=4000) == 400
    dues = [score for _, score in server.zrange(layer_store.keys(CHANNEL).all[2], 0, -1, withscores=True)]
    assert 95 <= max(dues) - min(dues) <= 400


def test_what_dies_meanwhile_is_left_alone(layer_store: Store) -> None:
    bury(layer_store, 1)
    first = layer_store.run(layer_store.redrive_all(CHANNEL, "one", wanted=10))
    assert (first.done, first.more) == (1, False)
    wait_for(lambda: server_ms(layer_store) > int(first.before), "the next millisecond")
    for job in claim(layer_store, 1, "x").jobs:
        layer_store.run(layer_store.bury(CHANNEL, [Burial(Lease(job.id, "x"), "again", "", 0)]))
    assert layer_store.run(layer_store.redrive_all(CHANNEL, "two", wanted=10, after=first)).done == 0
    assert jobs.counts(CHANNEL).dead == 1


def server_ms(store: Store) -> int:
    seconds, micros = store.connections.sync().time()
    return int(seconds) * 1000 + int(micros) // 1000


def test_a_repeated_redrive_gets_the_first_answer(layer_store: Store) -> None:
    """Its reply was lost: the letters of the batch are redriven once, no others instead."""
    bury(layer_store, 6)
    call = layer_store.redrive_all(CHANNEL, "token", wanted=2, pace=1000)
    assert layer_store.run(call) == layer_store.run(call)
    assert jobs.counts(CHANNEL).dead == 4


@pytest.mark.parametrize("arguments", [{"limit": 0}, {"rate": 0}, {"rate": -1}, {"rate": float("inf")}])
def test_bad_redrives_are_refused_in_words(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"limit takes|rate takes"):
        jobs.redrive_all(CHANNEL, **arguments)


# Pause


def test_a_paused_channel_gives_nothing_out_until_it_is_resumed(layer_store: Store) -> None:
    assert jobs.pause(CHANNEL) is True
    assert jobs.pause(CHANNEL) is False
    assert jobs.is_paused(CHANNEL)
    assert 0 <= (jobs.paused_seconds(CHANNEL) or 0) < 60
    put(2)
    assert claim(layer_store, 5).jobs == []
    assert jobs.counts(CHANNEL).ready == 2
    assert jobs.resume(CHANNEL) is True
    assert jobs.resume(CHANNEL) is False
    assert not jobs.is_paused(CHANNEL)
    assert jobs.paused_seconds(CHANNEL) is None
    assert len(claim(layer_store, 5, "u").jobs) == 2


def test_resume_rings_the_bell(layer_store: Store, server: redis.Redis) -> None:
    put(1)
    jobs.pause(CHANNEL)
    bell = layer_store.keys(CHANNEL).bell
    server.delete(bell)
    jobs.resume(CHANNEL)
    assert server.llen(bell) == 1


# Channels


def test_channels_are_those_of_the_settings_and_the_routers(settings: Any) -> None:
    settings.RETRYING = {**settings.RETRYING, "CHANNELS": {"mails": {}}}
    get_settings.cache_clear()
    assert jobs.channels() == sorted({"mails", *task_channels(), *jobs.routed(get_default_application())})
    get_settings.cache_clear()


def test_channels_that_are_only_sent_to_are_known(layer_store: Store, server: redis.Redis) -> None:
    """A typo in send() would be invisible: jobs that wait for ever, on a channel that nobody looks at."""
    enqueue("delivreies", {"type": "work.do"})
    asyncio.run(get_layer().send("mials", {"type": "work.do"}))
    assert set(jobs.channels()) - jobs.named_channels() == {"delivreies", "mials"}
    assert server.zcard(f"{layer_store.prefix}:channels") == 2


def test_channels_are_told_once_a_process_and_capped(
    layer_store: Store, server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrying.store.MAX_CHANNELS", 3)
    for n in range(5):
        layer_store.run(layer_store.remember(f"c{n}"))
    assert layer_store.run(layer_store.channels()) == ["c4", "c3", "c2"]
    enqueue("c4", {"type": "work.do"})
    server.delete(f"{layer_store.prefix}:channels")
    enqueue("c4", {"type": "work.do"})
    assert layer_store.run(layer_store.channels()) == [], "nothing more is said of a channel that was told"


async def test_a_worker_tells_its_channel(layer_store: Store) -> None:
    async def told() -> bool:
        return CHANNEL in await jobs.achannels()

    async with running(AsyncConsumer):
        await await_for(told, "the worker's channel is known")


def test_channels_behind_middleware_are_found() -> None:
    from channels.routing import ChannelNameRouter, ProtocolTypeRouter

    class Middleware:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

    router = ProtocolTypeRouter({"channel": Middleware(ChannelNameRouter({"a": None, "b": None}))})
    assert jobs.routed(Middleware(router)) == ["a", "b"]
    assert jobs.routed(ProtocolTypeRouter({})) == []
    assert jobs.routed(object()) == []


def test_a_cursor_tells_its_place() -> None:
    assert parse_cursor("3518437208883201:a:b") == Cursor("3518437208883201", "a:b")
