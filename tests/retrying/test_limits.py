"""Rates, and limits per key: never more than they allow, in the order that they promise, and nothing gets stuck."""

from __future__ import annotations

import itertools
import re
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from hypothesis import HealthCheck, given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

import retrying
from retrying import State, aenqueue_many, enqueue_many, jobs
from retrying.conf import problems
from retrying.layers import get_layer
from retrying.store import Limits, Store
from retrying.store.calls import Call, Claim, Lease, NewJob, Retry
from retrying.store.scripts import script
from retrying.store.throttle import Rate, Throttle
from retrying.testing import advance, enqueued, run_until_idle
from tests.tasks.sample import tasks

from .running import routed
from .test_store import (
    CHANNEL,
    ack,
    bury,
    counts,
    discard,
    fail,
    limited,
    look,
    put,
    release,
    sweep,
    take,
)  # fmt: skip

ONE_PER_KEY = Throttle(concurrency_per_key=1)
IN_ORDER = Throttle(ordered_by_key=True)


def claim(store: Store, token: str, throttle: Throttle, wanted: int = 10, channel: str = CHANNEL) -> Claim:
    return store.run(store.claim(channel, "host:1:a", token, wanted=wanted, throttle=throttle))


def begin(store: Store, token: str, throttle: Throttle, wanted: int = 10) -> list[str]:
    return [job.id for job in claim(store, token, throttle, wanted).jobs]


def move(store: Store, channel: str, ms: int) -> None:
    """Let time pass for one channel's rates and keys."""
    for name in ("scheduled", "leases", "turns", "rates"):
        args = (0, 0, ms, name, 0, 200)
        store.run(Call(script("advance", "retrying.testing"), store.keys(channel).sent, args, int))


# What may be said

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "rate in words": ({"rate": "fast"}, r'rate takes jobs per time such as "50/s".*got \'fast\''),
    "rate per m": ({"rate": "5/m"}, "rate takes jobs per time"),
    "no rate": ({"rate": 0}, "rate takes more than 0 and at most 1000000 jobs per second, got 0"),
    "negative rate": ({"rate": -5}, "rate takes more than 0"),
    "rate of none": ({"rate": "0/s"}, "rate takes more than 0"),
    "rate that is no number": ({"rate": float("nan")}, "rate takes jobs per time"),
    "true as rate": ({"rate": True}, "rate takes jobs per time"),
    "burst without rate": ({"burst": 5}, "burst needs rate"),
    "burst of none": ({"rate": 5, "burst": 0}, "burst must be a whole number >= 1, got 0"),
    "half a burst": ({"rate": 5, "burst": 2.5}, "burst must be a whole number >= 1"),
    "rate per key": ({"rate_per_key": "x"}, "rate_per_key takes jobs per time"),
    "burst per key alone": ({"burst_per_key": 2}, "burst_per_key needs rate_per_key"),
    "burst per key": ({"rate_per_key": 5, "burst_per_key": "2"}, "burst_per_key must be a whole number"),
    "concurrency per key": ({"concurrency_per_key": 0}, "concurrency_per_key must be a whole number >= 1, got 0"),
    "no concurrency per key": ({"concurrency_per_key": None}, "concurrency_per_key must be a whole number >= 1"),
    "order": ({"ordered_by_key": "yes"}, "ordered_by_key must be True or False, got 'yes'"),
    "order and concurrency": (
        {"ordered_by_key": True, "concurrency_per_key": 3},
        "ordered_by_key runs one job of a key at a time, concurrency_per_key says 3",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_option_of_a_channel(case: str) -> None:
    options, words = BAD[case]
    (problem,) = problems({"CHANNELS": {"mails": options}})
    assert problem.startswith("RETRYING['CHANNELS']['mails']: ")
    assert re.search(words, problem), problem


@pytest.mark.parametrize(
    ("rate", "burst", "expected"),
    [
        ("50/s", None, Rate(50, 10)),
        ("50 / s", 3, Rate(50, 3)),
        ("90/min", None, Rate(1.5, 1)),
        ("3600/h", None, Rate(1, 1)),
        ("86400/d", 5, Rate(1, 5)),
        ("0.5/s", None, Rate(0.5, 1)),
        (2.5, None, Rate(2.5, 1)),
    ],
)
def test_rates(rate: Any, burst: int | None, expected: Rate) -> None:
    assert Rate.parse(rate, burst) == expected


# The channel's rate


@example_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate=st.sampled_from([0.5, 1, 3, 7.5, 50, 333, 1000]),
    burst=st.integers(1, 20),
    looks=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 30)), min_size=1, max_size=25),
)
def test_never_more_than_the_rate_allows(store: Store, rate: float, burst: int, looks: list[tuple[int, int]]) -> None:
    """In no window of ``t`` seconds do more than ``burst + rate * t`` jobs begin, by the server's own times."""
    channel = f"work{next(fresh)}"
    total = sum(wanted for _, wanted in looks)
    store.run(store.enqueue(channel, [NewJob(id=str(n), payload=b"") for n in range(total)]))
    throttle, passed, began = Throttle(rate=Rate(rate, burst)), 0, []
    for number, (pause, wanted) in enumerate(looks):
        move(store, channel, pause)
        passed += pause
        answer = claim(store, f"T{number}", throttle, wanted, channel)
        for job in answer.jobs:
            started = store.run(store.get(channel, job.id)).started_at  # type: ignore[union-attr]
            began.append(started.timestamp() * 1000 + passed)  # type: ignore[union-attr]
        if len(answer.jobs) < wanted and number == 0:
            assert answer.held is not None
            assert len(answer.jobs) == burst
    for first, last in itertools.combinations_with_replacement(range(len(began)), 2):
        window = began[last] - began[first]
        assert last - first + 1 <= burst + rate * window / 1000 + 1e-6


