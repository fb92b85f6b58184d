"""A lot of work at once: in pieces, all of it or an error that says how far it came, and resumed after a crash."""

from __future__ import annotations

import asyncio
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from channels.exceptions import ChannelFull

from retrying import EnqueuedMany, InvalidJob, StoreUnavailable, aenqueue_many, enqueue_many, jobs
from retrying.bulk import MAX_BYTES, MAX_JOBS
from retrying.layers import get_layer
from retrying.store.calls import NewJob
from retrying.testing import enqueued
from tests.conftest import wait_for
from tests.faults.proxy import Proxy

CHANNEL = "work"


def messages(count: int, first: int = 0) -> Iterator[dict[str, Any]]:
    return ({"type": "work.do", "n": n} for n in range(first, first + count))


def numbers() -> list[int]:
    return [message["n"] for message in enqueued(CHANNEL)]


def requests(redis_url: str) -> int:
    """Scripts that the server ran so far."""
    with redis.Redis.from_url(redis_url) as server:
        return int(server.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])


@pytest.mark.parametrize("count", [0, 1, MAX_JOBS - 1, MAX_JOBS, MAX_JOBS + 1, 3 * MAX_JOBS])
def test_every_item_is_one_job_in_order(count: int) -> None:
    assert enqueue_many(CHANNEL, messages(count)) == EnqueuedMany(count, 0)
    assert numbers() == list(range(count))


def test_a_request_for_many(redis_url: str) -> None:
    enqueue_many(CHANNEL, messages(1))
    before = requests(redis_url)
    enqueue_many(CHANNEL, messages(10 * MAX_JOBS))
    assert requests(redis_url) - before == 11  # one looks first


