"""Every transition of a job, against a real server: what each script does, once, twice and too late."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from project.development.valkey import Valkey
from retrying import Job, State, StoreFull, StoreUnavailable
from retrying.store import Limits, Store
from retrying.store.calls import (
    Burial,
    Claim,
    Claimed,
    DueSlot,
    Enqueued,
    Lease,
    Looked,
    NewJob,
    Position,
    Renewed,
    Result,
    Retry,
    ScheduleLook,
    Settled,
)
from tests.conftest import wait_for

CHANNEL = "work"
WORKER = "host:1:a"
LEASE_MS = 60_000

batches = itertools.count()


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    """The bare server, to look at keys."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def put(store: Store, *ids: str, capacity: int | None = None, **options: Any) -> list[Enqueued]:
    jobs = [NewJob(id=id, payload=id.encode(), **options) for id in ids]
    return store.run(store.enqueue(CHANNEL, jobs, capacity=capacity))


def claim(store: Store, token: str, wanted: int = 1, **options: Any) -> Claim:
    return store.run(store.claim(CHANNEL, WORKER, token, wanted=wanted, **options))


def take(store: Store, token: str, wanted: int = 1) -> list[str]:
    return [job.id for job in claim(store, token, wanted).jobs]


def ack(store: Store, id: str, token: str, **options: Any) -> Settled:
    return claim(store, f"ack.{id}.{token}", 0, succeeded=[Lease(id, token)], **options).settled[0]


def fail(store: Store, id: str, token: str, *, delay: int = 0, charged: bool = True) -> Settled:
    retry = Retry(Lease(id, token), delay, charged, "ValueError: no", 5)
    return store.run(store.retry(CHANNEL, [retry]))[0][0]


def bury(store: Store, id: str, token: str) -> Settled:
    return store.run(store.bury(CHANNEL, [Burial(Lease(id, token), "gave up", "ValueError: no", 5)]))[0]


def discard(store: Store, id: str, token: str) -> Settled:
    return store.run(store.discard(CHANNEL, Lease(id, token), "not wanted"))[0]


def release(store: Store, id: str, token: str) -> Settled:
    return store.run(store.release(CHANNEL, [Lease(id, token)]))[0]


def renew(store: Store, id: str, token: str) -> Renewed:
    return store.run(store.renew(CHANNEL, [Lease(id, token)]))[0]


def say(store: Store, id: str, token: str) -> bool:
    events = [("progress", {"fraction": 0.5, "text": "half"})]
    return store.run(store.emit(CHANNEL, Lease(id, token), events, batch=next(batches)))


def look(store: Store, id: str) -> Job:
    job = store.run(store.get(CHANNEL, id))
    assert job is not None, f"{id} is unknown"
    return job


def counts(store: Store) -> tuple[int, int, int, int, int]:
    """Scheduled, ready, running, dead, finished."""
    found = store.run(store.counts(CHANNEL))
    return (found.scheduled, found.ready, found.running, found.dead, found.finished)


def limited(store: Store, **limits: Any) -> Store:
    """The same jobs, seen with other limits."""
    other = Store(store.connections.host, prefix=store.prefix, limits=replace(store.limits, **limits))
    other.connections = store.connections
    return other


def vanish(store: Store, token: str, wanted: int = 1) -> list[str]:
    """Claim as a worker that dies at once: its leases have ended already."""
    return take(limited(store, lease=0), token, wanted)


def sweep(store: Store, worker: str = WORKER, keep: int = 0) -> Any:
    return store.run(store.sweep(CHANNEL, worker, keep=keep))


def events(store: Store, topic: str = "t", after: Position | None = None, limit: int = 500) -> Any:
    return store.run(store.read_topic(CHANNEL, topic, after, limit))


def names(store: Store, topic: str = "t") -> list[str]:
    return [event.name for event in events(store, topic).events]


# Enqueue


def test_new_job(store: Store) -> None:
    (new,) = put(store, "a", topic="t", priority=3)
    assert (new.new, new.state, new.due, new.attempt) == (True, State.READY, None, 0)
    job = look(store, "a")
    assert (job.id, job.channel, job.state, job.attempt, job.failures) == ("a", CHANNEL, State.READY, 0, 0)
    assert (job.priority, job.topic, job.worker, job.error, job.reason) == (3, "t", "", "", "")
    assert job.created_at is not None
    assert job.due_at is job.started_at is job.finished_at is None


def test_a_job_by_itself_is_stored_like_one_of_many(store: Store) -> None:
    """In a way of its own."""
    put(store, "alone")
    put(store, "b", "c")
    put(store, "room", capacity=100)
    whole = [store.run(store.whole(CHANNEL, id)) for id in ("alone", "b", "c", "room")]
    assert [job.keys() for job in whole] == [whole[0].keys()] * 4
    orders = [int(job["order"]) for job in whole]
    assert orders == list(range(orders[0], orders[0] + 4))
    assert take(store, "T", 9) == ["alone", "b", "c", "room"]


def test_same_id_twice_is_one_job(store: Store) -> None:
    first, again = put(store, "a")[0], put(store, "a", priority=50, delay=1000)[0]
    assert first.new
    assert (again.new, again.state, again.created) == (False, State.READY, first.created)
    assert counts(store) == (0, 1, 0, 0, 0)
    assert look(store, "a").priority == 0


