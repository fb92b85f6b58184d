"""Connections that stay, jobs of concurrent callers in few requests: what each caller gets, whatever fails."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import redis
from asgiref.sync import async_to_sync, sync_to_async

import retrying.store as store_module
from project.development.valkey import Valkey
from retrying import StoreFull, StoreUnavailable
from retrying.layers import RetryingChannelLayer
from retrying.store import Store
from retrying.store import connections as connections_module
from retrying.store import wire as wire_module
from retrying.store.calls import NewJob
from retrying.store.connections import _SentinelPool
from retrying.store.outbox import ENOUGH, MAX_JOBS, MAX_REQUESTS
from retrying.store.wire import LOOKS, Kept, Line, Stale
from tests.conftest import await_for, wait_for
from tests.faults.proxy import Proxy

CHANNEL = "work"
#: As workers run without uvloop and with it.
EVENT_LOOPS = [asyncio.run, *([import_module("uvloop").run] if find_spec("uvloop") else [])]


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def job(id: str, **options: Any) -> NewJob:
    return NewJob(id=id, payload=b"p", **options)


def put(store: Store, id: str) -> bool:
    (found,) = store.run(store.enqueue(CHANNEL, [job(id)]))
    return found.new


def ready(store: Store) -> int:
    return store.run(store.counts(CHANNEL)).ready


def requests(server: redis.Redis) -> int:
    return int(server.info("commandstats")["cmdstat_evalsha"]["calls"])


def names(server: redis.Redis) -> set[str]:
    return {client["id"] for client in server.client_list()}


async def send(store: Store, *ids: str, capacity: int | None = None) -> list[Any]:
    """All at the same time; what each caller got."""
    return await asyncio.gather(
        *(store.send(CHANNEL, job(id), capacity=capacity) for id in ids), return_exceptions=True
    )


# One after another


def test_a_process_keeps_one_connection_for_requests_one_after_another(store: Store, server: redis.Redis) -> None:
    put(store, "first")
    before = names(server), requests(server)
    for n in range(50):
        put(store, f"{n}")
    assert (names(server), requests(server)) == (before[0], before[1] + 50), "one round trip each on one connection"


def test_a_connection_that_was_closed_meanwhile_costs_no_wait(
    store: Store, server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PAUSE", 3600.0)
    put(store, "a")
    server.client_kill_filter(_type="normal", skipme=True)
    assert put(store, "b")
    assert ready(store) == 2


def test_threads_share_no_reply(store: Store) -> None:
    found: dict[int, list[str]] = {}

    def many(thread: int) -> None:
        ids = [f"{thread}-{n}" for n in range(40)]
        found[thread] = [store.run(store.enqueue(CHANNEL, [job(id)]))[0].id for id in ids]

    threads = [threading.Thread(target=many, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {n: [f"{n}-{i}" for i in range(40)] for n in range(8)}
    assert ready(store) == 320


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_forked_process_has_connections_of_its_own(store: Store) -> None:
    put(store, "parent")
    child = os.fork()
    if child == 0:
        os._exit(0 if put(store, "child") else 1)  # no cleaning up: these are the parent's tests
    assert os.waitpid(child, 0)[1] == 0
    assert put(store, "after")
    assert ready(store) == 3


# Sent by a thread, its reply read by an event loop


@contextlib.contextmanager
def paused(server: redis.Redis) -> Iterator[None]:
    """Whatever writes waits."""
    server.client_pause(60_000, all=False)
    try:
        yield
    finally:
        server.client_unpause()


def begin(store: Store, id: str) -> Coroutine[Any, Any, Any]:
    begun = store.begin(store.enqueue_one(CHANNEL, job(id)))
    assert begun is not None
    return begun.reply()


async def test_a_reply_is_read_by_the_loop_on_the_connection_of_the_request(store: Store, server: redis.Redis) -> None:
    put(store, "first")
    before = names(server), requests(server)
    for n in range(50):
        assert isinstance(await begin(store, f"{n}"), int), "when it was stored"
    assert (names(server), requests(server)) == (before[0], before[1] + 50)
    assert ready(store) == 51


async def test_a_reply_that_comes_late_and_in_pieces_does_not_keep_the_loop(redis_url: str, store: Store) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with Proxy(port) as proxy:
        behind = Store({"address": proxy.url}, prefix=store.prefix)
        put(behind, "first")
        proxy.blackhole()
        waiting = asyncio.create_task(begin(behind, "a"))
        for _ in range(10 * LOOKS):
            await asyncio.sleep(0)
        assert not waiting.done()
        proxy.reopen()
        assert isinstance(await waiting, int)
        proxy.fate = lambda request: "truncate"
        with pytest.raises(Stale):
            await begin(behind, "b")
        behind.connections.close()
    assert ready(store) == 3


async def test_a_loop_gives_a_server_up_that_stops_answering(redis_url: str, store: Store) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with Proxy(port) as proxy:
        behind = Store({"address": proxy.url, "socket_timeout": 0.2}, prefix=store.prefix)
        put(behind, "first")
        proxy.blackhole()
        async with asyncio.timeout(10):
            with pytest.raises(redis.TimeoutError):
                await begin(behind, "a")
        proxy.reopen()
        assert put(behind, "b"), "and no late reply is taken for this one's"
        behind.connections.close()


async def test_a_reply_that_is_not_read_is_never_another_s(store: Store, server: redis.Redis) -> None:
    put(store, "first")
    dropped = begin(store, "dropped")
    dropped.close()
    del dropped
    with paused(server):
        waiting = asyncio.create_task(begin(store, "cancelled"))
        for _ in range(2 * LOOKS):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert [put(store, "a"), put(store, "a"), put(store, "b")] == [True, False, True]


async def test_requests_that_are_begun_and_not_awaited_leave_connections_to_others(
    redis_url: str, store: Store
) -> None:
    few = Store({"address": redis_url, "max_connections": 4, "timeout": 0.1}, prefix=store.prefix)
    put(few, "first")
    begun = [few.begin(few.enqueue_one(CHANNEL, job(f"{n}"))) for n in range(8)]
    assert [one is not None for one in begun] == [True] * 2 + [False] * 6
    assert put(few, "a")
    for one in begun:
        if one is not None:
            await one.reply()
    assert few.begin(few.enqueue_one(CHANNEL, job("b"))) is not None
    few.connections.close()


async def test_a_reply_is_not_waited_for_on_a_connection_that_another_thread_closes(
    store: Store, server: redis.Redis
) -> None:
    put(store, "first")
    with paused(server):
        waiting = asyncio.create_task(begin(store, "a"))
        for _ in range(2 * LOOKS):
            await asyncio.sleep(0)
        store.connections.reconnect()
        async with asyncio.timeout(5):
            with pytest.raises(redis.ConnectionError):
                await waiting
    assert put(store, "b")


async def test_a_message_whose_reply_is_lost_is_sent_again(redis_url: str) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with Proxy(port) as proxy:
        layer = RetryingChannelLayer(hosts=[proxy.url])
        send = sync_to_async(async_to_sync(layer.send))
        await send(CHANNEL, {"type": "a"})
        proxy.fate = lambda request: "cut" if b"EVALSHA" in request and proxy.hurt < 2 else ""
        await send(CHANNEL, {"type": "b"})
        assert proxy.hurt == 2
        assert ready(layer.store) == 2
        layer.store.connections.close()
        await layer.store.connections.aclose()


def test_what_interrupts_a_request_leaves_its_reply_to_nobody(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal's handler that raises, say: Ctrl-C, or a limit of time."""

    def interrupted(self: Any) -> None:
        raise KeyboardInterrupt

    put(store, "first")
    with monkeypatch.context() as patch:
        patch.setattr(wire_module._Connection, "reply", interrupted)
        with pytest.raises(KeyboardInterrupt):
            put(store, "a")
    assert [put(store, "b"), put(store, "b"), put(store, "c")] == [True, False, True]