fresh = itertools.count()


def test_tells_when_tokens_are_there(store: Store) -> None:
    put(store, *"abcdefghij")
    answer = claim(store, "T", Throttle(rate=Rate(10, 4)))
    assert len(answer.jobs) == 4
    assert 90 <= (answer.held or 0) <= 101  # a tenth of a second: one token
    answer = claim(store, "T2", Throttle(rate=Rate(10, 4)))
    assert answer.jobs == []
    move(store, CHANNEL, 310)
    assert len(claim(store, "T3", Throttle(rate=Rate(10, 4))).jobs) == 3


def test_rate_makes_no_noise(store: Store, redis_url: str) -> None:
    """A worker that the rate holds rings for nobody: the others would only look in vain."""
    throttle = Throttle(rate=Rate(1, 2))
    put(store, *"abcd")
    bell = store.keys(CHANNEL).bell
    with redis.Redis.from_url(redis_url) as server:
        server.delete(bell)
        assert len(claim(store, "T", throttle).jobs) == 2
        assert claim(store, "T2", throttle).held is not None
        assert not server.exists(bell)


def test_replayed_claim_spends_once(store: Store) -> None:
    throttle = Throttle(rate=Rate(1, 2), rate_per_key=Rate(1, 2), concurrency_per_key=2)
    put(store, *"abcd", key="k")
    first = claim(store, "T", throttle)
    call = store.claim(CHANNEL, "host:1:a", "T", wanted=10, throttle=throttle, repeated=True)
    assert {job.id for job in store.run(call).jobs} == {job.id for job in first.jobs} == {"a", "b"}
    for id in "ab":
        ack(store, id, "T")
    move(store, CHANNEL, 1001)
    assert begin(store, "T2", throttle) == ["c"]


def test_paused_channel_spends_nothing(store: Store) -> None:
    put(store, "a")
    store.run(store.pause(CHANNEL))
    claim(store, "T", Throttle(rate=Rate(0.01, 1)))
    store.run(store.resume(CHANNEL))
    assert begin(store, "T2", Throttle(rate=Rate(0.01, 1))) == ["a"]


# Concurrency per key


def test_one_at_a_time_per_key(store: Store) -> None:
    put(store, "a1", "a2", key="a")
    put(store, "b1", key="b")
    put(store, "free")
    assert begin(store, "T1", ONE_PER_KEY) == ["a1", "b1", "free"]
    assert counts(store) == (0, 1, 3, 0, 0)
    assert (look(store, "a2").state, look(store, "a2").parked, look(store, "a2").key) == (State.READY, True, "a")
    ack(store, "b1", "T1")
    assert begin(store, "T2", ONE_PER_KEY) == []
    ack(store, "a1", "T1")
    assert begin(store, "T3", ONE_PER_KEY) == ["a2"]
    assert not look(store, "a2").parked