@pytest.mark.parametrize("state", ["scheduled", "running", "dead", "cancelled", "succeeded"])
def test_same_id_is_known_in_every_state(store: Store, state: str) -> None:
    put(store, "a", delay=60_000 if state == "scheduled" else None)
    if state != "scheduled":
        take(store, "T")
    {"dead": bury, "cancelled": discard, "succeeded": ack}.get(state, lambda *_: None)(store, "a", "T")
    (again,) = put(store, "a")
    assert (again.new, again.state) == (False, state)
    assert counts(store)[1] == 0


def test_delay_and_time(store: Store) -> None:
    put(store, "later", delay=60_000)
    (at,) = put(store, "at", run_at=4_000_000_000_000)
    assert (at.state, at.due) == (State.SCHEDULED, 4_000_000_000_000)
    (past,) = put(store, "past", run_at=1_000)
    assert past.state is State.READY
    assert counts(store) == (2, 1, 0, 0, 0)
    assert take(store, "T", 9) == ["past"], "never early"
    due = look(store, "later")
    assert due.due_at is not None
    assert due.created_at is not None
    assert (due.due_at - due.created_at).total_seconds() == 60


def test_due_job_is_claimed_without_a_sweep(store: Store) -> None:
    put(store, "a", delay=150)
    nothing = claim(store, "T0")
    assert nothing.jobs == []
    assert nothing.next_due is not None
    assert 0 <= nothing.next_due <= 150
    assert wait_for(lambda: take(store, "T"), "the job is due") == ["a"]
    job = look(store, "a")
    assert job.started_at is not None
    assert job.created_at is not None
    assert (job.started_at - job.created_at).total_seconds() >= 0.15


def test_larger_priority_first_and_order_kept_inside_one(store: Store) -> None:
    for priority, ids in {0: "mno", -100: "xy", 100: "ab", 1: "cd"}.items():
        put(store, *ids, priority=priority)
    put(store, "p")
    assert take(store, "T", 99) == list("abcdmnopxy")


def test_order_is_exact_after_many_jobs(store: Store, server: redis.Redis) -> None:
    server.hset(store.keys(CHANNEL).all[8], "seq", 2**43)
    for priority in (-100, 100):
        put(store, *(f"{priority}.{n}" for n in range(5)), priority=priority)
    assert take(store, "T", 99) == [f"{p}.{n}" for p in (100, -100) for n in range(5)]


def test_expires_before_its_first_attempt(store: Store) -> None:
    put(store, "a", expires=0, topic="t")
    put(store, "b", expires=60_000)
    assert take(store, "T", 9) == ["b"]
    job = look(store, "a")
    assert (job.state, job.attempt, job.reason) == (State.EXPIRED, 0, "expired before its first attempt")
    assert job.finished_at is not None
    assert names(store) == ["ready", "expired"]


def test_expired_and_newer_jobs_take_no_place_in_a_claim(store: Store, server: redis.Redis) -> None:
    """Each used to cost the jobs behind it a claim that came back empty, after which a worker waits a second."""
    put(store, "old1", "old2", expires=0)
    put(store, "newer")
    server.hset(store.keys(CHANNEL).all[0] + "newer", "v", "99")
    put(store, "a", "b", "c")
    assert take(store, "T") == ["a"]
    assert take(store, "T2", 2) == ["b", "c"]
    put(store, *(f"old{n}" for n in range(3, 300)), expires=0)
    put(store, "d")
    server.delete(store.keys(CHANNEL).bell)
    assert take(store, "T3") == [], "one claim moves a bounded number of them"
    assert server.llen(store.keys(CHANNEL).bell) == 1, "and says that it did not get through"
    assert take(store, "T4") == ["d"]


def test_a_job_that_began_no_longer_expires(store: Store) -> None:
    put(store, "a", expires=100)
    take(store, "T")
    fail(store, "a", "T", delay=150)
    assert wait_for(lambda: take(store, "T2"), "its retry is due, long after it would have expired") == ["a"]


def test_capacity_counts_waiting_jobs_and_takes_all_or_none(store: Store) -> None:
    put(store, "a", capacity=3)
    put(store, "b", capacity=3, delay=60_000)
    assert put(store, "c", "d", capacity=3) == []
    assert store.run(store.get(CHANNEL, "c")) is None
    assert len(put(store, "c", capacity=3)) == 1
    take(store, "T")
    assert len(put(store, "d", capacity=3)) == 1, "running jobs don't count"


def test_repeated_enqueue_is_no_second_job_for_the_capacity(store: Store) -> None:
    """The reply was lost when the last place was taken: the repeat must say that the job is stored."""
    put(store, "a", capacity=1)
    assert [again.new for again in put(store, "a", capacity=1)] == [False]


# Claim and ack


def test_claim_leases_and_tells_all_about_the_job(store: Store) -> None:
    put(store, "a", topic="t", priority=2, policy='{"max_retries": 1}')
    (job,) = claim(store, "T").jobs
    assert isinstance(job, Claimed)
    assert (job.id, job.payload, job.attempt, job.failures, job.rescues, job.releases) == ("a", b"a", 1, 0, 0, 0)
    assert (job.priority, job.policy, job.topic) == (2, '{"max_retries": 1}', "t")
    seen = look(store, "a")
    assert (seen.state, seen.attempt, seen.worker) == (State.RUNNING, 1, WORKER)
    assert take(store, "T2") == [], "one lease per job"
    assert counts(store) == (0, 0, 1, 0, 0)