class Credentials(redis.CredentialProvider):
    """Those of a server with a password, once they can be had."""

    def __init__(self) -> None:
        self.asked = 0

    def get_credentials(self) -> tuple[str]:
        self.asked += 1
        if self.asked == 1:
            raise LookupError("no credentials yet")
        return ("secret",)


@pytest.mark.parametrize("flavour", ["a process", "a loop"])
async def test_credentials_that_could_not_be_had_are_asked_for_again(tmp_path: Path, flavour: str) -> None:
    """redis-py leaves the connection open that has not said who it is: nothing is sent on it."""
    with Valkey(tmp_path) as valkey, redis.Redis.from_url(valkey.url) as server:
        server.config_set("requirepass", "secret")
        credentials = Credentials()
        store = Store({"address": valkey.url, "credential_provider": credentials}, prefix="retrying:test")
        with pytest.raises(LookupError):
            await (store.send(CHANNEL, job("a")) if flavour == "a loop" else sync_to_async(put)(store, "a"))
        for n in range(2):
            if flavour == "a loop":
                assert (await store.send(CHANNEL, job(f"{n}"))).new
            else:
                assert await sync_to_async(put)(store, f"{n}")
        assert credentials.asked == 2
        await store.connections.aclose()
        store.connections.close()


@pytest.mark.parametrize("run", EVENT_LOOPS)
def test_a_thread_can_wait_on_a_connection_after_a_loop_did(
    run: Callable[[Coroutine[Any, Any, None]], None], store: Store, server: redis.Redis
) -> None:
    """uvloop makes the sockets that it watches non-blocking."""

    async def main() -> None:
        with paused(server):
            waiting = asyncio.create_task(begin(store, "a"))
            for _ in range(2 * LOOKS):
                await asyncio.sleep(0)
        await waiting
        await asyncio.sleep(0)

    put(store, "first")
    run(main())
    before = names(server)
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(put(store, "b")))
    with paused(server):
        thread.start()
        wait_for(lambda: any("b" in client["flags"] for client in server.client_list()), "its request waits")
    thread.join(20)
    assert (found, names(server)) == ([True], before), "without another connection, which a repetition would take"


