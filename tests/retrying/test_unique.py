"""A unique name belongs to one job at a time: who gets it, what a second one is told, and what frees it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from retrying import Job, NotUnique, State, aenqueue, enqueue, jobs
from retrying.layers import get_layer
from retrying.store import Store
from retrying.store.calls import Burial, Lease, NewJob, Retry
from retrying.testing import advance
from tests.faults.proxy import Proxy

from .test_store import ack, bury, claim, discard, fail, limited, look, put, release, sweep, take, vanish

CHANNEL = "work"


def again(store: Store, id: str = "other", **options: Any) -> str:
    """The id of the job that holds the name, once another one asked for it."""
    return put(store, id, unique="name", **options)[0].id


# Who holds it


def test_second_gets_the_first_back_and_writes_nothing(redis_url: str) -> None:
    first = enqueue(CHANNEL, {"type": "work.do"}, unique="report", delay=60, priority=3, topic="t")
    with redis.Redis.from_url(redis_url) as server:
        before = {key: server.dump(key) for key in server.scan_iter()}
        second = enqueue(CHANNEL, {"type": "work.do", "other": 1}, unique="report", job_id="mine", topic="u")
        assert {key: server.dump(key) for key in server.scan_iter()} == before
    assert (first.duplicate, second.duplicate) == (False, True)
    for name in ("id", "state", "due_at", "created_at", "priority", "topic", "unique"):
        assert getattr(second, name) == getattr(first, name)
    assert jobs.get(CHANNEL, first.id) == first
    assert jobs.get(CHANNEL, "mine") is None


async def test_async_and_by_channel() -> None:
    first = await aenqueue(CHANNEL, {"type": "work.do"}, unique="a")
    assert (await aenqueue(CHANNEL, {"type": "work.do"}, unique="a")).id == first.id
    assert (await aenqueue(CHANNEL, {"type": "work.do"}, unique="b")).id != first.id
    assert (await aenqueue("elsewhere", {"type": "work.do"}, unique="a")).id != first.id
    await get_layer().close_pools()


def test_within_one_request(store: Store) -> None:
    (first, second) = put(store, "a", "b", unique="name")
    assert (first.new, second.new, second.id) == (True, False, "a")


def test_duplicates_take_no_place(store: Store) -> None:
    put(store, "a", unique="name")
    assert put(store, "b", unique="name", capacity=1)[0].id == "a"
    assert put(store, "c", capacity=1) == []


def test_duplicate_by_id_is_told() -> None:
    assert not enqueue(CHANNEL, {"type": "work.do"}, job_id="a").duplicate
    assert enqueue(CHANNEL, {"type": "work.do"}, job_id="a").duplicate


def test_lost_reply_makes_no_duplicate(settings: Any, redis_url: str) -> None:
    """The request is repeated under the same id, and finds its own job."""
    with Proxy(urlsplit(redis_url).port or 0) as proxy:
        config = {"hosts": [proxy.url]}
        settings.CHANNEL_LAYERS = {"default": {**settings.CHANNEL_LAYERS["default"], "CONFIG": config}}
        enqueue("warm", {"type": "work.do"})
        proxy.fate = lambda request: "cut" if b"lost" in request and not proxy.hurt else ""
        job = enqueue(CHANNEL, {"type": "lost"}, unique="name")
        assert proxy.hurt == 1
        assert not job.duplicate
        assert jobs.counts(CHANNEL).ready == 1
        get_layer().store.connections.close()


# How it is freed

ENDS: dict[str, Callable[[Store], object]] = {
    "success": lambda store: ack(store, "a", "T"),
    "kept success": lambda store: ack(store, "a", "T", keep=5),
    "bury": lambda store: bury(store, "a", "T"),
    "deadline": lambda store: store.run(store.retry(CHANNEL, [Retry(Lease("a", "T"), 60_000, True, "no", 5, 1)])),
    "discard": lambda store: discard(store, "a", "T"),
    "cancel and retry": lambda store: (store.run(store.cancel(CHANNEL, "a", "no")), fail(store, "a", "T")),
    "cancel and release": lambda store: (store.run(store.cancel(CHANNEL, "a", "no")), release(store, "a", "T")),
}


@pytest.mark.parametrize("end", ENDS)
def test_end_of_an_attempt_frees_it(store: Store, end: str, redis_url: str) -> None:
    put(store, "a", unique="name")
    take(store, "T")
    assert again(store) == "a"
    ENDS[end](store)
    with redis.Redis.from_url(redis_url, decode_responses=True) as server:
        assert server.get(store.keys(CHANNEL).all[12] + "name") is None
    assert again(store) == "other"


def test_cancel_frees_it(store: Store) -> None:
    put(store, "a", unique="name", delay=5000)
    store.run(store.cancel(CHANNEL, "a", "no"))
    assert again(store) == "other"


def test_expiry_frees_it(store: Store) -> None:
    put(store, "a", unique="name", expires=0)
    assert take(store, "T") == []
    assert again(store) == "other"


def test_poison_frees_it(store: Store) -> None:
    put(store, "a", unique="name")
    vanish(store, "T")
    assert sweep(limited(store, max_rescues=0)).rescued[0].buried
    assert again(store) == "other"


def test_it_is_held_through_retry_rescue_and_release(store: Store) -> None:
    put(store, "a", unique="name")
    take(store, "T1")
    fail(store, "a", "T1")
    assert again(store) == "a"
    take(store, "T2")
    release(store, "a", "T2")
    assert again(store) == "a"
    vanish(store, "T3")
    sweep(store)
    assert again(store) == "a"


def test_until_started(store: Store) -> None:
    put(store, "a", unique="name", unique_until_started=True)
    assert again(store, unique_until_started=True) == "a"
    take(store, "T")
    assert again(store, "b") == "b"
    fail(store, "a", "T")  # its end, and its next start, take nothing from who holds the name now
    assert again(store, "c") == "b"
    claim(store, "T2", 2)
    ack(store, "a", "T2")
    assert again(store, "c") == "b"


def test_for_a_time_whatever_becomes_of_the_job() -> None:
    first = enqueue(CHANNEL, {"type": "work.do"}, unique="hourly", unique_for=timedelta(hours=1))
    store = get_layer().store
    take(store, "T")
    ack(store, first.id, "T")
    second = enqueue(CHANNEL, {"type": "work.do"}, unique="hourly")
    assert (second.id, second.state, second.duplicate) == (first.id, State.SUCCEEDED, True)
    advance(600)  # of the first job nothing is left
    assert jobs.get(CHANNEL, first.id) is None
    second = enqueue(CHANNEL, {"type": "work.do"}, unique="hourly")
    assert (second.id, second.state, second.duplicate) == (first.id, State.SUCCEEDED, True)
    advance(3000)
    assert not enqueue(CHANNEL, {"type": "work.do"}, unique="hourly").duplicate


def test_time_ends_while_the_job_waits() -> None:
    first = enqueue(CHANNEL, {"type": "work.do"}, unique="name", unique_for=10)
    advance(11)
    second = enqueue(CHANNEL, {"type": "work.do"}, unique="name")
    assert not second.duplicate
    jobs.cancel(CHANNEL, first.id)  # it holds the name no more
    assert enqueue(CHANNEL, {"type": "work.do"}, unique="name").id == second.id


@pytest.mark.parametrize("bulk", [False, True])
def test_purge_frees_it(bulk: bool) -> None:
    first = enqueue(CHANNEL, {"type": "work.do"}, unique="name", unique_for=1000)
    jobs.cancel(CHANNEL, first.id)
    assert enqueue(CHANNEL, {"type": "work.do"}, unique="name").id == first.id
    if bulk:
        jobs.purge_all(CHANNEL, "cancelled")
    else:
        jobs.purge(CHANNEL, first.id)
    assert not enqueue(CHANNEL, {"type": "work.do"}, unique="name").duplicate


def test_holder_that_is_gone_is_taken_over(store: Store, redis_url: str) -> None:
    """As after an eviction, or an end by a worker of the release before, which knew no unique names."""
    put(store, "a", unique="name")
    with redis.Redis.from_url(redis_url) as server:
        server.delete(store.keys(CHANNEL).all[0] + "a")
    assert again(store, "b") == "b"
    with redis.Redis.from_url(redis_url) as server:
        server.hset(store.keys(CHANNEL).all[0] + "b", "state", "dead")
    assert again(store, "c") == "c"


# Redrive


def test_redrive_takes_it_again(store: Store) -> None:
    put(store, "a", unique="name")
    take(store, "T")
    bury(store, "a", "T")
    assert store.run(store.redrive(CHANNEL, "a")) is State.READY
    assert again(store) == "a"


def test_redrive_says_who_holds_it() -> None:
    first: Job = enqueue(CHANNEL, {"type": "work.do"}, unique="name", job_id="a")
    store = get_layer().store
    take(store, "T")
    store.run(store.bury(CHANNEL, [Burial(Lease(first.id, "T"), "no", "no", 5)]))
    enqueue(CHANNEL, {"type": "work.do"}, unique="name", job_id="b")
    with pytest.raises(NotUnique, match="job 'a' stays dead: job 'b' holds its unique name"):
        jobs.redrive(CHANNEL, "a")
    assert look(store, "a").state is State.DEAD
    jobs.cancel(CHANNEL, "b")
    assert jobs.redrive(CHANNEL, "a") is State.READY


def test_redrive_of_all_leaves_those_behind(store: Store) -> None:
    """More of them than one batch looks at: the ones behind are reached all the same."""
    many = [NewJob(id=f"dead{n:04}", payload=b"", unique="name" if n < 250 else None) for n in range(300)]
    for job in many:
        store.run(store.enqueue(CHANNEL, [job]))
        take(store, job.id)
        bury(store, job.id, job.id)
    put(store, "holder", unique="name")
    after, done = None, 0
    for batch in range(5):
        after = store.run(store.redrive_all(CHANNEL, f"batch{batch}", wanted=1000, after=after))
        done += after.done
        if not after.more:
            break
    assert (done, after.left, after.more) == (50, 250, False)
    assert store.run(store.counts(CHANNEL)).dead == 250