def test_a_claim_takes_no_more_than_it_wants(store: Store) -> None:
    put(store, *"abcde")
    assert take(store, "T", 2) == ["a", "b"]
    assert take(store, "T2", 0) == []
    assert take(store, "T3", 9) == ["c", "d", "e"]


def test_lost_reply_of_a_claim_gives_the_same_jobs(store: Store) -> None:
    put(store, *"abcd")
    assert take(store, "T", 2) == ["a", "b"]
    again = claim(store, "T", 2, repeated=True)
    assert sorted(job.id for job in again.jobs) == ["a", "b"]
    assert {job.attempt for job in again.jobs} == {1}
    assert counts(store) == (0, 2, 2, 0, 0)
    assert ack(store, "a", "T") is Settled.DONE


def test_repeated_claim_that_never_arrived_takes_new_jobs(store: Store) -> None:
    put(store, *"ab")
    take(store, "other")
    assert [job.id for job in claim(store, "T", 2, repeated=True).jobs] == ["b"]


def test_ack_leaves_a_tombstone_and_nothing_else(store: Store, server: redis.Redis) -> None:
    put(store, "a")
    take(store, "T")
    assert ack(store, "a", "T") is Settled.DONE
    assert look(store, "a") == Job(id="a", channel=CHANNEL, state=State.SUCCEEDED)
    assert counts(store) == (0, 0, 0, 0, 0)
    key = "retrying:test:{work}:job:a"
    assert server.type(key) == "string"
    assert 290_000 < server.pttl(key) <= 300_000


def test_a_result_is_kept_with_its_job_by_the_script_that_ends_it(store: Store, server: redis.Redis) -> None:
    put(store, "a")
    take(store, "T")
    end = {"succeeded": [Lease("a", "T")], "results": {Lease("a", "T"): Result(b"\x00\xff", 400_000)}}
    assert claim(store, "T2", 0, **end).settled == [Settled.DONE]
    assert claim(store, "T3", 0, **end).settled == [Settled.REPEATED]
    assert claim(store, "T4", 0, succeeded=[Lease("a", "other")]).settled == [Settled.LOST]
    assert store.run(store.whole(CHANNEL, "a"))["result"] == b"\x00\xff"
    assert 390_000 < server.pttl("retrying:test:{work}:job:a") <= 400_000
    assert counts(store) == (0, 0, 0, 0, 0)
    (again,) = put(store, "a")
    assert (again.new, again.state) == (False, State.SUCCEEDED)


def test_the_attempts_before_are_kept_with_the_job(store: Store) -> None:
    put(store, "a")
    take(store, "T1")
    whole = store.run(store.whole(CHANNEL, "a"))
    assert not [name for name in whole if ":" in name or name == "first"], "the first attempt costs nothing more"
    first = whole["started"]
    retry = Retry(Lease("a", "T1"), 0, True, "ValueError: no", 5, None, "builtins.ValueError\nTraceback")
    store.run(store.retry(CHANNEL, [retry, retry]))
    store.run(store.claim(CHANNEL, "host:2:b", "T2", wanted=1))
    store.run(store.bury(CHANNEL, [Burial(Lease("a", "T2"), "gave up", "no", 5, "app.Error\nTraceback")]))
    whole = store.run(store.whole(CHANNEL, "a"))
    assert {name: value for name, value in whole.items() if ":" in name} == {
        "worker:1": WORKER.encode(),
        "error:1": b"builtins.ValueError\nTraceback",
        "error:2": b"app.Error\nTraceback",
    }
    assert (whole["first"], whole["worker"]) == (first, b"host:2:b")


def test_ack_and_next_claim_are_one_trip(store: Store) -> None:
    put(store, *"ab")
    take(store, "T")
    both = claim(store, "T2", 1, succeeded=[Lease("a", "T")])
    assert (both.settled, [job.id for job in both.jobs]) == ([Settled.DONE], ["b"])


def test_id_is_free_again_after_dedup(store: Store) -> None:
    brief = limited(store, dedup=0.1)
    put(brief, "a")
    take(brief, "T")
    ack(brief, "a", "T")
    assert not put(brief, "a")[0].new
    wait_for(lambda: put(brief, "a")[0].new, "the tombstone is gone")


@pytest.mark.parametrize("end", ["cancelled", "expired"])
def test_id_of_a_cancelled_or_expired_job_is_free_after_dedup(store: Store, end: str) -> None:
    put(store, "a", expires=0 if end == "expired" else None)
    if end == "cancelled":
        store.run(store.cancel(CHANNEL, "a", "no"))
    else:
        take(store, "T")
    assert not put(store, "a")[0].new
    brief = limited(store, dedup=0.05)
    assert wait_for(lambda: put(brief, "a")[0].new, "forgotten")
    assert counts(store) == (0, 1, 0, 0, 0)
    assert take(store, "T2") == ["a"]