ENDS = {
    "success": ack,
    "retry": lambda store, id, token: fail(store, id, token, delay=60_000),
    "bury": bury,
    "discard": discard,
}


@pytest.mark.parametrize("end", ENDS)
def test_every_end_of_an_attempt_lets_the_next_one_in(store: Store, end: str, redis_url: str) -> None:
    throttle = Throttle(concurrency_per_key=2)
    put(store, *"abcdef", key="k")
    assert begin(store, "T", throttle) == ["a", "b"]
    ENDS[end](store, "a", "T")
    with redis.Redis.from_url(redis_url) as server:
        assert server.exists(store.keys(CHANNEL).bell)  # somebody is told
    assert begin(store, "T2", throttle) == ["c"]
    assert ENDS[end](store, "a", "T").name == "REPEATED"
    assert begin(store, "T3", throttle) == []


def test_release_and_rescue_let_it_in_again(store: Store) -> None:
    put(store, "a", "b", key="k")
    assert begin(store, "T", ONE_PER_KEY) == ["a"]
    release(store, "a", "T")
    assert begin(store, "T2", ONE_PER_KEY) == ["a"]
    release(store, "a", "T2")
    short = limited(store, lease=0)
    assert begin(short, "T3", ONE_PER_KEY) == ["a"]
    sweep(store)
    assert begin(store, "T4", ONE_PER_KEY) == ["a"]
    ack(store, "a", "T4")
    assert begin(store, "T5", ONE_PER_KEY) == ["b"]


@pytest.mark.parametrize("way", ["cancel", "expire", "evict"])
def test_turn_of_a_job_that_never_begins_is_passed_on(store: Store, way: str, redis_url: str) -> None:
    put(store, "a", "b", key="k", expires=50 if way == "expire" else None)
    put(store, "c", key="k")
    begin(store, "T", ONE_PER_KEY)
    if way == "expire":
        move(store, CHANNEL, 0)
        with redis.Redis.from_url(redis_url) as server:
            server.hset(store.keys(CHANNEL).all[0] + "b", "expires", "1")
    ack(store, "a", "T")  # now it is the turn of b
    if way == "cancel":
        store.run(store.cancel(CHANNEL, "b", "no"))
    elif way == "evict":
        with redis.Redis.from_url(redis_url) as server:
            server.delete(store.keys(CHANNEL).all[0] + "b")
        assert begin(store, "T1", ONE_PER_KEY) == []
        move(store, CHANNEL, 60_001)  # nobody knows whose turn it was: found by time
    assert begin(store, "T2", ONE_PER_KEY) == ["c"]


def test_cancel_of_a_parked_job(store: Store) -> None:
    put(store, *"abc", key="k")
    begin(store, "T", ONE_PER_KEY)
    assert store.run(store.cancel(CHANNEL, "b", "no")) is State.CANCELLED
    assert counts(store) == (0, 1, 1, 0, 1)
    ack(store, "a", "T")
    assert begin(store, "T2", ONE_PER_KEY) == ["c"]


def test_holder_that_is_gone_is_found_by_time(store: Store, redis_url: str) -> None:
    """As after an eviction, or an end by a worker of the release before, which knew no keys."""
    put(store, "a", "b", key="k")
    begin(store, "T", ONE_PER_KEY)
    with redis.Redis.from_url(redis_url) as server:
        server.delete(store.keys(CHANNEL).all[0] + "a")
    assert begin(store, "T2", ONE_PER_KEY) == []
    move(store, CHANNEL, 60_001)
    sweep(store)
    assert begin(store, "T3", ONE_PER_KEY) == ["b"]


def test_limit_that_is_raised_or_taken_away(store: Store) -> None:
    put(store, *"abcdef", key="k")
    assert begin(store, "T", ONE_PER_KEY) == ["a"]
    ack(store, "a", "T")
    assert begin(store, "T2", Throttle(concurrency_per_key=3)) == ["b", "c", "d"]
    ack(store, "b", "T2")
    assert take(store, "T3", 10) == ["e"]  # each end lets one in
    ack(store, "e", "T3")
    assert take(store, "T4", 10) == ["f"]