@pytest.mark.parametrize("run", EVENT_LOOPS)
def test_a_loop_hears_of_a_connection_that_is_reset(
    run: Callable[[Coroutine[Any, Any, None]], None], tmp_path: Path
) -> None:
    """As it is by a server that is killed before it has read the request."""

    async def main() -> None:
        with Valkey(tmp_path) as valkey:
            store = Store({"address": valkey.url, "socket_timeout": None}, prefix="retrying:test")
            put(store, "first")
            os.kill(valkey.pid, signal.SIGSTOP)
            waiting = asyncio.create_task(begin(store, "a"))
            for _ in range(2 * LOOKS):
                await asyncio.sleep(0)
            os.kill(valkey.pid, signal.SIGKILL)
            async with asyncio.timeout(10):
                with pytest.raises(redis.ConnectionError):
                    await waiting
            store.connections.close()

    run(main())


async def test_all_connections_leave_a_primary_that_another_one_replaced(tmp_path: Path) -> None:
    """Also those that no request has found out about: a primary that hangs would keep one waiting on each."""

    class Named:
        """What Sentinel says."""

        valkey: Valkey

        def discover_master(self, name: str) -> tuple[str, int]:
            return "127.0.0.1", self.valkey.port

    with Valkey(tmp_path / "old") as old, Valkey(tmp_path / "new") as new:
        named = Named()
        named.valkey = old
        pool = _SentinelPool("jobs", named, socket_timeout=0.5)  # type: ignore[no-untyped-call]
        kept = Kept(pool, most=4, wait=1.0, timeout=0.5)

        async def two() -> list[Any]:
            begun = [kept.begin("PING"), kept.begin("PING")]
            return [await one.reply() for one in begun if one is not None]

        assert await two() == [b"PONG", b"PONG"]
        os.kill(old.pid, signal.SIGSTOP)
        named.valkey = new
        with pytest.raises(redis.TimeoutError):
            kept.ask("PING")
        assert await two() == [b"PONG", b"PONG"]
        os.kill(old.pid, signal.SIGCONT)
        pool.disconnect()


async def test_a_primary_that_does_not_say_goodbye_is_not_the_last_one_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections_module, "WATCH_SECONDS", 0)
    left: list[int] = []

    class Pool:
        service_name = "jobs"
        named = 0

        async def get_master_address(self) -> tuple[str, int]:
            self.named += 1
            return "primary", self.named

        async def disconnect(self) -> None:
            left.append(self.named)
            raise redis.TimeoutError("it is stopped")

    watch = asyncio.create_task(connections_module._leave_old_primaries(Pool()))
    await await_for(lambda: len(left) > 2 or watch.done(), "three were left")
    watch.cancel()
    assert left[:3] == [2, 3, 4]


# With another redis-py


async def test_the_connections_of_this_redis_py_are_as_expected(store: Store) -> None:
    assert isinstance(store.connections.wire(), Kept)
    assert isinstance(store.connections.async_wire(), Line)
    await store.connections.aclose()


async def test_other_connections_than_expected_are_used_through_the_client(
    redis_url: str, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Kept, "USES", ("_sock", "_of_another_release"))
    monkeypatch.setattr(Line, "USES", ("_reader", "_of_another_release"))
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with Proxy(port) as proxy:
        other = Store({"address": proxy.url}, prefix=store.prefix)
        proxy.fate = lambda request: "cut" if b"EVALSHA" in request and proxy.hurt < 2 else ""
        assert not put(other, "a"), "stored by a request whose reply was lost"
        found = await send(other, *"bcdefgh")
        assert proxy.hurt == 2
        assert [one.id for one in found] == list("bcdefgh")
        await other.connections.aclose()
        other.connections.close()
    assert caplog.text.count("are not as expected") == 2, "said once of the process, and once of the loop"
    assert ready(store) == 8