def test_kept_successes(store: Store) -> None:
    put(store, *"abc")
    take(store, "T", 3)
    for id in "abc":
        assert ack(store, id, "T", keep=2) is Settled.DONE
        assert ack(store, id, "T", keep=2) is Settled.REPEATED
    kept = look(store, "c")
    assert (kept.state, kept.attempt, kept.worker) == (State.SUCCEEDED, 1, WORKER)
    assert kept.finished_at is not None
    assert sweep(store, keep=2).purged == 1
    assert store.run(store.get(CHANNEL, "a")) is None
    assert counts(store)[4] == 2


# The ends of an attempt, each fenced by its token


ENDS = {"ack": ack, "retry": fail, "bury": bury, "discard": discard, "release": release}


@pytest.mark.parametrize("end", ENDS)
def test_an_end_repeated_changes_nothing(store: Store, end: str) -> None:
    put(store, "a", topic="t")
    take(store, "T")
    assert ENDS[end](store, "a", "T") is Settled.DONE
    before, told = look(store, "a"), names(store)
    assert ENDS[end](store, "a", "T") is Settled.REPEATED
    assert look(store, "a") == before
    assert names(store) == told


@pytest.mark.parametrize("end", ENDS)
def test_stale_token_ends_nothing(store: Store, end: str) -> None:
    """A worker that slept past its lease: another one has the job, or is done with it."""
    put(store, "a", topic="t")
    vanish(store, "stale")
    sweep(store)
    for _ in range(2):  # rescued and waiting; then with another worker
        before, told = look(store, "a"), names(store)
        assert ENDS[end](store, "a", "stale") is Settled.LOST
        assert look(store, "a") == before
        assert names(store) == told
        take(store, "T")
    assert ack(store, "a", "T") is Settled.DONE
    assert ENDS[end](store, "a", "stale") is Settled.LOST
    assert look(store, "a").state is State.SUCCEEDED
    assert counts(store) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("end", ENDS)
def test_an_end_of_an_unknown_job_is_refused(store: Store, end: str) -> None:
    assert ENDS[end](store, "nobody", "T") is Settled.LOST
    assert store.run(store.get(CHANNEL, "nobody")) is None


def test_renew_and_emit_are_fenced(store: Store) -> None:
    put(store, "a", topic="t")
    vanish(store, "stale")
    sweep(store)
    take(store, "T")
    told = names(store)
    assert renew(store, "a", "stale") is Renewed.LOST
    assert say(store, "a", "stale") is False
    assert names(store) == told
    assert renew(store, "a", "T") is Renewed.PROLONGED
    assert say(store, "a", "T") is True
    assert events(store).events[-1].data == {"fraction": 0.5, "text": "half", "attempt": 2}
    ack(store, "a", "T")
    assert renew(store, "a", "T") is Renewed.LOST
    assert say(store, "a", "T") is False


def test_a_repeated_batch_of_reports_is_stored_once(store: Store) -> None:
    put(store, "a", topic="t")
    take(store, "T")
    first = store.emit(CHANNEL, Lease("a", "T"), [("emit", {"data": "1"}), ("emit", {"data": "2"})], batch=1)
    second = store.emit(CHANNEL, Lease("a", "T"), [("emit", {"data": "3"})], batch=2)
    assert [store.run(call) for call in (first, first, second, second)] == [True] * 4
    assert [event.data["data"] for event in events(store).events if event.name == "emit"] == [1, 2, 3]


def test_renewal_keeps_the_lease(store: Store) -> None:
    put(store, *"ab")
    vanish(store, "T", 2)
    assert renew(store, "a", "T") is Renewed.PROLONGED
    assert [rescue.job_id for rescue in sweep(store).rescued] == ["b"]
    assert look(store, "a").state is State.RUNNING


def test_retry_counts_and_waits(store: Store) -> None:
    put(store, "a", topic="t")
    take(store, "T")
    ((status, due),) = store.run(store.retry(CHANNEL, [Retry(Lease("a", "T"), 60_000, True, "ValueError: no", 5)]))
    job = look(store, "a")
    assert status is Settled.DONE
    assert (job.state, job.failures, job.error, job.max_retries) == (State.SCHEDULED, 1, "ValueError: no", 5)
    assert job.due_at is not None
    assert job.due_at.timestamp() * 1000 == pytest.approx(due)
    assert take(store, "T2") == [], "a retry never starts before it is due"
    event = events(store).events[-1]
    assert (event.name, event.data) == (
        "retrying",
        {"attempt": 1, "failures": 1, "max_retries": 5, "due": due, "error": "ValueError: no"},
    )


def test_snooze_is_not_charged(store: Store) -> None:
    put(store, "a", topic="t")
    take(store, "T")
    assert fail(store, "a", "T", charged=False) is Settled.DONE
    assert look(store, "a").failures == 0
    assert names(store)[-1] == "snoozed"


def test_released_job_keeps_its_place(store: Store) -> None:
    put(store, *"abc")
    take(store, "T")
    assert release(store, "a", "T") is Settled.DONE
    job = look(store, "a")
    assert (job.state, job.releases, job.failures, job.rescues, job.attempt) == (State.READY, 1, 0, 0, 1)
    assert take(store, "T2", 3) == ["a", "b", "c"]
    assert look(store, "a").attempt == 2