def test_hot_key_at_the_head_stalls_nobody(store: Store) -> None:
    """Each job of it is put aside once; a claim looks at a bounded number and says that there is more."""
    put(store, *(f"hot{n:05}" for n in range(5000)), key="hot")
    put(store, "cold", key="cold")
    found: list[str] = []
    for look_number in range(28):
        found += begin(store, f"T{look_number}", ONE_PER_KEY, 2)
    assert found == ["hot00000", "cold"]
    assert counts(store)[:3] == (0, 4999, 2)
    ack(store, "hot00000", "T0")
    assert begin(store, "next", ONE_PER_KEY, 2) == ["hot00001"]


def test_parked_jobs_are_listed_with_the_ready_ones(store: Store) -> None:
    ids = [f"j{n:02}" for n in range(30)]
    for n, id in enumerate(ids):
        put(store, id, key="odd" if n % 2 else None)
    begin(store, "T", ONE_PER_KEY, 29)
    for n in range(0, 30, 2):
        release(store, ids[n], "T")
    found, after = [], None
    for _ in range(20):
        page = store.run(store.search(CHANNEL, State.READY, 4, after))
        found += page.jobs
        if page.cursor is None:
            break
        score, _, id = page.cursor.partition(":")
        after = (score, id)
    assert [job.id for job in found] == [id for id in ids if id != "j01"][::-1]
    assert {job.id for job in found if job.parked} == set(ids[3::2])


# In a test of a project, and without a worker


def application(seen: list[int]) -> Any:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        while True:
            seen.append((await receive())["n"])

    return routed(app)


def limits(settings: Any, **options: Any) -> None:
    settings.RETRYING = {**settings.RETRYING, "CHANNELS": {CHANNEL: options}}


def test_run_until_idle_waits_for_soon_and_leaves_what_is_later(settings: Any) -> None:
    limits(settings, rate="20/s", burst=2)
    enqueue_many(CHANNEL, ({"type": "work.do", "n": n} for n in range(6)))
    seen: list[int] = []
    run_until_idle(CHANNEL, application=application(seen))
    assert seen == [*range(6)]
    limits(settings, rate="2/h", burst=2)
    enqueue_many(CHANNEL, ({"type": "work.do", "n": n} for n in range(3)))
    advance(3600)
    run_until_idle(CHANNEL, application=application(seen))
    assert seen[6:] == [0, 1]
    advance(1800)
    run_until_idle(CHANNEL, application=application(seen))
    assert seen[6:] == [0, 1, 2]


def test_run_until_idle_with_keys(settings: Any) -> None:
    limits(settings, ordered_by_key=True, concurrency=5, rate_per_key="1/min")
    enqueue_many(CHANNEL, (({"type": "work.do", "n": n}, {"key": f"k{n % 2}"}) for n in range(4)))
    seen: list[int] = []
    run_until_idle(CHANNEL, application=application(seen))
    assert sorted(seen) == [0, 1]
    assert [message["n"] for message in enqueued(CHANNEL)] == [2, 3]
    advance(61)
    run_until_idle(CHANNEL, application=application(seen))
    assert sorted(seen) == [0, 1, 2, 3]


async def test_receive_of_the_layer_keeps_the_rate(settings: Any) -> None:
    limits(settings, rate="10/s", burst=1)
    await aenqueue_many(CHANNEL, [{"type": "work.do", "n": n} for n in range(3)])
    layer = get_layer()
    began = time.monotonic()
    assert [(await layer.receive(CHANNEL))["n"] for _ in range(3)] == [0, 1, 2]
    assert time.monotonic() - began >= 0.19
    await layer.close_pools()


