"""The fault catalogue against real servers and real workers. The number in a test's name is the fault's in
catalogue.py; after each the invariants hold (Rig.check)."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis

from project.development.valkey import Valkey
from retrying import InvalidJob, enqueue
from retrying.exceptions import StoreFull, StoreUnavailable
from retrying.job import Job, State
from retrying.store.calls import Burial, Lease, NewJob, Renewed, Retry, Settled
from tests.conftest import wait_for
from tests.faults.conftest import Figure, both_dispatches
from tests.faults.proxy import Proxy
from tests.faults.rig import CHANNEL, LEASE, PREFIX, Rig

pytestmark = pytest.mark.timeout(120)
long = pytest.mark.long


@both_dispatches
def test_03_died_after_the_effect(rig: Rig) -> None:
    dying = rig.worker(concurrency=1)
    (job,) = rig.put(die="once")
    assert dying.ended() == 1
    rig.hurt.add(dying.pid)
    rig.worker()
    rig.finish()
    rig.check()
    assert [line.attempt for line in rig.lines() if line.job == job and line.word == "done"] == [1, 2]


@long
@both_dispatches
def test_04_stopped_for_three_leases(rig: Rig, figure: Figure) -> None:
    """What it would say late the server refuses, whatever its own fence does; and its own fence says nothing more."""
    stopped = rig.worker()
    jobs = rig.put(20, seconds=1.2)
    wait_for(lambda: len(rig.said("start")) == 20, "20 jobs run")
    rig.hurt.add(stopped.pid)
    stopped.signal(signal.SIGSTOP)
    client = rig.client()
    late = [Lease(job, client.hget(f"{PREFIX}:{{{CHANNEL}}}:job:{job}", "token")) for job in jobs]
    rig.worker()
    wait_for(lambda: len([line for line in rig.lines() if line.word == "start"]) == 40, "they run elsewhere")
    refused = refusals(rig, late)
    rig.finish()
    wait_for(lambda: rig.said("done") == set(jobs), "the other worker did them all")
    time.sleep(LEASE)  # the fault itself: three leases in all
    refused += refusals(rig, late)
    stopped.signal(signal.SIGCONT)
    wait_for(lambda: stopped.text().count("lease lost") >= 20, "it learns that its leases are lost")
    rig.check()
    events = client.xrange(f"{PREFIX}:{{{CHANNEL}}}:topic:all")
    settles = Counter(event["job"] for _, event in events if event["name"] == "succeeded")
    assert settles == dict.fromkeys(jobs, 1)
    rig.put(5)
    rig.finish()
    rig.check()
    figure(f"{refused} late calls refused by the server, {sum(settles.values()) - len(jobs)} double settles")


def refusals(rig: Rig, leases: list[Lease]) -> int:
    """Send all that a worker may say of its jobs, with leases that were given away; how much of it was refused."""
    store = rig.store
    answers: list[object] = [
        *store.run(store.renew(CHANNEL, leases)),
        *(status for status, _ in store.run(store.retry(CHANNEL, [Retry(it, 0, True, "e", 5) for it in leases]))),
        *store.run(store.bury(CHANNEL, [Burial(it, "late", "e", 5) for it in leases])),
        *store.run(store.release(CHANNEL, leases)),
        *(store.run(store.discard(CHANNEL, it, "late"))[0] for it in leases),
        *store.run(store.claim(CHANNEL, "late", "late", wanted=0, succeeded=leases)).settled,
    ]
    said = [store.run(store.emit(CHANNEL, it, [("progress", {"fraction": 1})], batch=9)) for it in leases]
    assert set(answers) == {Renewed.LOST, Settled.LOST}
    assert set(said) == {False}
    return len(answers) + len(said)


@both_dispatches
def test_07_second_sigterm(rig: Rig) -> None:
    worker = rig.worker()
    rig.put(3, seconds=1.5)
    wait_for(lambda: len(rig.said("start")) == 3, "3 jobs run")
    worker.signal(signal.SIGTERM)
    wait_for(lambda: "stops: no new jobs" in worker.text(), "it stops")
    worker.signal(signal.SIGTERM)
    assert worker.ended(5) == 1
    assert len(rig.said("cancelled")) == 3
    counts = rig.store.run(rig.store.counts(CHANNEL))
    assert (counts.ready, counts.running) == (3, 0), "given back at once, not when the leases end"
    rig.worker()
    rig.finish()
    rig.check()


@long
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_08_restart_with_aof(rig: Rig, how: str, figure: Figure) -> None:
    rig.worker()
    rig.worker()
    with rig.load():
        for _ in range(3):
            count = len(rig.acked)
            wait_for(lambda count=count: len(rig.acked) > count + 40, "jobs keep coming")
            getattr(rig.server, how)()
            rig.server.start()
    rig.finish()
    rig.check()
    assert len(rig.said("done")) >= 120
    figure(f"{how}: 3 restarts, {len(rig.acked)} acknowledged jobs, 0 lost")


@long
def test_09_aof_cut_anywhere(rig: Rig, tmp_path: Path) -> None:
    rig.worker()
    with rig.load(pause=0.01):
        wait_for(lambda: len(rig.acked) > 150, "jobs keep coming")
        rig.server.kill()
    (source,) = (tmp_path / "valkey" / "appendonlydir").glob("*.incr.aof")
    size = source.stat().st_size
    cuts = sorted(random.sample(range(1, min(size, 60_000)), 8))
    for cut in cuts:
        copy = tmp_path / f"cut-{cut}"
        shutil.copytree(tmp_path / "valkey", copy)
        os.truncate(copy / "appendonlydir" / source.name, size - cut)
        with Valkey(copy, appendonly=True) as server, Rig(copy, server) as after:
            after.check_keys()
            known = {
                key.rsplit(":", 1)[-1]
                for key in after.client().scan_iter(f"{PREFIX}:*:job:*")
                if "succeeded" not in key
            }
            counts = after.store.run(after.store.counts(CHANNEL))
            open_jobs = counts.scheduled + counts.ready + counts.running
            done: set[str] = set()
            rounds = itertools.count()
            wait_for(lambda: done.update(after.drain(f"t{next(rounds)}")) or len(done) >= open_jobs, "all are done")  # noqa: B023
            assert done <= known
            after.finish(5)
            after.check_keys()
            print(f"{cut} of {size} bytes cut off: {len(known)} jobs known, {open_jobs} open ones done")


@both_dispatches
def test_10_script_flush(rig: Rig) -> None:
    rig.worker()
    rig.worker()
    client = rig.client()
    with rig.load(fails=1):
        for _ in range(40):
            client.script_flush()
            time.sleep(0.05)  # the fault itself
    rig.finish()
    rig.check(repeats=False)
    assert rig.refused == 0
    assert "does not answer" not in rig.logs()
    assert "Traceback" not in rig.logs()


@long
def test_11_server_stalls(rig: Rig) -> None:
    """What ended while the server stood still is accepted afterwards; what could not be renewed was stopped first."""
    rig.worker()
    rig.worker()
    short = rig.put(20, seconds=0.4)
    lasting = rig.put(10, seconds=1.5)
    wait_for(lambda: len(rig.said("start")) == 30, "30 jobs run")
    os.kill(rig.server.pid, signal.SIGSTOP)
    time.sleep(3 * LEASE)  # the fault itself
    os.kill(rig.server.pid, signal.SIGCONT)
    rig.finish()
    rig.check()
    assert not rig.rescued(), "the ends of the short ones, and the others given back, were waiting at the server's door"
    runs = Counter(line.job for line in rig.lines() if line.word == "start")
    assert {runs[job] for job in short} == {1}
    assert {runs[job] for job in lasting} == {2}


@long
@both_dispatches
def test_12_client_kill(rig: Rig) -> None:
    rig.worker()
    rig.worker()
    client = rig.client()
    with rig.load(fails=1):
        for _ in range(60):
            for kind in ("normal", "pubsub"):
                client.client_kill_filter(_type=kind, skipme=True)
            time.sleep(0.05)  # the fault itself
    rig.finish()
    rig.check()


@long
@pytest.mark.parametrize("all_commands", [False, True])
def test_13_client_pause(rig: Rig, all_commands: bool) -> None:
    """Shorter than a lease: everybody waits, nothing is taken from anybody."""
    rig.lease = 4.0
    rig.worker()
    hurried = rig.store_at(rig.url, socket_timeout=0.3)
    with rig.load():
        wait_for(lambda: len(rig.said("done")) > 10, "jobs are done")
        rig.client().client_pause(2000, all=all_commands)
        began = time.monotonic()
        ids = rig.ids(1)
        with pytest.raises(StoreUnavailable):
            rig.put_ids(ids, store=hurried)
        assert time.monotonic() - began < 2, "a producer with a short timeout fails fast"
    rig.put_ids(ids)
    rig.finish()
    rig.check(repeats=False)
    assert not rig.rescued()


@long
def test_14_replies_lost_under_load(rig: Rig, proxy: Proxy) -> None:
    proxy.fate = lambda request: "cut" if b"EVALSHA" in request and random.random() < 0.1 else ""
    rig.worker(url=proxy.url)
    rig.worker(url=proxy.url)
    with rig.load(fails=1, url=proxy.url):
        wait_for(lambda: proxy.hurt > 60 and len(rig.acked) > 150, "replies are lost")
    rig.finish()
    rig.check()
    print(f"{proxy.hurt} replies lost, {len(rig.acked)} jobs")


@long
@pytest.mark.parametrize("lease", [1.0, 3.0])
def test_15_blackhole(rig: Rig, proxy: Proxy, lease: float) -> None:
    """The cut-off worker ends its handlers before another one may start them (Rig.check: no two runs at once)."""
    rig.lease = lease
    rig.store = rig.store_at(rig.server.url)
    cut_off = rig.worker(url=proxy.url)
    jobs = rig.put(20, seconds=lease * 2 + 6)  # longer than the other worker may take to start
    wait_for(lambda: len(rig.said("start")) == 20, "20 jobs run")
    rig.worker()
    proxy.blackhole()
    wait_for(lambda: len(rig.said("cancelled")) == 20, "it stops them by itself")
    rig.finish()
    proxy.reopen()
    proxy.reset()
    rig.check()
    pids = {line.pid for line in rig.lines() if line.word == "done"}
    assert cut_off.pid not in pids
    assert {job for job, _ in rig.rescued()} == set(jobs)
    rig.workers[1].signal(signal.SIGTERM)
    assert rig.workers[1].ended() == 0
    rig.put(5)
    rig.finish()
    assert cut_off.pid in {line.pid for line in rig.lines() if line.word == "done"}, "it consumes again by itself"
    rig.check()


@long
@pytest.mark.parametrize("fault", ["half-close", "truncate", "reset"])
def test_16_broken_connections(rig: Rig, proxy: Proxy, fault: str) -> None:
    if fault == "truncate":
        proxy.fate = lambda request: "truncate" if b"EVALSHA" in request and random.random() < 0.1 else ""
    rig.worker(url=proxy.url)
    rig.worker(url=proxy.url)
    with rig.load(fails=1, url=proxy.url):
        for _ in range(30):
            if fault == "half-close":
                proxy.half_close()
            elif fault == "reset":
                proxy.reset()
            time.sleep(0.1)  # the fault itself
    proxy.fate = lambda _: ""
    rig.finish()
    rig.check()
    assert "Traceback" not in rig.logs()


async def test_17_cancelled_in_flight(rig: Rig, proxy: Proxy) -> None:
    """1000 cancellations at any point of a request: whoever gets an answer gets his own."""
    rig.store.run(
        rig.store.enqueue(
            CHANNEL, [NewJob(id=str(n), payload=b"p", topic=f"topic-{n}", delay=10**6) for n in range(50)]
        )
    )
    store = rig.store_at(proxy.url)
    proxy.delay = lambda: random.uniform(0, 0.004)
    outcomes: Counter[str] = Counter()

    async def ask(n: int) -> None:
        job = await store.arun(store.get(CHANNEL, str(n)))
        assert job is not None
        assert job.topic == f"topic-{n}", "the reply to another request"
        outcomes["answered"] += 1

    async def hurried(n: int) -> None:
        task = asyncio.create_task(ask(n))
        await asyncio.sleep(random.uniform(0, 0.03))
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            outcomes["cancelled"] += 1

    while outcomes["cancelled"] < 1000:
        await asyncio.gather(*(hurried(n) for n in range(50)))
    await asyncio.gather(*(ask(n) for n in range(50)))
    print(dict(outcomes))
    assert outcomes["answered"] >= 50
    await store.connections.aclose()


@long
def test_18_slow_network(rig: Rig, proxy: Proxy) -> None:
    """200 ms each way, and in 5 % of all cases 2 s."""
    rig.lease = 16.0
    proxy.delay = lambda: 2.0 if random.random() < 0.05 else 0.2
    rig.worker(url=proxy.url)
    rig.worker(url=proxy.url)
    rig.put(60, seconds=0.5)
    rig.finish(90)
    rig.check(repeats=False)
    assert not rig.rescued()
    assert "lease lost" not in rig.logs()


@long
def test_22_server_is_full(rig: Rig, figure: Figure) -> None:
    client = rig.client()
    rig.worker()
    running = rig.put(20, seconds=1)
    rig.put(10, fails=1)
    wait_for(lambda: len(rig.said("start")) >= 20, "jobs run")
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 2**20)

    def fill() -> None:
        for _ in range(100):
            rig.put(1, delay=3600, padding="x" * 100_000)

    with pytest.raises(StoreFull, match="maxmemory"):
        fill()
    held = [id for id, when in rig.acked.items() if when > time.monotonic() + 60]
    wait_for(lambda: rig.said("done") >= set(running), "running jobs end")
    wait_for(lambda: rig.store.run(rig.store.counts(CHANNEL)).running == 0, "and are settled on a full server")
    rig.check_keys()
    client.config_set("maxmemory", 0)
    rig.put(5)
    for id in held:
        rig.store.run(rig.store.retry_now(CHANNEL, id))
        rig.acked[id] = 0
    rig.finish()
    rig.check(repeats=False)
    figure(f"{len(rig.acked)} acknowledged jobs, {len(running)} of them running when it was full: 0 lost")


def test_23_evicting_server(rig: Rig) -> None:
    rig.client().config_set("maxmemory-policy", "allkeys-lru")
    worker = rig.worker()
    wait_for(lambda: "allkeys-lru" in worker.text() and "noeviction" in worker.text(), "the worker says so")


@long
@pytest.mark.parametrize("concurrency", [1, 20])
def test_27_poison(rig: Rig, concurrency: int, figure: Figure) -> None:
    """Those that run beside it are rescued with it, but not until they are dead letters too."""
    others = rig.put(10, seconds=0.05) + [id for n in range(9) for id in rig.put(seconds=0.1 + 0.1 * n)]
    (poison,) = rig.ids(1)
    rig.put_ids([poison], die="before", seconds=0.02)
    others += rig.put(seconds=1)
    deaths = 0

    def over() -> bool:
        nonlocal deaths
        if not rig.workers or rig.workers[-1].process.poll() is not None:
            if rig.workers:
                rig.hurt.add(rig.workers[-1].pid)
                deaths += 1
            rig.worker(concurrency=concurrency)
        counts = rig.store.run(rig.store.counts(CHANNEL))
        return counts.ready == counts.running == counts.scheduled == 0

    wait_for(over, "every job is over", 90)
    job = rig.store.run(rig.store.get(CHANNEL, poison))
    assert job is not None
    assert job.state is State.DEAD
    assert "vanished 4 times" in job.reason
    assert deaths == 4
    assert rig.said("done") == set(others)
    rig.check(dead=[poison])
    together = Counter(job for job, _ in rig.rescued() if job != poison)
    most = max(together.values(), default=0)
    assert most <= (0 if concurrency == 1 else 2)
    beside = f"{len(together)} jobs beside it, each rescued at most {most} times, 0 of them dead"
    figure(f"concurrency {concurrency}: {beside}")


def test_29_giant_messages(rig: Rig, settings: Any) -> None:
    deep: Any = 0
    for _ in range(100_000):
        deep = [deep]
    before = rig.client().dbsize()
    with pytest.raises(InvalidJob, match="bytes, the limit is"):
        enqueue(CHANNEL, {"type": "work.run", "text": "x" * 10 * 2**20})
    with pytest.raises(InvalidJob, match="nested deeper"):
        enqueue(CHANNEL, {"type": "work.run", "deep": deep})
    assert rig.client().dbsize() == before
    while deep:  # 100,000 levels would not survive the interpreter's own recursion
        deep = deep[0]
    rig.worker()
    (job,) = rig.put(type="work.raise", what="huge")

    def failed() -> Job | None:
        found = rig.store.run(rig.store.get(CHANNEL, job))
        return found if found is not None and found.error else None

    found = wait_for(failed, "its error is known")
    assert len(found.error) < 5000
    assert found.error.endswith("more characters cut]")


@long
def test_30_retry_storm(rig: Rig) -> None:
    """1000 jobs fail at the same moment: their retries are spread evenly over the jitter."""
    base = 4.0
    rig.worker(concurrency=200, BACKOFF=base)
    jobs = rig.put(1000, fails=1)
    stream = f"{PREFIX}:{{{CHANNEL}}}:topic:all"

    def retries() -> list[float]:
        found = [event for _, event in rig.client().xrange(stream) if event["name"] == "retrying"]
        return [(int(event["due"]) - int(event["at"])) / 1000 for event in found]

    delays = wait_for(lambda: len(found := retries()) == len(jobs) and found, "all failed once")
    assert min(delays) >= base
    assert max(delays) <= base * 1.25 + 0.002
    bins = Counter(min(9, int((delay - base) / (base * 0.025))) for delay in delays)
    expected = len(delays) / 10
    chi_square = sum((bins[n] - expected) ** 2 / expected for n in range(10))
    print(f"chi-square of 10 bins: {chi_square:.1f}")
    assert chi_square < 33.7, f"p < 0.0001 for an even spread: {dict(bins)}"
    rig.finish()
    rig.check(repeats=False)


@long
@both_dispatches
@pytest.mark.parametrize("what", ["system-exit", "keyboard-interrupt", "generator-exit", "cancelled", "stop-consumer"])
def test_31_base_exceptions(rig: Rig, what: str) -> None:
    worker = rig.worker()
    bad = rig.put(3, type="work.raise", what=what)
    good = rig.put(20, seconds=0.05)
    rig.finish()
    assert rig.said("done") == set(good)
    states = {rig.store.run(rig.store.get(CHANNEL, id)).state for id in bad}
    assert states == {State.SUCCEEDED if what == "stop-consumer" else State.DEAD}
    assert worker.process.poll() is None, "the worker lives"
    runs = Counter(line.job for line in rig.lines() if line.word == "start")
    assert {runs[id] for id in bad} == {1 if what == "stop-consumer" else 6}
    if what != "stop-consumer":
        rig.check(dead=bad, repeats=False)


@long
def test_32_doorbell_lost(rig: Rig) -> None:
    rig.worker()
    client, bell = rig.client(), rig.store.keys(CHANNEL).bell
    for _ in range(5):
        began = time.monotonic()
        pipe = client.pipeline(transaction=False)
        (id,) = rig.put()
        pipe.delete(bell).execute()
        wait_for(lambda id=id: id in rig.said("done"), "it is found without the bell")
        assert time.monotonic() - began < 1.0 + 0.5, "the poll of a second finds it"
    stop = threading.Event()

    def thief() -> None:
        with redis.Redis.from_url(rig.server.url) as stealing:
            while not stop.is_set():
                stealing.lpop(bell)

    thread = threading.Thread(target=thief)
    thread.start()
    with rig.load():
        wait_for(lambda: len(rig.acked) > 100, "jobs keep coming")
    rig.finish()
    stop.set()
    thread.join()
    rig.check(repeats=False)


def test_33_duplicates(rig: Rig) -> None:
    for _ in range(3):
        rig.worker(concurrency=4)
    client, bell = rig.client(), rig.store.keys(CHANNEL).bell
    ids = rig.ids(5)

    def send() -> None:
        store = rig.store_at(rig.url)
        for _ in range(25):
            rig.put_ids(ids, store=store, seconds=0.05)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    client.rpush(bell, *["1"] * 100)
    for thread in threads:
        thread.join()
    wait_for(lambda: client.llen(bell) <= 1, "the surplus rings are used up")
    rig.finish()
    rig.check(repeats=False)
    assert Counter(line.job for line in rig.lines() if line.word == "start") == dict.fromkeys(ids, 1)


@long
def test_39_two_releases(rig: Rig) -> None:
    """A job of a later format is left, and said, by this release's worker, and done by the later release's."""
    held = rig.put(5)
    client = rig.client()
    for id in held:
        client.hset(f"{PREFIX}:{{{CHANNEL}}}:job:{id}", "v", 2)
    old = rig.worker()
    usual = rig.put(20, seconds=0.05, fails=1)
    wait_for(lambda: rig.said("done") == set(usual), "jobs of its own format are done")
    wait_for(lambda: "left for a newer worker: 5 jobs" in old.text(), "it says what it leaves")
    wait_for(lambda: rig.store.run(rig.store.counts(CHANNEL)).running == 0, "and has told the store what it did")
    rig.check_keys()
    newer = rig.worker(JOB_FORMAT=2)
    wait_for(lambda: rig.said("done") == {*usual, *held}, "the newer worker does them")
    assert {line.pid for line in rig.lines() if line.job in held} == {newer.pid}
    more = rig.put(20, seconds=0.05)
    rig.finish()
    assert rig.said("done") >= set(more)
    rig.check(repeats=False)