def test_dead_letter(store: Store) -> None:
    put(store, "a", topic="t")
    take(store, "T")
    bury(store, "a", "T")
    job = look(store, "a")
    assert (job.state, job.failures, job.reason, job.error) == (State.DEAD, 1, "gave up", "ValueError: no")
    assert job.finished_at is not None
    assert counts(store) == (0, 0, 0, 1, 0)
    assert events(store).events[-1].data == {"attempt": 1, "reason": "gave up", "error": "ValueError: no"}


# What people do


def test_cancel_a_waiting_job(store: Store) -> None:
    put(store, "ready", topic="t")
    put(store, "later", delay=60_000)
    for id in ("ready", "later"):
        assert store.run(store.cancel(CHANNEL, id, "changed my mind")) is State.CANCELLED
        job = look(store, id)
        assert (job.state, job.reason) == (State.CANCELLED, "changed my mind")
        assert store.run(store.cancel(CHANNEL, id, "again")) is State.CANCELLED
        assert look(store, id).reason == "changed my mind"
    assert take(store, "T", 9) == []
    assert counts(store) == (0, 0, 0, 0, 2)
    assert names(store) == ["ready", "cancelled"]


@pytest.mark.parametrize("end", ["retry", "release", "discard", "vanish"])
@pytest.mark.parametrize("why", ["changed my mind", ""])
def test_cancel_a_running_job(store: Store, end: str, why: str) -> None:
    put(store, "a")
    (vanish if end == "vanish" else take)(store, "T")
    assert store.run(store.cancel(CHANNEL, "a", why)) is State.RUNNING
    assert look(store, "a").cancel_requested
    if end == "vanish":
        sweep(store)
    else:
        assert renew(store, "a", "T") is Renewed.CANCELLING
        ENDS[end](store, "a", "T")
    job = look(store, "a")
    assert (job.state, job.reason) == (State.CANCELLED, why)
    assert take(store, "T2") == []


def test_cancel_comes_too_late(store: Store) -> None:
    assert store.run(store.cancel(CHANNEL, "nobody", "")) is None
    put(store, "a")
    take(store, "T")
    store.run(store.cancel(CHANNEL, "a", "stop"))
    assert ack(store, "a", "T") is Settled.DONE
    assert store.run(store.cancel(CHANNEL, "a", "stop")) is State.SUCCEEDED


def test_retry_now(store: Store) -> None:
    put(store, "a", delay=60_000, topic="t")
    assert store.run(store.retry_now(CHANNEL, "a")) is State.READY
    assert store.run(store.retry_now(CHANNEL, "a")) is State.READY
    assert take(store, "T", 9) == ["a"]
    assert store.run(store.retry_now(CHANNEL, "a")) is State.RUNNING
    ack(store, "a", "T")
    assert store.run(store.retry_now(CHANNEL, "a")) is State.SUCCEEDED
    assert store.run(store.retry_now(CHANNEL, "nobody")) is None
    assert names(store) == ["scheduled", "ready", "running", "succeeded"]


def test_redrive_starts_over_but_attempts_go_on(store: Store) -> None:
    put(store, "a")
    vanish(store, "T1")
    sweep(store)
    take(store, "T2")
    store.run(store.cancel(CHANNEL, "a", "stop"))
    bury(store, "a", "T2")
    assert store.run(store.redrive(CHANNEL, "a")) is State.READY
    assert store.run(store.redrive(CHANNEL, "a")) is State.READY
    job = look(store, "a")
    assert (job.attempt, job.failures, job.rescues, job.reason, job.cancel_requested) == (2, 0, 0, "", False)
    assert take(store, "T3") == ["a"]
    assert look(store, "a").attempt == 3
    assert store.run(store.redrive(CHANNEL, "a")) is State.RUNNING
    assert store.run(store.redrive(CHANNEL, "nobody")) is None
    ack(store, "a", "T3")
    assert store.run(store.redrive(CHANNEL, "a")) is State.SUCCEEDED


def test_counts_tell_how_long_the_next_job_waits(store: Store) -> None:
    assert store.run(store.counts(CHANNEL)).oldest_seconds == 0
    put(store, "a")
    wait_for(lambda: store.run(store.counts(CHANNEL)).oldest_seconds >= 0.05, "the job grows older")


# What time does


def test_sweep_promotes(store: Store) -> None:
    put(store, "a", delay=50)
    put(store, "later", delay=60_000)
    assert wait_for(lambda: sweep(store).promoted, "due") == 1
    assert look(store, "a").state is State.READY
    assert look(store, "later").state is State.SCHEDULED, "never early"


def test_rescue(store: Store) -> None:
    put(store, *"abc", topic="t")
    vanish(store, "T", 2)
    (first, second) = sweep(store, "host:2:b").rescued
    assert (first.job_id, first.worker, first.rescues, first.buried) == ("a", WORKER, 1, False)
    assert second.job_id == "b"
    job = look(store, "a")
    assert (job.state, job.rescues, job.failures) == (State.READY, 1, 0)
    assert "rescued" in names(store)
    assert sweep(store).rescued == []
    assert take(store, "T2", 9) == ["a", "b", "c"], "it keeps its place"


def test_living_lease_is_not_reaped(store: Store) -> None:
    put(store, "a")
    take(store, "T")
    assert sweep(store, "host:2:b").rescued == []
    assert look(store, "a").state is State.RUNNING


