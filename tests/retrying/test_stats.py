"""What channels do and did: counters per minute and hour, times, workers, alerts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from asgiref.sync import async_to_sync
from channels.consumer import AsyncConsumer
from channels.layers import channel_layers
from hypothesis import given
from hypothesis import strategies as st

from project.development.valkey import Valkey
from retrying import Counts, State, WorkerInfo, aenqueue, enqueue, jobs, schedule, stats
from retrying.conf import problems
from retrying.layers import get_layer
from retrying.schedule.declaration import Schedule
from retrying.schedule.timing import timing
from retrying.signals import alert as alert_signal
from retrying.stats.alerts import _of_schedule
from retrying.stats.watch import Watch
from retrying.store import Limits, Store
from retrying.store.calls import Burial, Lease, NewJob, Retry, ScheduleLook
from retrying.tally import COUNTERS, NOTHING, Histogram, Reading, Tally, differences
from retrying.thresholds import Thresholds
from retrying.worker import Worker
from tests.conftest import await_for
from tests.retrying.running import CHANNEL, reached, routed, running


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def numbers(tally: Tally) -> dict[str, int]:
    """Those that are not 0."""
    return {name: getattr(tally, name) for name in COUNTERS if getattr(tally, name)}


def total(store: Store) -> Tally:
    return Reading.of(store.run(store.stats(CHANNEL)).total).since(NOTHING)


def put(store: Store, *ids: str, **options: Any) -> None:
    store.run(store.enqueue(CHANNEL, [NewJob(id=id, payload=b"x", **options) for id in ids]))


def take(store: Store, token: str, wanted: int = 1) -> list[Lease]:
    claimed = store.run(store.claim(CHANNEL, "w", token, wanted=wanted)).jobs
    return [Lease(job.id, token) for job in claimed]


# Counting


def test_every_end_of_an_attempt_is_counted_once(store: Store) -> None:
    put(store, *"abcdefg")
    put(store, "late", delay=60_000)
    put(store, "a")  # known: not counted again
    success, failure, snooze, burial, discard, release, running = take(store, "T", 9)
    for _ in range(2):  # a repeat counts nothing
        store.run(store.claim(CHANNEL, "w", "T2", wanted=0, succeeded=[success]))
        store.run(store.retry(CHANNEL, [Retry(failure, 60_000, True, "e", 5), Retry(snooze, 60_000, False, "", None)]))
        store.run(store.bury(CHANNEL, [Burial(burial, "r", "e", 5)]))
        store.run(store.discard(CHANNEL, discard, "why"))
        store.run(store.release(CHANNEL, [release]))
        store.run(store.cancel(CHANNEL, "late", "why"))
    found = total(store)
    assert numbers(found) == {
        "enqueued": 8, "started": 7, "succeeded": 1, "failed": 2, "retried": 1, "snoozed": 1, "released": 1,
        "dead": 1, "cancelled": 2,
    }  # fmt: skip
    assert (found.wait.count, found.run.count, found.ended) == (7, 5, 4)
    store.run(store.redrive(CHANNEL, burial.job_id))
    assert total(store).redriven == 1
    assert store.run(store.counts(CHANNEL)).running == 1
    assert running.job_id == "g"


def test_rescued_and_expired_jobs_are_counted(store: Store, server: redis.Redis) -> None:
    put(store, "a")
    brief = Store(store.connections.host, prefix=store.prefix, limits=Limits(lease=0, sweep=3600))
    assert take(brief, "T")
    brief.connections.close()
    store.run(store.sweep(CHANNEL, "w"))
    put(store, "old", expires=60_000, priority=1)
    server.hset(f"retrying:test:{{{CHANNEL}}}:job:old", "expires", 1)
    assert take(store, "T2", 1)
    assert numbers(total(store)) == {"enqueued": 2, "started": 2, "rescued": 1, "expired": 1}


def test_waits_and_runs_are_told_by_length(store: Store, server: redis.Redis) -> None:
    put(store, "a")
    age = 10_000
    server.hincrby(f"retrying:test:{{{CHANNEL}}}:job:a", "created", -age)
    (lease,) = take(store, "T")
    server.hincrby(f"retrying:test:{{{CHANNEL}}}:job:a", "started", -2 * age)
    store.run(store.claim(CHANNEL, "w", "T2", wanted=0, succeeded=[lease]))
    found = total(store)
    assert (found.wait.count, found.run.count) == (1, 1)
    assert 10 <= found.wait.seconds < 15
    assert 20 <= found.run.seconds < 25
    assert 8.192 <= (found.wait.percentile(0.5) or 0) <= 16.384
    assert 16.384 <= (found.run.percentile(0.5) or 0) <= 32.768


def test_a_job_waits_from_when_it_became_ready(store: Store, server: redis.Redis) -> None:
    """Not from when it was enqueued: it was dead for days."""
    put(store, "a")
    (lease,) = take(store, "T")
    store.run(store.bury(CHANNEL, [Burial(lease, "r", "e", 5)]))
    server.hincrby(f"retrying:test:{{{CHANNEL}}}:job:a", "created", -100_000_000)
    store.run(store.redrive(CHANNEL, "a"))
    assert store.run(store.counts(CHANNEL)).oldest_seconds < 60
    take(store, "T2")
    assert total(store).wait.seconds < 60


def test_oldest_sees_what_waits_behind_a_higher_priority(store: Store, server: redis.Redis) -> None:
    put(store, "old", priority=-5)
    server.hincrby(f"retrying:test:{{{CHANNEL}}}:job:old", "created", -50_000)
    put(store, *(f"new{n}" for n in range(30)))
    assert 50 <= store.run(store.counts(CHANNEL)).oldest_seconds < 60


def test_due_jobs_and_ended_leases_that_nobody_sweeps_wait_too(store: Store, server: redis.Redis) -> None:
    keys = store.keys(CHANNEL).all
    put(store, "a", delay=60_000)
    server.zincrby(keys[2], -100_000, "a")
    assert 40 <= store.run(store.counts(CHANNEL)).oldest_seconds < 60
    take(store, "T")
    server.zincrby(keys[3], -200_000, "a")
    assert 130 <= store.run(store.counts(CHANNEL)).oldest_seconds < 150


# Series


def test_a_minute_is_the_difference_of_two_copies() -> None:
    def copy(enqueued: int) -> bytes:
        return enqueued.to_bytes(4, "big")

    found = differences([b"", copy(5), None, copy(5), copy(2**32 - 1)], copy(4))  # it fell once, and came round once
    assert [tally.enqueued for tally in found] == [5, 0, 0, 0, 5]


def test_a_series_has_no_gaps(settings: Any, server: redis.Redis) -> None:
    layer = get_layer().store
    enqueue(CHANNEL, {"type": "x"}, job_id="a")
    (minute,) = (key.decode() for key in server.scan_iter(f"retrying:{layer.prefix.partition(':')[2]}*:stats:minute:*"))
    start, _, number = minute.rpartition(":")
    server.rename(minute, f"{start}:{int(number) - 3}")  # as if it had been three minutes ago
    enqueue(CHANNEL, {"type": "x"}, job_id="b")
    enqueue(CHANNEL, {"type": "x"}, job_id="c")
    found = stats.channel(CHANNEL, minutes=10)
    assert len(found.points) == 10
    assert [point.tally.enqueued for point in found.points][-4:] in ([1, 0, 0, 2], [0, 0, 2, 0])  # a minute may begin
    assert {(b.at - a.at).total_seconds() for a, b in zip(found.points, found.points[1:], strict=False)} == {60}
    assert (found.totals.enqueued, found.recent.tally.enqueued, found.lately.tally.enqueued) == (3, 3, 2)
    assert found.points[-1].at <= found.now
    assert sum(point.tally.enqueued for point in stats.channel(CHANNEL, hours=720).points) == 3
    assert [one.channel for one in stats.channels() if one.totals.enqueued] == [CHANNEL]


def test_every_copy_has_a_ttl(store: Store, server: redis.Redis) -> None:
    put(store, "a")
    ttls = {
        key.decode().rpartition("stats:")[2].partition(":")[0]: server.ttl(key) for key in server.scan_iter("*stats:*")
    }
    assert 86400 < ttls["minute"] < 87000
    assert 30 * 86400 < ttls["hour"] < 31 * 86400
    assert ttls["hour"] < ttls["total"], "else an hour's copy would be compared with nothing"


@pytest.mark.parametrize("wanted", [{"minutes": 1441}, {"hours": 721}, {"minutes": -1}, {"minutes": 1, "hours": 1}])
def test_a_series_out_of_range_is_refused(wanted: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"from 0 to|one of them"):
        stats.channel(CHANNEL, **wanted)


# Arithmetic


@given(st.lists(st.integers(0, 10_000_000), min_size=1), st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0]))
def test_a_percentile_is_in_the_bucket_of_the_true_one(times: list[int], share: float) -> None:
    counts = [0] * len(Histogram.BOUNDS)
    for ms in times:
        counts[min(len(counts) - 1, math.frexp(ms)[1])] += 1
    found = Histogram(tuple(counts), sum(times) / 1000).percentile(share)
    true = sorted(times)[max(0, math.ceil(share * len(times)) - 1)]
    bucket = min(len(counts) - 1, math.frexp(true)[1])
    low = 0 if bucket == 0 else Histogram.BOUNDS[bucket - 1]
    assert found is not None
    assert low <= found <= min(Histogram.BOUNDS[bucket], Histogram.BOUNDS[-2]) or bucket == len(counts) - 1


def test_nothing_has_no_percentile() -> None:
    assert (Histogram().percentile(0.5), Histogram().mean, Histogram().count) == (None, None, 0)


def sample(**values: Any) -> stats.ChannelStats:
    """Numbers of a channel."""
    minute = values.pop("minute", Tally())
    counts = {"scheduled": 0, "ready": 0, "running": 0, "dead": 0, "finished": 0, "oldest_seconds": 0.0}
    counts.update({name: values.pop(name) for name in counts.keys() & values.keys()})
    defaults: dict[str, Any] = {"paused_seconds": None, "workers": [WorkerInfo(id="h:1:a", seen_seconds_ago=0.1)]}
    return stats.ChannelStats(
        channel=CHANNEL, now=datetime.now(UTC), counts=Counts(**counts), points=[], totals=minute,
        lately=stats.Span(100.0, minute), recent=stats.Span(300.0, minute), **{**defaults, **values},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ready", "minute", "drain"),
    [
        (0, Tally(), 0.0),
        (100, Tally(), None),
        (100, Tally(enqueued=200, succeeded=100), None),
        (100, Tally(enqueued=100, succeeded=250, dead=50), 50.0),
    ],
)
def test_drain_time_is_of_the_rates_of_now(ready: int, minute: Tally, drain: float | None) -> None:
    assert sample(ready=ready, minute=minute).drain_seconds == drain


# Workers


class Work(AsyncConsumer):
    async def work_do(self, message: dict[str, Any]) -> None:
        if message.get("wait"):
            await asyncio.sleep(message["wait"])


async def the_worker(**fields: Any) -> stats.Worker:
    async def there() -> stats.Worker | None:
        found = [one for one in await stats.aworkers() if all(getattr(one, key) == fields[key] for key in fields)]
        return found[0] if found else None

    return await await_for(there, f"a worker with {fields}")  # type: ignore[no-any-return]


async def test_a_worker_says_how_it_is(settings: Any) -> None:
    async with running(Work, concurrency=3) as worker:
        await aenqueue(CHANNEL, {"type": "work.do", "wait": 1.5}, job_id="a")
        found = await the_worker(running=1)
        assert (found.id, found.channels, found.concurrency) == (worker.id, (CHANNEL,), 3)
        assert (found.quiet, found.stopping) == (False, False)
        assert found.memory_mib > 10
        assert found.started_at is not None
        assert f"{found.host}:{found.pid}" == worker.id.rpartition(":")[0]
        await reached("a", State.SUCCEEDED)
    assert await stats.aworkers() == []


async def test_a_quiet_worker_begins_nothing_until_it_is_woken() -> None:
    async with running(Work) as worker:
        await the_worker()
        assert await jobs.aquiet_worker(CHANNEL, worker.id)
        await await_for(lambda: worker._presence.quiet, "it has heard it")
        assert (await the_worker()).quiet
        await aenqueue(CHANNEL, {"type": "work.do"}, job_id="a")
        await asyncio.sleep(1.0)  # two polls: a claim would have come
        assert (await jobs.aget(CHANNEL, "a")).state is State.READY  # type: ignore[union-attr]
        assert await jobs.awake_worker(CHANNEL, worker.id)
        await reached("a", State.SUCCEEDED)
        await the_worker(quiet=False)


async def test_a_worker_is_stopped_from_afar() -> None:
    worker = Worker(routed(Work), {CHANNEL: 1}, get_layer())
    task = asyncio.create_task(worker.run())
    await the_worker()
    assert await jobs.astop_worker(CHANNEL, worker.id)
    assert await asyncio.wait_for(task, 20) == 0
    assert worker.recycled, "whoever supervises it starts another"
    assert not await jobs.astop_worker(CHANNEL, worker.id), "it is gone"
    await get_layer().close_pools()


async def test_an_unknown_worker_is_told_nothing() -> None:
    assert not await jobs.aquiet_worker(CHANNEL, "nobody:1:x")


@pytest.mark.parametrize("facts", ["", "{", "[]", '{"running": "x"}', '{"started": {}}'])
def test_a_worker_of_another_release_is_listed_all_the_same(facts: str) -> None:
    assert WorkerInfo.of("h:1:a", "1500", facts, "") == WorkerInfo(id="h:1:a", seen_seconds_ago=1.5)


# Alerts


FAILING = Tally(failed=8, succeeded=2)


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ({}, []),
        ({"workers": [], "ready": 1, "oldest_seconds": 61.0}, ["no_worker"]),
        ({"workers": [], "ready": 1, "oldest_seconds": 59.0}, []),
        ({"ready": 1, "oldest_seconds": 301.0}, ["oldest"]),
        ({"ready": 1, "oldest_seconds": 301.0, "paused_seconds": 1.0}, []),
        ({"minute": FAILING}, ["failure_rate"]),
        ({"minute": Tally(failed=9)}, []),
        ({"ready": 1001}, ["backlog"]),
        ({"ready": 1001, "oldest_seconds": 301.0, "minute": FAILING}, ["oldest", "failure_rate", "backlog"]),
    ],
)
def test_what_is_an_alert(settings: Any, values: dict[str, Any], kinds: list[str]) -> None:
    settings.RETRYING = {**settings.RETRYING, "ALERTS": {"backlog": 1000}}
    found = stats.alerts(found=[sample(**values)])
    assert [one.kind for one in found] == kinds
    assert all(one.text and one.advice and one.value > one.threshold for one in found)


def test_shares_are_written_as_on_the_pages(settings: Any) -> None:
    settings.RETRYING = {**settings.RETRYING, "ALERTS": {}}
    (found,) = stats.alerts(found=[sample(minute=Tally(failed=47, succeeded=3))])
    assert found.text == f"94 % of the last 50 attempts of {CHANNEL} failed"


def test_a_channel_has_thresholds_of_its_own(settings: Any) -> None:
    settings.RETRYING = {
        **settings.RETRYING, "ALERTS": {"backlog": 5}, "CHANNELS": {CHANNEL: {"alerts": {"oldest_seconds": None}}}
    }  # fmt: skip
    found = stats.alerts(found=[sample(ready=6, oldest_seconds=10_000.0)])
    assert [one.kind for one in found] == ["backlog"]


@pytest.mark.parametrize(
    ("alerts", "words"),
    [
        (3, "takes a dict"),
        ({"oldest": 3}, "has no threshold 'oldest'; it takes backlog, oldest_seconds"),
        ({"backlog": -1}, "backlog takes a number above 0, or None, got -1"),
        ({"backlog": True}, "got True"),
        ({"failure_rate": 50}, "failure_rate is a share, from 0 to 1, got 50"),
    ],
)
def test_bad_thresholds_are_told(alerts: object, words: str) -> None:
    (problem,) = problems({"ALERTS": alerts})
    assert problem.startswith("RETRYING['ALERTS']")
    assert words in problem
    (problem,) = problems({"CHANNELS": {"a": {"alerts": alerts}}})
    assert problem.startswith("RETRYING['CHANNELS']['a']")
    assert words in problem


@pytest.mark.parametrize(
    ("values", "ok", "sentence"),
    [
        ({}, True, "Healthy: 1 worker, no job waits"),
        ({"ready": 2, "oldest_seconds": 0.41}, True, "Healthy: 1 worker, oldest job 0.4 s"),
        ({"paused_seconds": 5.0, "oldest_seconds": 900.0}, True, "Healthy: 1 worker, no job waits, paused: work"),
        ({"workers": []}, True, "Healthy: no worker, no job waits"),
        (
            {"workers": [], "ready": 12, "oldest_seconds": 240.0}, False,
            "work has 12 jobs and no worker, the oldest waits for 4 min",
        ),
        (
            {"ready": 1, "oldest_seconds": 400.0, "minute": FAILING}, False,
            "a job of work has been waiting for 7 min (and 1 more alert)",
        ),
    ],
)  # fmt: skip
def test_health_is_one_sentence(values: dict[str, Any], ok: bool, sentence: str) -> None:
    found = stats.health(found=[sample(**values)])
    assert (found.ok, found.sentence) == (ok, sentence)
    assert bool(found.advice) is not ok


def test_health_says_that_the_store_is_away(settings: Any, tmp_path: Path) -> None:
    with Valkey(tmp_path) as gone:
        settings.CHANNEL_LAYERS = {
            "default": {"BACKEND": "retrying.layers.RetryingChannelLayer", "CONFIG": {"hosts": [gone.url]}}
        }
    channel_layers.backends.clear()
    found = stats.health()
    channel_layers.backends.clear()
    assert not found.ok
    assert found.sentence.startswith("the job store did not answer")


def test_a_slot_that_no_worker_looked_at_is_an_alert() -> None:
    def status(overdue: datetime | None, workers: int) -> schedule.Status:
        return schedule.Status(
            name="nightly", channel=CHANNEL, line="0 0 * * * UTC", catch_up="skip", next=None, last=None,
            last_job=None, last_state=None, overdue=overdue, paused=False, workers=workers,
        )  # fmt: skip

    now = sample().now
    limits = Thresholds()
    assert list(_of_schedule(status(None, 1), now, limits)) == []
    assert list(_of_schedule(status(now - timedelta(seconds=119), 1), now, limits)) == []
    (alert,) = _of_schedule(status(now - timedelta(seconds=600), 0), now, limits)
    assert (alert.kind, alert.name, alert.advice) == (
        "schedule_missed", f"schedule_missed {CHANNEL} nightly", f"python manage.py runworker {CHANNEL}"
    )  # fmt: skip
    assert "10 min ago" in alert.text


def test_a_slot_is_overdue_when_its_time_has_come_and_nobody_looked(
    monkeypatch: pytest.MonkeyPatch, server: redis.Redis
) -> None:
    every = timing(cron=None, every=timedelta(minutes=10), tz=None, jitter=0, catch_up="skip", default_zone="UTC")
    nightly = Schedule(name="nightly", channel=CHANNEL, timing=every, make=lambda id: NewJob(id=id, payload=b""))
    monkeypatch.setattr(schedule.actions, "declared", lambda **_: {"nightly": nightly})
    store = get_layer().store
    (status,) = schedule.statuses()
    assert status.overdue is None, "no worker has ever looked"
    store.run(store.slots(CHANNEL, [ScheduleLook("nightly", every.line, [])]))
    key = store.keys(CHANNEL).all[13] + "nightly"
    server.hincrby(key, "since", -3_600_000)
    (status,) = schedule.statuses()
    assert status.overdue is not None
    (alert,) = stats.alerts()
    assert (alert.kind, alert.schedule) == ("schedule_missed", "nightly")
    assert 2900 < alert.value < 3700, "since the first slot that nobody looked at"
    schedule.pause("nightly")
    assert stats.alerts() == []


# Telling


@contextmanager
def heard() -> Iterator[list[tuple[str, bool]]]:
    found: list[tuple[str, bool]] = []

    def receive(*, alert: stats.Alert, raised: bool, **_: object) -> None:
        found.append((alert.name, raised))

    alert_signal.connect(receive)
    try:
        yield found
    finally:
        alert_signal.disconnect(receive)


def look_at(*watches: Watch) -> None:
    async def looks() -> None:
        for watch in watches:
            await watch.look()
        await get_layer().close_pools()

    async_to_sync(looks)()


def test_an_alert_is_told_once_over_all_workers_and_once_when_it_is_over(settings: Any, server: redis.Redis) -> None:
    settings.RETRYING = {**settings.RETRYING, "ALERTS": {"backlog": 1}}
    enqueue(CHANNEL, {"type": "x"}, job_id="a")
    enqueue(CHANNEL, {"type": "x"}, job_id="b")
    with heard() as found:
        look_at(*(Watch(seconds=0.001) for _ in range(3)))
        assert found == [(f"backlog {CHANNEL}", True)]
        (alert,) = stats.alerts()
        assert alert.since is not None
        jobs.cancel(CHANNEL, "a")
        look_at(*(Watch(seconds=0.001) for _ in range(3)))
        assert found == [(f"backlog {CHANNEL}", True), (f"backlog {CHANNEL}", False)]
    assert stats.alerts() == []


def test_one_worker_at_a_time_looks(settings: Any) -> None:
    settings.RETRYING = {**settings.RETRYING, "ALERTS": {"backlog": 0.5}}
    first, second = Watch(seconds=60), Watch(seconds=60)
    look_at(first)
    enqueue(CHANNEL, {"type": "x"})
    with heard() as found:
        look_at(second)
        assert found == []
        look_at(first)
        assert found == [(f"backlog {CHANNEL}", True)]


def test_a_receiver_that_fails_stops_nothing(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.RETRYING = {**settings.RETRYING, "ALERTS": {"backlog": 0.5}}

    def receive(**_: object) -> None:
        raise ValueError("the mail server is away")

    enqueue(CHANNEL, {"type": "x"})
    alert_signal.connect(receive)
    try:
        with heard() as found:
            look_at(Watch())
        assert found
    finally:
        alert_signal.disconnect(receive)
    assert "the mail server is away" in caplog.text
