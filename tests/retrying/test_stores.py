"""The store's contract on every kind of server that jobs may live on, and how such a server is described."""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis

from retrying import StoreUnavailable
from retrying.store import Limits, Store
from retrying.store.calls import NewJob
from retrying.store.server import Kind, Server
from tests.conftest import Effects, await_for, wait_for
from tests.processes import RunWorker
from tests.retrying import test_limits, test_unique
from tests.retrying import test_store as contract
from tests.servers import TLS, RedisCluster, RedisServer, SentinelSet

CHANNEL = contract.CHANNEL
KINDS = ("redis", "tls", "sentinel", "cluster", "limited-user")
#: What the documents say a user of the store needs; see docs/stores.md.
USER = (
    "worker", "on", ">secret", "~retrying:*", "&retrying:*", "-@all", "+@read", "+@write", "+@blocking", "+@pubsub",
    "+@connection", "+eval", "+evalsha", "+time", "+cluster|slots", "+command", "+asking", "-@dangerous", "+info",
)  # fmt: skip


@dataclass
class Running:
    """A kind of server: the store's description, and the bare server that holds the channel's keys."""

    description: dict[str, Any]
    holder: Callable[[], RedisServer]


@contextmanager
def started(kind: str, directory: Path) -> Iterator[Running]:
    with ExitStack() as stack:
        if kind == "sentinel":
            sentinel = stack.enter_context(SentinelSet(directory))
            yield Running(sentinel.description, lambda: sentinel.primary)
        elif kind == "cluster":
            cluster = stack.enter_context(RedisCluster(directory))
            for server in cluster.servers:
                server.ask("ACL", "SETUSER", *USER)
            description = {**cluster.description, "username": "worker", "password": "secret"}
            yield Running(description, lambda: cluster.owner("{" + CHANNEL + "}"))
        elif kind == "tls":
            tls = TLS(directory / "tls")
            server = stack.enter_context(RedisServer(directory / "redis", tls=tls))
            yield Running({"address": server.url, "ssl_ca_certs": str(tls.authority)}, lambda: server)
        else:
            server = stack.enter_context(RedisServer(directory / "redis"))
            description = {"address": server.url}
            if kind == "limited-user":
                server.ask("ACL", "SETUSER", *USER)
                description |= {"username": "worker", "password": "secret"}
            yield Running(description, lambda: server)


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with started(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


@pytest.fixture
def server(running: Running) -> Iterator[redis.Redis]:
    """The bare server, empty."""
    with running.holder().client() as client:
        client.flushall()
        yield client


@pytest.fixture
def store(running: Running, server: redis.Redis) -> Iterator[Store]:
    found = Store(running.description, prefix="retrying:test", limits=Limits(lease=60, sweep=3600))
    yield found
    found.connections.close()


def scripts_tests(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Its tests of the scripts that make no server of their own."""
    for name, test in vars(module).items():
        if name.startswith("test_") and not hasattr(test, "hypothesis"):
            needs = inspect.signature(test).parameters.keys()
            if "store" in needs and not {"tmp_path", "redis_url"} & needs:
                yield name, test


# The contract; and, where scripts are held to one slot, what is built of many keys.
for module in (contract, test_unique, test_limits):
    globals().update(scripts_tests(module))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "running" in metafunc.fixturenames:
        built = metafunc.function.__module__ in (test_unique.__name__, test_limits.__name__)
        metafunc.parametrize("running", ["cluster"] if built else KINDS, indirect=True, scope="module")


async def test_bell_wakes_a_blocking_pop(store: Store) -> None:
    """On the node that holds the channel's keys."""
    bell = store.keys(CHANNEL).bell
    async with store.connections.blocking_wire(4) as wire:
        pop = asyncio.create_task(wire.ask("BLPOP", bell, 4))
        await store.arun(store.enqueue(CHANNEL, [NewJob(id="a", payload=b"x")]))
        assert list(await pop) == [bell.encode(), b"1"]
    await store.connections.aclose()


async def test_news_of_a_topic_reach_the_loops_client(store: Store) -> None:
    """In a cluster a script's PUBLISH goes to all nodes."""
    key = store.keys(CHANNEL).topic("t")
    async with store.connections.async_().pubsub() as listener:
        await listener.subscribe(key)
        assert (await listener.get_message(timeout=5))["type"] == "subscribe"
        await store.arun(store.enqueue(CHANNEL, [NewJob(id="a", payload=b"x", topic="t")]))
        message = await listener.get_message(timeout=5)
        assert (message["channel"], message["data"]) == (key.encode(), b"ready")
    await store.connections.aclose()


async def test_more_requests_than_connections_wait_for_one(running: Running, server: redis.Redis) -> None:
    store = Store({**running.description, "max_connections": 3}, prefix="retrying:test")
    calls = [store.enqueue(CHANNEL, [NewJob(id=f"{n}", payload=b"x")]) for n in range(60)]
    await asyncio.gather(*(store.arun(call) for call in calls))
    assert (await store.arun(store.counts(CHANNEL))).ready == 60
    await store.connections.aclose()


async def test_async_connections_are_closed(running: Running, server: redis.Redis) -> None:
    before = {client["id"] for client in server.client_list() if "S" not in client["flags"]}
    store = Store(running.description, prefix="retrying:test")
    await asyncio.gather(*(store.arun(store.counts(CHANNEL)) for _ in range(5)))
    new = lambda: {client["id"] for client in server.client_list() if client["flags"] == "N"}  # noqa: E731
    assert new() - before
    await store.connections.aclose()
    wait_for(lambda: not new() - before, "every connection is closed", 5)


def left_open(*mains: Coroutine[Any, Any, None]) -> list[str]:
    """What is open after the event loops that ran them, one each, have ended."""
    gc.collect()  # what others have left is not ours
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for main in mains:
            asyncio.run(main)
        gc.collect()
    return [str(one.message) for one in found]


def test_nothing_is_left_of_a_request_that_was_given_up_while_it_connected(running: Running) -> None:
    """Between the moment in which something that it waits for has come, and its next step: the worst one."""

    async def give_up_before(step: int) -> None:
        store = Store(running.description, prefix="retrying:test")
        asking: Any = asyncio.create_task(store.arun(store.counts(CHANNEL)))
        while step and not asking.done():
            await asyncio.sleep(0)
            step -= bool(asking._fut_waiter and asking._fut_waiter.done())
        asking.cancel()

    assert left_open(*(give_up_before(step) for step in range(20))) == []


def test_nothing_is_left_of_a_connection_whose_server_says_no_goodbye(running: Running) -> None:
    server = running.holder()

    async def wait(store: Store) -> None:
        async with store.connections.blocking_wire(9) as wire:
            await wire.ask("BLPOP", f"{store.keys(CHANNEL).bell}:never-rung", 9)

    async def give_up() -> None:
        store = Store(running.description, prefix="retrying:test")
        waiting = asyncio.create_task(wait(store))
        await await_for(lambda: "cmd=blpop" in server.ask("CLIENT", "LIST"), "it waits")
        server.pause()
        asyncio.get_running_loop().call_later(0.1, server.resume)  # for those who wait for a goodbye in vain
        waiting.cancel()
        await asyncio.wait([waiting])

    try:
        assert left_open(give_up()) == []
    finally:
        server.resume()


def test_worker(running: Running, server: redis.Redis, redis_url: str, effects: Effects, tmp_path: Path) -> None:
    """runworker with its jobs on that server, and the layer's groups on another."""
    store = Store(running.description, prefix="retrying:asgi")
    env = {"REDIS_URL": redis_url, "EFFECTS": str(effects.path), "STORE": repr(running.description)}
    with RunWorker("tests.plain.store_settings", "work", log=tmp_path / "worker.log", env=env) as worker:
        worker.ready()
        store.run(store.enqueue("work", [work(n) for n in range(20)]))
        wait_for(lambda: len(effects.lines()) >= 20, "all jobs done")
        store.run(store.enqueue("work", [work(20, delay=300)]))
        wait_for(lambda: len(effects.lines()) >= 21, "the delayed job, too")
    assert sorted(effects.numbers()) == list(range(21))
    store.connections.close()


def work(n: int, **options: Any) -> NewJob:
    """A job for tests.plain."""
    import msgpack

    return NewJob(id=f"job{n}", payload=msgpack.packb({"type": "work.do", "n": n}), **options)


# Descriptions


@pytest.mark.parametrize(
    ("description", "said"),
    [
        ({}, "described by"),
        ({"address": "http://host"}, "begins with redis://"),
        ({"address": "redis://:secret@host:port"}, "not an address"),
        ({"address": "redis://host", "ssl": True}, "rediss://"),
        ({"address": "redis://host", "sokcet_timeout": 1}, "no option 'sokcet_timeout'; it takes address"),
        ({"host": "a", "prot": 1}, "no option 'prot'"),
        ({"sentinels": [("a", 1)]}, "needs master_name"),
        ({"master_name": "jobs"}, '"sentinels" must be a list'),
        ({"master_name": "jobs", "sentinels": "a:1"}, '"sentinels" must be a list'),
        ({"master_name": "jobs", "sentinels": [("a", "b")]}, "port in \"sentinels\" must be a number, got 'b'"),
        ({"master_name": "jobs", "sentinels": ["a"]}, "is a URL or"),
        ({"master_name": "jobs", "sentinels": [("a", 1)], "sentinel_kwargs": 5}, "sentinel_kwargs must be a dict"),
        ({"cluster": []}, '"cluster" must be a list'),
        ({"cluster": ["redis://host/3"]}, "database 0"),
        ({"cluster": [("a", 1)], "db": 3}, "can't have db"),
    ],
)
def test_bad_description_is_refused_in_words(description: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        Store(description)
    assert "secret" not in str(raised.value)


def test_descriptions() -> None:
    assert Server.of({"address": "rediss://host"}).kind is Kind.ONE
    assert Server.of({"host": "a", "port": 1, "ssl": True}).options == {"host": "a", "port": 1, "ssl": True}
    sentinel = Server.of({"master_name": "jobs", "sentinels": [("a", 1), "rediss://:p@b:2"], "password": "q"})
    assert (sentinel.kind, sentinel.nodes) == (Kind.SENTINEL, (("a", 1), ("b", 2)))
    assert (sentinel.options, sentinel.sentinel_options) == ({"password": "q"}, {"password": "p", "ssl": True})
    cluster = Server.of({"cluster": ["rediss://user:p@a:1/0", ("b", 2)], "socket_timeout": 3})
    assert (cluster.kind, cluster.nodes) == (Kind.CLUSTER, (("a", 1), ("b", 2)))
    assert cluster.options == {"username": "user", "password": "p", "ssl": True, "socket_timeout": 3}


@pytest.mark.parametrize(
    "nodes", [{"cluster": [("127.0.0.1", 1)]}, {"master_name": "jobs", "sentinels": [("127.0.0.1", 1)]}]
)
async def test_nobody_there(nodes: dict[str, Any]) -> None:
    store = Store(nodes)
    with pytest.raises(StoreUnavailable):
        store.run(store.counts(CHANNEL))
    with pytest.raises(StoreUnavailable):
        await store.arun(store.counts(CHANNEL))
    await store.connections.aclose()
    store.connections.close()