def test_poison(store: Store) -> None:
    put(store, "a", topic="t")
    for n in range(1, 5):
        assert vanish(store, f"T{n}") == ["a"]
        (rescue,) = sweep(store).rescued
        assert (rescue.rescues, rescue.buried) == (n, n == 4)
    job = look(store, "a")
    assert (job.state, job.rescues, job.attempt, job.failures) == (State.DEAD, 4, 4, 0)
    assert job.reason == "poison: its worker vanished 4 times while running it"
    assert names(store)[-2:] == ["rescued", "dead"]
    assert take(store, "T9") == []


def test_suspects_run_apart(store: Store) -> None:
    """Jobs that vanished twice with the one that kills their worker: from then on only one of them runs at a time."""
    put(store, "a", "poison", "b")
    for n in range(2):
        assert vanish(store, f"T{n}", 9) == ["a", "poison", "b"]
        assert len(sweep(store).rescued) == 3
    put(store, "new")
    assert take(store, "T2", 9) == ["a", "new"]
    waiting = store.connections.sync().zrange(store.keys(CHANNEL).all[2], 0, -1, withscores=True)
    assert [id for id, _ in waiting] == [b"b", b"poison"]

    def looked_at_again() -> bool:
        assert take(store, "T3", 9) == [], "a still runs"
        return waiting != store.connections.sync().zrange(store.keys(CHANNEL).all[2], 0, -1, withscores=True)

    wait_for(looked_at_again, "somebody looks whether it is their turn")
    assert ack(store, "a", "T2") is Settled.DONE
    assert wait_for(lambda: take(store, "T4", 9), "the turn is passed on") == ["b"]
    assert ack(store, "b", "T4") is Settled.DONE
    for n in (3, 4):
        assert wait_for(lambda n=n: vanish(store, f"V{n}", 9), "the turn is passed on") == ["poison"]
        (rescue,) = sweep(store).rescued
        assert (rescue.rescues, rescue.buried) == (n, n == 4)
    assert store.run(store.redrive(CHANNEL, "poison")) is State.READY
    put(store, "c")
    assert take(store, "T6", 9) == ["poison", "c"], "redriven it starts over"


def test_live_workers_get_time_after_the_server_stalled(store: Store) -> None:
    """Nothing swept for a while: renewals may wait at the door. The first sweep takes nothing."""
    stalled = limited(store, sweep=0.1, lease=0.4)
    sweep(stalled)
    put(store, "a")
    vanish(store, "T")
    wait_for(lambda: since_sweep(stalled) > 0.25, "two intervals have passed")
    assert sweep(stalled).rescued == []
    assert renew(store, "a", "T") is Renewed.PROLONGED, "the renewal comes in"
    wait_for(lambda: since_sweep(stalled) > 0.12, "the grace is over")
    assert sweep(stalled).rescued == []
    assert look(store, "a").state is State.RUNNING


def test_a_sweeper_that_is_always_late_still_rescues(store: Store) -> None:
    """A busy worker that sweeps too seldom must not grant grace for ever."""
    late = limited(store, sweep=0.05, lease=0.2)
    sweep(late)
    put(store, "a")
    vanish(store, "T")
    rescued = 0
    for _ in range(4):
        wait_for(lambda: since_sweep(late) > 0.12, "two intervals have passed")
        rescued += len(sweep(late).rescued)
    assert rescued == 1


def since_sweep(store: Store) -> float:
    """Seconds since the last sweep, by the server's clock."""
    client = store.connections.sync()
    seconds, microseconds = client.time()
    return seconds + microseconds / 1e6 - int(client.hget(store.keys(CHANNEL).all[8], "swept") or 0) / 1000


def test_dead_and_finished_jobs_are_purged(store: Store) -> None:
    put(store, *"abc")
    take(store, "T", 2)
    bury(store, "a", "T")
    discard(store, "b", "T")
    assert sweep(store).purged == 0
    forgetful = limited(store, dead_keep=0.05)
    purged = 0

    def swept() -> bool:
        nonlocal purged
        purged += sweep(forgetful).purged
        return purged == 2

    wait_for(swept, "both are purged")
    assert counts(store) == (0, 1, 0, 0, 0)
    assert store.run(store.get(CHANNEL, "a")) is None


def test_workers_are_listed_while_they_live(store: Store) -> None:
    sweep(store, "host:1:a")
    sweep(store, "host:2:b")
    assert [worker.id for worker in store.run(store.workers(CHANNEL))] == ["host:1:a", "host:2:b"]
    assert store.run(store.leave(CHANNEL, "host:1:a")) == 1
    assert store.run(store.leave(CHANNEL, "host:1:a")) == 0
    brief = limited(store, sweep=0.02)
    wait_for(lambda: not store.run(brief.workers(CHANNEL)), "the silent one is no longer listed")


def test_bell_rings_once_for_many(store: Store, server: redis.Redis) -> None:
    bell = store.keys(CHANNEL).bell
    put(store, "later", delay=60_000)
    assert server.llen(bell) == 0
    put(store, *"abc")
    put(store, "d")
    assert server.llen(bell) == 1
    server.delete(bell)
    take(store, "T")
    assert server.llen(bell) == 1, "what this worker did not take is for somebody else"
    server.delete(bell)
    take(store, "T2", 9)
    assert server.llen(bell) == 0
    put(store, "e")
    assert server.llen(bell) == 1, "one by itself is stored in another way"