# Waiting at the server


async def test_who_waits_keeps_no_other_request_waiting(store: Store, server: redis.Redis) -> None:
    await send(store, "first")
    async with store.connections.blocking_wire(60) as wire:
        waiting = asyncio.create_task(wire.ask("BLPOP", "nothing", 60))
        await await_for(lambda: server.info("clients")["blocked_clients"] == 1, "it waits")
        async with asyncio.timeout(10):
            await send(store, "a")
        assert not waiting.done()
    with pytest.raises(redis.ConnectionError):
        await waiting
    await store.connections.aclose()


async def test_nobody_takes_what_comes_after_who_waited_was_cancelled(store: Store, server: redis.Redis) -> None:
    async def wait(key: str) -> None:
        async with store.connections.blocking_wire(60) as wire:
            await wire.ask("BLPOP", key, 60)

    before = names(server)
    for n in range(3):
        waiting = asyncio.create_task(wait(f"{n}"))
        await await_for(lambda: server.info("clients")["blocked_clients"] == 1, "it waits")
        waiting.cancel()
        await asyncio.wait([waiting])
        await await_for(lambda: server.info("clients")["blocked_clients"] == 0, "the server knows of it")
        assert server.rpush(f"{n}", "1") == 1
    assert names(server) == before
    await store.connections.aclose()


async def test_a_wait_longer_than_a_reply_may_take_is_no_failure(redis_url: str, server: redis.Redis) -> None:
    impatient = Store({"address": redis_url, "socket_timeout": 0.05})
    async with impatient.connections.blocking_wire(30) as wire:
        waiting = asyncio.create_task(wire.ask("BLPOP", "bell", 0.2))
        assert await waiting is None
    await impatient.connections.aclose()


# At the same time


async def test_concurrent_senders_share_requests(store: Store, server: redis.Redis) -> None:
    await send(store, "first")
    before = requests(server)
    ids = [f"{n:04}" for n in range(2 * MAX_JOBS)]
    found = await send(store, *ids)
    assert [(one.id, one.new) for one in found] == [(id, True) for id in ids], "each caller gets its own"
    assert requests(server) - before <= MAX_REQUESTS + 2, "few that are ENOUGH, then all that wait"
    claimed = await store.arun(store.claim(CHANNEL, "w", "T", wanted=len(ids) + 1))
    assert [one.id for one in claimed.jobs] == ["first", *ids], "in the order in which they were sent"
    await store.connections.aclose()


async def test_senders_that_came_together_once_go_together_at_once(store: Store, server: redis.Redis) -> None:
    """Not the first of them alone, and the others when its reply is there."""
    assert 3 * ENOUGH < 50 < 4 * ENOUGH
    await send(store, *(f"0-{n}" for n in range(50)))
    before = requests(server)
    for turn in range(1, 11):
        await send(store, *(f"{turn}-{n}" for n in range(50)))
    assert requests(server) - before == 10 * 4, "three with ENOUGH of them while the others are made, and those"
    await send(store, "one")  # alone in its turn: from now on the first one goes at once again
    before = requests(server)
    await send(store, "a", "b")
    assert requests(server) - before == 2
    assert ready(store) == 11 * 50 + 3
    await store.connections.aclose()


async def test_each_sender_gets_what_became_of_its_own(store: Store) -> None:
    found = await send(store, "a", "b", "a", "c", "d", "b", "e", capacity=4)
    assert [one and (one.id, one.new) for one in found] == [
        ("a", True), ("b", True), ("a", False), ("c", True), ("d", True), ("b", False), None,
    ]  # fmt: skip
    assert ready(store) == 4
    await store.connections.aclose()


async def test_a_sender_that_is_cancelled_takes_nobody_along(store: Store) -> None:
    senders = [asyncio.create_task(store.send(CHANNEL, job(f"{n}"))) for n in range(20)]
    await asyncio.sleep(0)  # the first one is on its way, the others wait for it
    senders[0].cancel()
    senders[7].cancel()
    found = await asyncio.gather(*senders, return_exceptions=True)
    assert [n for n, one in enumerate(found) if isinstance(one, asyncio.CancelledError)] == [0, 7]
    assert all(one.new for n, one in enumerate(found) if n not in {0, 7} and not isinstance(one, BaseException))
    assert ready(store) >= 18
    await store.connections.aclose()


def requests_of_outboxes() -> list[asyncio.Task[Any]]:
    """Their tasks."""
    return [task for task in asyncio.all_tasks() if "Outbox._send" in repr(task.get_coro())]