EXAMPLES = re.findall(r"^```python\n(.*?)^```", Path("docs/limits.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.django_db
def test_examples_of_the_docs(settings: Any) -> None:
    """docs/limits.md, run from its own text."""
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "tests.tasks.sample"]
    User.objects.create(username="row")
    names = {"retrying": retrying, "Row": User, "sync": tasks.add, "resize": tasks.add, "pks": [1, 2, 3]}
    for example in EXAMPLES:
        exec(compile(example, "docs/limits.md", "exec"), names)  # noqa: S102  (our own text)
        assert problems(names.get("RETRYING", {})) == []
    assert {channel: jobs.counts(channel).ready for channel in ("reports", "syncs", "imports", "tasks.default")} == {
        "reports": 1, "syncs": 1, "imports": 1, "tasks.default": 4,
    }  # fmt: skip
    assert jobs.get("tasks.default", "resize-2026-11:2@tasks.default") is not None


# A rate per key


def test_rate_of_a_key(store: Store) -> None:
    throttle = Throttle(rate_per_key=Rate(10, 1))
    put(store, "a1", "a2", "a3", key="a")
    put(store, "b1", "b2", key="b")
    answer = claim(store, "T", throttle)
    assert [job.id for job in answer.jobs] == ["a1", "b1"]
    assert 90 <= (answer.next_due or 0) <= 101
    move(store, CHANNEL, 101)
    assert begin(store, "T2", throttle) == ["a2", "b2"]
    move(store, CHANNEL, 101)
    assert begin(store, "T3", throttle) == ["a3"]


def test_first_token_goes_to_who_waited_first(store: Store) -> None:
    """Workers look when several tokens are there; a job that comes before that doesn't overtake."""
    throttle = Throttle(rate_per_key=Rate(50, 10))
    put(store, *"abcdefghijkl", key="a")
    assert len(begin(store, "T", throttle, 20)) == 10
    put(store, "new", key="a")
    move(store, CHANNEL, 21)
    assert begin(store, "T2", throttle)[0] == "k"


def test_keys_at_rest_leave_nothing_behind(store: Store, redis_url: str) -> None:
    throttle = Throttle(rate_per_key=Rate(10, 1), concurrency_per_key=2)
    for n in range(150):
        put(store, f"j{n}", key=f"k{n}")
    for job in begin(store, "T", throttle, 300):
        ack(store, job, "T")
    move(store, CHANNEL, 60_001)
    sweep(store)
    with redis.Redis.from_url(redis_url, decode_responses=True) as server:
        assert [key for key in server.scan_iter() if ":limit:" in key] == []


# Order per key


def test_retry_holds_its_key(store: Store) -> None:
    put(store, "a", "b", key="k")
    put(store, "c", key="other")
    assert begin(store, "T", IN_ORDER) == ["a", "c"]
    fail(store, "a", "T", delay=5000)
    assert begin(store, "T2", IN_ORDER) == []
    move(store, CHANNEL, 5001)
    assert begin(store, "T3", IN_ORDER) == ["a"]
    ack(store, "a", "T3")
    assert begin(store, "T4", IN_ORDER) == ["b"]


@pytest.mark.parametrize("way", ["cancel", "bury", "deadline"])
def test_end_while_it_holds_its_key(store: Store, way: str) -> None:
    put(store, "a", "b", key="k")
    begin(store, "T", IN_ORDER)
    fail(store, "a", "T")
    if way == "cancel":
        store.run(store.cancel(CHANNEL, "a", "no"))
    else:
        begin(store, "T2", IN_ORDER)
        if way == "bury":
            bury(store, "a", "T2")
        else:
            store.run(store.retry(CHANNEL, [Retry(Lease("a", "T2"), 60_000, True, "no", 5, 1)]))
    assert begin(store, "T3", IN_ORDER) == ["b"]


def test_holder_without_a_token_comes_back_first(store: Store) -> None:
    """A retry that its key's rate holds up goes before those that wait for the key, even ones of a higher priority."""
    throttle = Throttle(ordered_by_key=True, rate_per_key=Rate(1, 1))
    put(store, "a", key="k")
    assert begin(store, "T", throttle) == ["a"]
    put(store, "b", key="k", priority=50)
    fail(store, "a", "T")
    assert begin(store, "T2", throttle) == []
    move(store, CHANNEL, 1001)
    assert begin(store, "T3", throttle) == ["a"]


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 2), st.integers(0, 1)),
        st.tuples(st.just("claim"), st.integers(1, 3), st.booleans()),
        st.tuples(
            st.sampled_from(["ack", "fail", "later", "bury", "discard", "release", "cancel", "pass"]),
            st.integers(0, 30),
            st.just(0),
        ),
    ),
    min_size=10,
    max_size=60,
)