# Topics


def test_a_topic_tells_the_life_of_its_jobs_without_gaps(store: Store) -> None:
    put(store, "a", topic="t", delay=60_000)
    store.run(store.retry_now(CHANNEL, "a"))
    take(store, "T1")
    say(store, "a", "T1")
    fail(store, "a", "T1")
    wait_for(lambda: take(store, "T2"), "due")
    release(store, "a", "T2")
    vanish(store, "T3")
    sweep(store)
    take(store, "T4")
    ack(store, "a", "T4")
    found = events(store)
    assert [event.name for event in found.events] == [
        "scheduled", "ready", "running", "progress", "retrying", "ready", "running", "released", "ready", "running",
        "rescued", "ready", "running", "succeeded",
    ]  # fmt: skip
    assert [event.offset for event in found.events] == list(range(1, 15))
    assert len({event.epoch for event in found.events}) == 1
    assert {event.job for event in found.events} == {"a"}
    assert [event.data["attempt"] for event in found.events if event.name == "running"] == [1, 2, 3, 4]
    assert found.position == Position(found.events[0].epoch, 14)
    assert found.recovered
    times = [event.at for event in found.events]
    assert times == sorted(times)


def test_reading_on_from_a_position(store: Store) -> None:
    put(store, *"abcde", topic="t")
    all_ = events(store)
    epoch, end = all_.position.epoch, all_.position
    rest = events(store, after=Position(epoch, 3))
    assert ([event.offset for event in rest.events], rest.position, rest.recovered) == ([4, 5], end, True)
    piece = events(store, after=Position(epoch, 1), limit=2)
    assert ([event.offset for event in piece.events], piece.position) == ([2, 3], end)
    nothing = events(store, after=end)
    assert (nothing.events, nothing.position, nothing.recovered) == ([], end, True)


def test_reading_an_empty_topic(store: Store) -> None:
    nothing = events(store, "nobody")
    assert (nothing.events, nothing.position, nothing.recovered) == ([], Position(0, 0), True)
    assert events(store, "nobody", after=Position(0, 0)).recovered
    assert not events(store, "nobody", after=Position(5, 1)).recovered