async def test_a_request_that_is_cancelled_leaves_nobody_waiting(store: Store, server: redis.Redis) -> None:
    """As all tasks of a loop are when it ends, in any order, and some send then."""
    await send(store, "first", "second", "third")  # together, so that the next ones go as a task
    with paused(server):
        early = asyncio.create_task(store.send(CHANNEL, job("early")))
        await await_for(lambda: any("b" in client["flags"] for client in server.client_list()), "it waits")
        late = asyncio.create_task(store.send(CHANNEL, job("late")))
        await asyncio.sleep(0)
        for task in requests_of_outboxes():
            task.cancel()
    async with asyncio.timeout(10):
        assert (await late).new
        with pytest.raises(asyncio.CancelledError):
            await early
    await store.connections.aclose()


async def test_a_request_that_is_cancelled_before_it_begins_leaves_its_jobs_to_the_next(store: Store) -> None:
    await send(store, "first", "second", "third")
    sending = asyncio.create_task(store.send(CHANNEL, job("a")))
    await asyncio.sleep(0)
    (request,) = requests_of_outboxes()
    request.cancel()
    async with asyncio.timeout(10):
        assert (await sending).new
        assert (await store.send(CHANNEL, job("b"))).new
    await store.connections.aclose()


async def test_a_full_server_tells_each_sender(tmp_path: Path) -> None:
    with Valkey(tmp_path) as valkey, redis.Redis.from_url(valkey.url) as server:
        store = Store({"address": valkey.url}, prefix="retrying:test")
        await send(store, "a")
        server.config_set("maxmemory", 1)
        found = await send(store, *"bcdef")
        assert [type(one) for one in found] == [StoreFull] * 5
        assert len({id(one) for one in found}) == 5, "an exception each"
        server.config_set("maxmemory", 0)
        assert [one.new for one in await send(store, *"bcdef")] == [True] * 5
        await store.connections.aclose()


async def test_a_server_that_is_gone_tells_each_sender(tmp_path: Path) -> None:
    with Valkey(tmp_path) as valkey:
        store = Store({"address": valkey.url}, prefix="retrying:test")
        await send(store, "a")
    found = await send(store, *"bcd")
    assert [type(one) for one in found] == [StoreUnavailable] * 3
    await store.connections.aclose()


async def test_a_lost_reply_stores_no_job_twice(redis_url: str, store: Store) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with Proxy(port) as proxy:
        behind = Store({"address": proxy.url}, prefix=store.prefix)
        await send(behind, "first")
        proxy.fate = lambda request: "cut" if b"EVALSHA" in request and proxy.hurt < 2 else ""
        found = await send(behind, *"abcdefgh")
        assert proxy.hurt == 2
        assert [one.id for one in found] == list("abcdefgh")
        await behind.connections.aclose()
    assert ready(store) == 9


async def test_a_server_that_stops_answering_is_given_up_in_time(redis_url: str, store: Store) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with Proxy(port) as proxy:
        behind = Store({"address": proxy.url, "socket_timeout": 0.2}, prefix=store.prefix)
        await send(behind, "first")
        proxy.delay = lambda: 30.0
        async with asyncio.timeout(10):
            found = await send(behind, "a", "b")
        assert [type(one) for one in found] == [StoreUnavailable] * 2
        await behind.connections.aclose()


def test_a_process_gives_a_server_up_that_stops_answering(redis_url: str, store: Store) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with Proxy(port) as proxy:
        behind = Store({"address": proxy.url, "socket_timeout": 0.2}, prefix=store.prefix)
        put(behind, "first")
        proxy.delay = lambda: 0.5
        with pytest.raises(StoreUnavailable):
            put(behind, "a")
        proxy.delay = lambda: 0.0
        assert put(behind, "b"), "and no late reply is taken for this one's"
        behind.connections.close()


def test_nothing_is_left_of_a_loop_that_ended_while_it_sent(store: Store, server: redis.Redis) -> None:
    put(store, "first")
    before = names(server)

    async def begin() -> None:
        for n in range(1000):
            asyncio.create_task(store.send(CHANNEL, job(f"{n}")))  # noqa: RUF006  (they are left on purpose)
        await asyncio.sleep(0)

    for _ in range(3):
        asyncio.run(begin())
    assert names(server) == before


def test_a_loop_that_ended_is_forgotten(store: Store) -> None:
    ended: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def main() -> None:
        await send(store, "a", "b")
        ended.append(weakref.ref(asyncio.get_running_loop()))

    for _ in range(3):
        asyncio.run(main())
    gc.collect()
    assert [loop() for loop in ended] == [None] * 3