class Drill:
    """Three keys' jobs and workers that fail in every way, beside what must hold after each step."""

    def __init__(self, redis_url: str, throttle: Throttle) -> None:
        limits = Limits(lease=86400, sweep=3600)
        self.store = Store({"address": redis_url}, prefix=f"retrying:test{next(fresh)}", limits=limits)
        self.throttle = throttle
        self.most = 1 if throttle.ordered_by_key else throttle.concurrency_per_key or 99
        self.key_of: dict[str, int] = {}
        self.running: dict[str, str] = {}
        self.begun: dict[int, set[str]] = {0: set(), 1: set(), 2: set()}
        self.tokens = (f"T{n}" for n in itertools.count())

    def step(self, name: str, number: int, extra: Any) -> None:
        if name == "put":
            id = str(len(self.key_of))
            self.key_of[id] = number % 3
            put(self.store, id, key=f"k{number % 3}", delay=20_000 if extra else None)
        elif name == "claim":
            self.claim(number, vanishes=extra)
        elif name == "pass":
            move(self.store, CHANNEL, 1000 * number)  # whole seconds: the real ones that pass meanwhile don't matter
        elif name == "cancel" and self.key_of:
            self.store.run(self.store.cancel(CHANNEL, str(number % len(self.key_of)), "no"))
        elif name in self.ENDS and self.running:
            id = list(self.running)[number % len(self.running)]
            token = self.running.pop(id)
            self.ENDS[name](self.store, id, token)
            assert self.ENDS[name](self.store, id, token).name == "REPEATED"  # its reply was lost

    ENDS: dict[str, Any] = {
        "ack": ack, "bury": bury, "discard": discard, "release": release, "fail": fail,
        "later": lambda store, id, token: fail(store, id, token, delay=30_000),
    }  # fmt: skip

    def claim(self, wanted: int, *, vanishes: bool = False) -> bool:
        token = next(self.tokens)
        store = limited(self.store, lease=0) if vanishes else self.store
        found = begin(store, token, self.throttle, wanted)
        if found and not vanishes:  # its reply was lost
            call = store.claim(CHANNEL, "host:1:a", token, wanted=len(found), throttle=self.throttle, repeated=True)
            assert {job.id for job in store.run(call).jobs} == set(found)
        for id in found:
            beside = [other for other in self.running if self.key_of[other] == self.key_of[id]]
            assert len(beside) < self.most, f"{id} beside {beside}"
            if self.throttle.ordered_by_key:
                self.check_order(id)
            if not vanishes:
                self.running[id] = token
        if vanishes:
            sweep(self.store)
        return bool(found)

    def check_order(self, id: str) -> None:
        key = self.key_of[id]
        if id not in self.begun[key]:
            over = (State.SUCCEEDED, State.DEAD, State.CANCELLED)
            assert all(look(self.store, other).state in over for other in self.begun[key]), f"{id} overtook a retry"
            before = [other for other in self.key_of if self.key_of[other] == key and int(other) < int(id)]
            ready = [other for other in before if look(self.store, other).state is State.READY]
            assert not ready, f"{id} overtook {ready}"
        self.begun[key].add(id)

    def finish(self) -> None:
        move(self.store, CHANNEL, 31_000)  # less than it takes to find by time what got stuck
        for _ in range(len(self.key_of) * 4 + 10):
            while self.running:
                ack(self.store, *self.running.popitem())
            if sum(counts(self.store)[:3]) == 0:
                return
            move(self.store, CHANNEL, 100)
            self.claim(10)
        raise AssertionError(f"stuck: {counts(self.store)}")


DRILLS = given(
    operations=OPERATIONS,
    throttle=st.sampled_from([
        IN_ORDER, ONE_PER_KEY, Throttle(concurrency_per_key=2),
        Throttle(ordered_by_key=True, rate_per_key=Rate(100, 2)),
    ]),
)  # fmt: skip


def drill(redis_url: str, operations: list[tuple[str, int, Any]], throttle: Throttle) -> None:
    """Whatever happens: never more of a key than allowed, in order if promised, and in the end all have ended."""
    case = Drill(redis_url, throttle)
    try:
        for operation in operations:
            case.step(*operation)
        case.finish()
        with redis.Redis.from_url(redis_url, decode_responses=True) as server:
            left = [key for key in server.scan_iter(match=f"{case.store.prefix}:*") if ":limit:" in key]
        assert all(key.endswith((":rates", ":turns")) for key in left), left
    finally:
        case.store.connections.close()


@example_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@DRILLS
def test_keys_under_random_failures(redis_url: str, operations: list[tuple[str, int, Any]], throttle: Throttle) -> None:
    drill(redis_url, operations, throttle)


@pytest.mark.long
@pytest.mark.timeout(900)
@example_settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@DRILLS
def test_keys_under_many_more(redis_url: str, operations: list[tuple[str, int, Any]], throttle: Throttle) -> None:
    drill(redis_url, operations, throttle)