def test_a_position_of_another_life_or_the_future_is_not_recovered(store: Store, server: redis.Redis) -> None:
    put(store, *"abc", topic="t")
    before = events(store).position
    assert not events(store, after=Position(before.epoch, 4)).recovered
    server.flushdb()
    wait_for(lambda: server.time()[0] * 1000 + server.time()[1] // 1000 > before.epoch, "a later ms")
    put(store, "d", topic="t")
    found = events(store, after=before)
    assert (found.recovered, [event.job for event in found.events]) == (False, ["d"])
    assert found.position.epoch > before.epoch
    assert found.position.offset == 1


def test_a_trimmed_topic_says_what_it_lost(store: Store) -> None:
    small = limited(store, topic_events=100)
    for _ in range(6):
        store.run(small.enqueue(CHANNEL, [NewJob(id=f"{_}.{n}", payload=b"", topic="t") for n in range(100)]))
    found = events(store)
    assert found.position.offset == 600
    assert 100 <= len(found.events) < 300
    first = found.events[0].offset
    assert first > 1
    assert [event.offset for event in found.events] == list(range(first, 601))
    epoch = found.position.epoch
    assert events(store, after=Position(epoch, first - 1)).recovered, "its successor is the oldest that is left"
    lost = events(store, after=Position(epoch, first - 2))
    assert (lost.recovered, lost.events[0].offset) == (False, first)


def test_news_of_a_topic_are_published(store: Store, server: redis.Redis) -> None:
    with server.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(store.keys(CHANNEL).topic("t"))
        wait_for(lambda: server.pubsub_numsub(store.keys(CHANNEL).topic("t"))[0][1] == 1, "subscribed")
        put(store, "a", topic="t")
        message = wait_for(lambda: listener.get_message(timeout=1), "the news")
        assert message["data"] == "ready"


# Keys


def test_every_key_has_a_ttl_or_is_on_the_list(store: Store, server: redis.Redis) -> None:
    prefix = "retrying:test:{work}:"
    put(store, *"abcdefgh", topic="t")
    put(store, "later", delay=60_000, topic="t")
    take(store, "T", 8)
    ack(store, "a", "T")
    ack(store, "b", "T", keep=5)
    bury(store, "c", "T")
    discard(store, "d", "T")
    fail(store, "e", "T", delay=60_000)
    release(store, "f", "T")
    sweep(store, keep=5)
    living = {f"{prefix}job:{id}" for id in (*"bcdefgh", "later")}
    places = ("ready", "scheduled", "leases", "dead", "finished", "succeeded")
    listed = {prefix + n for n in (*places, "groups", "groups:ValueError ", "workers", "meta", "bell")}
    lasting = {key for key in server.scan_iter() if server.ttl(key) == -1}
    assert lasting - {"retrying:test:channels"} == living | listed  # the channels may be on another node of a cluster
    passing = {key for key in set(server.scan_iter()) - lasting if not key.startswith(f"{prefix}stats:")}
    assert passing == {f"{prefix}job:a", f"{prefix}topic:t"}


def test_after_the_last_job_only_bookkeeping_is_left(store: Store, server: redis.Redis) -> None:
    brief = limited(store, dedup=0.1, topic_ttl=0.1)
    for n in range(50):
        store.run(brief.enqueue(CHANNEL, [NewJob(id=f"{n}", payload=b"x", topic="t")]))
    jobs = store.run(brief.claim(CHANNEL, WORKER, "T", wanted=50)).jobs
    store.run(brief.claim(CHANNEL, WORKER, "T2", wanted=0, succeeded=[Lease(job.id, "T") for job in jobs]))
    bookkeeping = {"retrying:test:{work}:meta", "retrying:test:{work}:bell", "retrying:test:channels"}

    def left() -> set[str]:
        counters = "retrying:test:{work}:stats:"  # of what was done, per minute and hour: they end by themselves
        return {key for key in server.scan_iter() if not (key.startswith(counters) and server.ttl(key) > 0)}

    wait_for(lambda: left() <= bookkeeping, "tombstones and topics are gone")


# The server's troubles


def test_scripts_come_back_after_a_flush(store: Store, server: redis.Redis) -> None:
    put(store, "a")
    server.script_flush()
    assert take(store, "T") == ["a"]
    server.script_flush()
    assert ack(store, "a", "T") is Settled.DONE


async def test_scripts_come_back_after_a_flush_async(store: Store, server: redis.Redis) -> None:
    for id in "ab":
        server.script_flush()
        await store.arun(store.enqueue(CHANNEL, [NewJob(id=id, payload=b"")]))
    assert take(store, "T", 2) == ["a", "b"]
    await store.connections.aclose()


def test_full_server_refuses_new_jobs_whole_and_settles_running_ones(tmp_path: Path) -> None:
    with Valkey(tmp_path) as valkey, redis.Redis.from_url(valkey.url) as server:
        store = Store({"address": valkey.url}, prefix="retrying:test", limits=Limits(lease=60, sweep=3600))
        put(store, *"abcdef", topic="t")
        put(store, "later", delay=1, topic="t")
        vanish(store, "gone")
        take(store, "T", 4)
        server.config_set("maxmemory", 1)
        before = {key: server.dump(key) for key in server.scan_iter()}
        with pytest.raises(StoreFull, match="maxmemory"):
            put(store, "x", "y", topic="other")
        assert {key: server.dump(key) for key in server.scan_iter()} == before, "nothing half written"
        # A full server still drains.
        assert say(store, "b", "T") is True
        assert renew(store, "b", "T") is Renewed.PROLONGED
        assert ack(store, "b", "T") is Settled.DONE
        assert fail(store, "c", "T") is Settled.DONE
        assert bury(store, "d", "T") is Settled.DONE
        assert release(store, "e", "T") is Settled.DONE
        assert [rescue.job_id for rescue in sweep(store).rescued] == ["a"]
        left = set(wait_for(lambda: take(store, "T2", 9), "the rest"))
        assert {"a", "e", "f"} <= left
        assert store.run(store.cancel(CHANNEL, "a", "")) is State.RUNNING
        assert discard(store, "a", "T2") is Settled.DONE
        assert store.run(store.redrive(CHANNEL, "d")) is State.READY
        server.config_set("maxmemory", 0)
        assert put(store, "x")[0].new
        store.connections.close()


def test_no_server(tmp_path: Path) -> None:
    with Valkey(tmp_path) as valkey:
        store = Store({"address": valkey.url}, prefix="retrying:test")
        put(store, "a")
    with pytest.raises(StoreUnavailable, match="did not answer") as raised:
        put(store, "b")
    assert isinstance(raised.value, ConnectionError)
    store.connections.close()


def test_closing_leaves_no_connection(store: Store, server: redis.Redis) -> None:
    other = Store(store.connections.host, prefix="retrying:test")
    names_ = lambda: [client["id"] for client in server.client_list()]  # noqa: E731
    before = set(names_())
    threads = [threading.Thread(target=put, args=(other, f"{n}")) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(names_()) - before
    other.connections.close()
    wait_for(lambda: not set(names_()) - before, "every connection is closed", 5)


# Schedules; more of them in test_schedule.py


def test_slots_of_a_schedule_become_one_job_each(store: Store, server: redis.Redis) -> None:
    seconds, micros = server.time()
    now = int(seconds) * 1000 + int(micros) // 1000

    def look(*slots: int, line: str = "") -> Looked:
        wanted = [DueSlot(at, None, NewJob(id=f"slot-{at}", payload=b"p")) for at in slots]
        return store.run(store.slots(CHANNEL, [ScheduleLook("s", line, wanted)])).schedules[0]

    assert look(line="every 1 min").mark is None
    assert look(now - 2, now - 1, now + 60_000).made == 2
    assert look(now - 2, now - 1).made == 0
    assert counts(store) == (0, 2, 0, 0, 0)
    assert store.run(store.pause_schedule(CHANNEL, "s"))
    state = store.run(store.schedule(CHANNEL, "s"))
    assert (state.mark, state.last, state.paused is not None) == (now - 1, now - 1, True)
    assert store.run(store.resume_schedule(CHANNEL, "s"))
    assert look(now - 1).made == 0