def test_bytes_bound_a_piece_too(redis_url: str) -> None:
    large = [{"type": "work.do", "n": n, "x": "x" * (MAX_BYTES // 4)} for n in range(10)]
    enqueue_many(CHANNEL, messages(1))
    before = requests(redis_url)
    enqueue_many(CHANNEL, large)
    assert requests(redis_url) - before == 1 + 3


async def test_async_takes_both_kinds() -> None:
    async def later() -> AsyncIterator[dict[str, Any]]:
        for message in messages(700):
            await asyncio.sleep(0)
            yield message

    assert await aenqueue_many(CHANNEL, later()) == EnqueuedMany(700, 0)
    assert await aenqueue_many(CHANNEL, messages(700, 700)) == EnqueuedMany(700, 0)
    assert numbers() == list(range(1400))
    await get_layer().close_pools()


def test_options_of_all_and_of_one() -> None:
    items = [{"type": "a"}, ({"type": "b"}, {"priority": 7, "job_id": "mine"}), ({"type": "c"}, {"unique": "x"})]
    assert enqueue_many(CHANNEL, items, priority=3, key="k") == EnqueuedMany(3, 0)
    assert enqueue_many(CHANNEL, items[1:]) == EnqueuedMany(0, 2)
    assert [message["type"] for message in enqueued(CHANNEL)] == ["b", "a", "c"]
    job = jobs.get(CHANNEL, "mine")
    assert job is not None
    assert (job.priority, job.key) == (7, "k")


BAD_ITEMS: dict[str, tuple[Any, str]] = {
    "no message": (5, r"item 601 \(the items before it are stored\): message takes a dict"),
    "no type": ({}, "item 601 .*message needs a 'type'"),
    "no JSON": ({"type": "a", "x": {1, 2}}, r"item 601 .*message\['x'\] is a set"),
    "triple": (({"type": "a"}, {}, 1), "item 601 .*message takes a dict"),
    "options": (({"type": "a"}, 5), r"item 601 .*an item is a message or \(message, options\), got options of int"),
    "bad option": (({"type": "a"}, {"delay": -1}), "item 601 .*delay takes seconds"),
    "unknown option": (({"type": "a"}, {"dealy": 1}), "item 601 .*got dealy"),
}


@pytest.mark.parametrize("case", BAD_ITEMS)
def test_bad_item_is_named_and_those_before_are_stored(case: str) -> None:
    bad, words = BAD_ITEMS[case]
    with pytest.raises(InvalidJob, match=words):
        enqueue_many(CHANNEL, [*messages(601), bad, *messages(5)], batch="b")
    assert numbers() == list(range(601))
    assert enqueue_many(CHANNEL, messages(610), batch="b") == EnqueuedMany(9, 601)
    assert numbers() == list(range(610))


BAD_CALLS: dict[str, tuple[dict[str, Any], str]] = {
    "id for all": ({"job_id": "a"}, "job_id names one job"),
    "batch": ({"batch": "a b"}, "batch takes a name of 1-80"),
    "colon": ({"batch": "a:b"}, "batch takes a name of 1-80"),
    "number": ({"batch": 5}, "batch takes a name"),
    "no backlog": ({"max_backlog": 0}, "max_backlog takes a whole number >= 1, got 0"),
    "true": ({"max_backlog": True}, "max_backlog takes a whole number"),
    "option": ({"delay": "soon"}, "delay takes seconds"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_call_begins_nothing(case: str, redis_url: str) -> None:
    options, words = BAD_CALLS[case]
    with pytest.raises(InvalidJob, match=words):
        enqueue_many(CHANNEL, iter([{"type": "a"}]), **options)
    with redis.Redis.from_url(redis_url) as server:
        assert server.dbsize() == 0


def test_own_id_in_a_batch_is_refused() -> None:
    with pytest.raises(InvalidJob, match=r"item 0 .*a batch makes the job ids itself"):
        enqueue_many(CHANNEL, [({"type": "a"}, {"job_id": "x"})], batch="b")


def test_iterable_that_raises() -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield from messages(700)
        raise OSError("the database is gone")

    with pytest.raises(OSError, match="the database is gone") as raised:
        enqueue_many(CHANNEL, broken())
    assert raised.value.__notes__ == ["enqueue_many('work'): 700 items were stored, 0 known before"]
    assert numbers() == list(range(700))


# Resume


def test_batch_is_stored_once() -> None:
    assert enqueue_many(CHANNEL, messages(1200), batch="import") == EnqueuedMany(1200, 0)
    assert enqueue_many(CHANNEL, messages(1200), batch="import") == EnqueuedMany(0, 1200)
    assert enqueue_many(CHANNEL, messages(1300), batch="import") == EnqueuedMany(100, 1200)
    assert enqueue_many(CHANNEL, messages(10), batch="other") == EnqueuedMany(10, 0)
    job = jobs.get(CHANNEL, "import:1299")
    assert job is not None
    assert jobs.counts(CHANNEL).ready == 1310


def test_jobs_that_are_done_and_forgotten_are_not_sent_again(redis_url: str) -> None:
    enqueue_many(CHANNEL, messages(600), batch="import")
    with redis.Redis.from_url(redis_url) as server:
        counter = "retrying:asgi:{work}:batch:import"
        assert 6 * 86400 < server.ttl(counter) <= 7 * 86400
        for key in server.scan_iter(match="*"):
            if key.decode() != counter:
                server.delete(key)
    assert enqueue_many(CHANNEL, messages(600), batch="import") == EnqueuedMany(0, 600)
    assert jobs.counts(CHANNEL).ready == 0


def test_duplicates_in_a_batch_count_as_items() -> None:
    items = [({"type": "work.do", "n": n}, {"unique": f"u{n % 300}"}) for n in range(1200)]
    assert enqueue_many(CHANNEL, items, batch="import") == EnqueuedMany(300, 900)
    assert enqueue_many(CHANNEL, [*items, *messages(5)], batch="import") == EnqueuedMany(5, 1200)


def test_piece_that_is_stored_in_part_goes_on_behind_it() -> None:
    store = get_layer().store
    pieces = [NewJob(id=f"b:{n}", payload=b"") for n in range(30)]
    store.run(store.enqueue_piece(CHANNEL, pieces[:10], batch="b", first=0))
    found = store.run(store.enqueue_piece(CHANNEL, pieces[5:20], batch="b", first=5))
    assert (found.new, found.stored, found.waiting) == (10, 20, 20)
    found = store.run(store.enqueue_piece(CHANNEL, pieces[25:], batch="b", first=25))  # five would be left out
    assert (found.new, found.stored, found.waiting) == (0, 20, 20)


def test_two_processes_at_once_store_it_once() -> None:
    """A resume that begins before the first one has died."""
    results: list[EnqueuedMany] = []
    both = threading.Barrier(2)

    def items() -> Iterator[dict[str, Any]]:
        both.wait()
        yield from messages(3000)

    threads = [
        threading.Thread(target=lambda: results.append(enqueue_many(CHANNEL, items(), batch="import")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(result.stored for result in results) == 3000
    assert sorted(numbers()) == list(range(3000))


def test_lost_reply_stores_nothing_twice(settings: Any, redis_url: str) -> None:
    with Proxy(urlsplit(redis_url).port or 0) as proxy:
        settings.CHANNEL_LAYERS = {"default": {**settings.CHANNEL_LAYERS["default"], "CONFIG": {"hosts": [proxy.url]}}}
        enqueue_many(CHANNEL, messages(1))
        proxy.fate = lambda request: "cut" if b"lost" in request and proxy.hurt < 2 else ""
        enqueue_many(CHANNEL, [{"type": "lost", "n": n} for n in range(300)])
        enqueue_many(CHANNEL, [{"type": "lost", "n": n} for n in range(300)], batch="b")
        assert proxy.hurt == 2
        assert jobs.counts(CHANNEL).ready == 601
        get_layer().store.connections.close()


def test_server_that_lost_its_last_seconds_is_noticed(redis_url: str) -> None:
    """As after a failover to a replica that was behind: what it lost is sent by the next call."""

    def losing() -> Iterator[dict[str, Any]]:
        yield from messages(1000)
        with redis.Redis.from_url(redis_url) as server:
            server.set("retrying:asgi:{work}:batch:import", 500)
            for n in range(500, 1000):
                server.zrem("retrying:asgi:{work}:ready", f"import:{n}")
                server.delete(f"retrying:asgi:{{work}}:job:import:{n}")
        yield from messages(600, 1000)

    with pytest.raises(StoreUnavailable, match=r"lost items of batch 'import': of 1000 it has 500\. Call enqueue_many"):
        enqueue_many(CHANNEL, losing(), batch="import")
    assert enqueue_many(CHANNEL, messages(1600), batch="import") == EnqueuedMany(1100, 500)
    assert numbers() == list(range(1600))


# Backpressure


def test_backlog_is_kept(redis_url: str) -> None:
    most: list[int] = []
    done = threading.Event()
    store = get_layer().store

    def work() -> None:
        n = 0
        while not (done.is_set() and jobs.counts(CHANNEL).ready == 0):
            most.append(jobs.counts(CHANNEL).ready)
            claim = store.run(store.claim(CHANNEL, "w", f"T{n}", wanted=50))
            n += 1
            leases = [(job.id, f"T{n - 1}") for job in claim.jobs]
            store.run(store.claim(CHANNEL, "w", f"end{n}", wanted=0, succeeded=leases))  # type: ignore[arg-type]

    worker = threading.Thread(target=work)
    worker.start()
    assert enqueue_many(CHANNEL, messages(2000), max_backlog=120) == EnqueuedMany(2000, 0)
    done.set()
    worker.join()
    assert 60 < max(most) <= 120


def test_capacity_is_an_error_alone_and_waited_for_with_a_backlog(settings: Any) -> None:
    layers = settings.CHANNEL_LAYERS
    config = {**layers["default"]["CONFIG"], "capacity": 700}
    settings.CHANNEL_LAYERS = {"default": {**layers["default"], "CONFIG": config}}
    with pytest.raises(ChannelFull) as raised:
        enqueue_many(CHANNEL, messages(2000), batch="b")
    assert raised.value.__notes__ == ["enqueue_many('work'): 500 items were stored, 0 known before"]
    waits = threading.Thread(target=lambda: enqueue_many(CHANNEL, messages(2000), batch="b", max_backlog=10_000))
    waits.start()
    wait_for(lambda: jobs.counts(CHANNEL).ready == 700 or not waits.is_alive(), "it is full")
    assert waits.is_alive()
    store = get_layer().store
    for n in range(100):
        leases = [(job.id, f"T{n}") for job in store.run(store.claim(CHANNEL, "w", f"T{n}", wanted=50)).jobs]
        store.run(store.claim(CHANNEL, "w", f"end{n}", wanted=0, succeeded=leases))  # type: ignore[arg-type]
        waits.join(0.05)
        if not waits.is_alive():
            break
    waits.join(5)
    assert not waits.is_alive()


# Crashes, memory

PRODUCER = textwrap.dedent("""
    import sys, time
    import django; django.setup()
    from retrying import enqueue_many
    count, pause = int(sys.argv[1]), float(sys.argv[2])
    def items():
        for n in range(count):
            if n % 500 == 0: time.sleep(pause)
            yield {"type": "work.do", "n": n}
    print(enqueue_many("work", items(), batch="import"))
""")


@pytest.fixture
def producer(redis_url: str, tmp_path: Path) -> Iterator[Any]:
    """Starts a process that stores so many items as one batch."""
    started: list[subprocess.Popen[str]] = []

    def start(count: int, pause: float = 0.0) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PRODUCER, str(count), str(pause)],
            env={"REDIS_URL": redis_url, "DJANGO_SETTINGS_MODULE": "tests.plain.durable_settings", "PYTHONPATH": "."},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_killed_in_the_middle_and_resumed_is_exactly_n(producer: Any) -> None:
    first = producer(10_000, 0.1)
    wait_for(lambda: jobs.counts(CHANNEL).ready >= 1500, "a part of it is stored")
    first.send_signal(signal.SIGKILL)
    first.wait()
    stored = jobs.counts(CHANNEL).ready
    assert stored < 10_000
    assert producer(10_000).communicate()[0] == f"EnqueuedMany(stored={10_000 - stored}, known={stored})\n"
    assert sorted(numbers()) == list(range(10_000))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_million_items_in_constant_memory(redis_url: str) -> None:
    def items() -> Iterator[dict[str, Any]]:
        for n in range(1_000_000):
            if n % 10_000 == 0:
                used.append(peak_mib())
            yield {"type": "work.do", "n": n}

    used: list[float] = []
    enqueue_many(CHANNEL, messages(2000))
    start = peak_mib()
    assert enqueue_many(CHANNEL, items(), batch="million") == EnqueuedMany(1_000_000, 0)
    assert jobs.counts(CHANNEL).ready == 1_002_000
    print(f"a million items: {peak_mib() - start:.1f} MiB above the start")
    assert peak_mib() - start < 30


def peak_mib() -> float:
    """The most memory that this process ever used."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
