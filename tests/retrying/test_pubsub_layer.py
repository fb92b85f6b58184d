"""The layer over pub/sub: groups of many sockets as channels_redis has them, general channels as jobs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull
from channels.layers import channel_layers
from channels_redis.pubsub import RedisPubSubChannelLayer
from redis.exceptions import ConnectionError as RedisConnectionError

from project.development.valkey import Valkey
from retrying import State, aenqueue, jobs
from retrying.layers import RetryingPubSubChannelLayer, get_layer
from tests.conftest import PATIENCE, Effects, await_for, wait_for
from tests.faults.proxy import Proxy
from tests.processes import ROOT, RunWorker

#: uvloop is an extra of the package; here it comes with Python 3.12 and up, so that workers are tried without it too.
EVENT_LOOPS = [asyncio.run, *([import_module("uvloop").run] if find_spec("uvloop") else [])]

MESSAGES = 60
KILLED_AFTER = 20

SEND = """
import sys, django
django.setup()
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
layer = get_channel_layer()
for n in range(int(sys.argv[1])):
    async_to_sync(layer.send)("work", {"type": "work.do", "n": n, "seconds": 0.01})
"""


@pytest.fixture
async def layer(redis_url: str) -> AsyncIterator[RetryingPubSubChannelLayer]:
    layer = RetryingPubSubChannelLayer(hosts=[redis_url])
    yield layer
    await layer.close_pools()
    layer.store.connections.close()


@pytest.fixture
def used(redis_url: str, settings: Any) -> RetryingPubSubChannelLayer:
    """The layer of the project's settings."""
    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": "retrying.layers.RetryingPubSubChannelLayer", "CONFIG": {"hosts": [redis_url]}}
    }
    layer = get_layer()
    assert isinstance(layer, RetryingPubSubChannelLayer)
    return layer


async def receive(layer: RetryingPubSubChannelLayer, channel: str) -> dict[str, Any]:
    return await asyncio.wait_for(layer.receive(channel), PATIENCE)


# Groups and specific channels


async def test_group_reaches_all_of_many_receivers_once(layer: RetryingPubSubChannelLayer, redis_url: str) -> None:
    names = [await layer.new_channel() for _ in range(200)]
    for name in names:
        await layer.group_add("chat", name)
    sender = RetryingPubSubChannelLayer(hosts=[redis_url])
    await sender.group_send("chat", {"type": "said", "n": 1})
    await sender.group_send("chat", {"type": "said", "n": 2})
    for n in (1, 2):
        received = await asyncio.gather(*(receive(layer, name) for name in names))
        assert received == [{"type": "said", "n": n}] * 200
    await sender.close_pools()
    await layer.group_discard("chat", names[0])
    await layer.group_send("chat", {"type": "said", "n": 3})
    assert (await receive(layer, names[1]))["n"] == 3
    await layer.send(names[0], {"type": "direct"})
    assert (await receive(layer, names[0]))["type"] == "direct", "who left the group got its message"


def test_group_reaches_receivers_on_several_event_loops(used: RetryingPubSubChannelLayer) -> None:
    ready = threading.Barrier(4)
    received: list[dict[str, Any]] = []

    async def listen() -> None:
        names = [await used.new_channel() for _ in range(5)]
        for name in names:
            await used.group_add("loops", name)
        await asyncio.to_thread(ready.wait)
        received.extend(await asyncio.gather(*(receive(used, name) for name in names)))

    threads = [threading.Thread(target=lambda: asyncio.run(listen())) for _ in range(3)]
    for thread in threads:
        thread.start()
    ready.wait(PATIENCE)
    async_to_sync(used.group_send)("loops", {"type": "hello"})
    for thread in threads:
        thread.join(PATIENCE)
    assert received == [{"type": "hello"}] * 15


async def test_specific_channel_is_reached_from_another_process(
    layer: RetryingPubSubChannelLayer, redis_url: str
) -> None:
    name = await layer.new_channel()
    assert layer.require_valid_channel_name(name)
    assert layer.is_specific(name)
    for other in (RetryingPubSubChannelLayer(hosts=[redis_url]), RedisPubSubChannelLayer(hosts=[redis_url])):
        await other.send(name, {"type": "hello", "data": b"\x00\xff"})
        assert await receive(layer, name) == {"type": "hello", "data": b"\x00\xff"}
        await other.flush()


async def test_specific_channel_of_a_plain_process_gets_no_job(
    layer: RetryingPubSubChannelLayer, redis_url: str
) -> None:
    """While processes change one after the other."""
    plain = RedisPubSubChannelLayer(hosts=[redis_url])
    name = await plain.new_channel()
    await layer.send(name, {"type": "hello"})
    assert await asyncio.wait_for(plain.receive(name), PATIENCE) == {"type": "hello"}
    assert (await layer.store.arun(layer.store.counts(name))).ready == 0
    await plain.flush()


async def test_consumer_that_ends_leaves_no_subscription(layer: RetryingPubSubChannelLayer, redis_url: str) -> None:
    name = await layer.new_channel()
    receiving = asyncio.create_task(layer.receive(name))
    client = redis.asyncio.Redis.from_url(redis_url)
    await await_for(lambda: subscribers(client, name), "subscribed")
    receiving.cancel()
    await asyncio.wait([receiving])
    await await_for(lambda: nobody(client, name), "unsubscribed")
    await client.aclose()


async def subscribers(client: redis.asyncio.Redis, name: str) -> int:
    return int((await client.pubsub_numsub(name))[0][1])


async def nobody(client: redis.asyncio.Redis, name: str) -> bool:
    return await subscribers(client, name) == 0


async def test_receivers_hear_again_after_the_server_was_away(tmp_path: Path) -> None:
    with Valkey(tmp_path / "valkey") as server:
        layer = RetryingPubSubChannelLayer(hosts=[server.url])
        name = await layer.new_channel()
        await layer.group_add("chat", name)
        receiving = asyncio.create_task(layer.receive(name))
        server.stop()
        await asyncio.sleep(0)
        server.start()
        client = redis.asyncio.Redis.from_url(server.url)
        group = layer._get_layer()._get_group_channel_name("chat")
        await await_for(lambda: subscribers(client, group), "subscribed again")
        await layer.group_send("chat", {"type": "hello"})
        assert await asyncio.wait_for(receiving, PATIENCE) == {"type": "hello"}
        await client.aclose()
        await layer.close_pools()


async def test_idle_receive_outlives_redis_py_socket_timeout(layer: RetryingPubSubChannelLayer) -> None:
    name = await layer.new_channel()
    receiving = asyncio.create_task(layer.receive(name))
    done, _ = await asyncio.wait([receiving], timeout=6)
    assert not done
    await layer.send(name, {"type": "late"})
    assert (await asyncio.wait_for(receiving, PATIENCE))["type"] == "late"


@pytest.mark.parametrize("name", ["with space", "ünicode", "x" * 100, 5, ""])
async def test_bad_names_are_refused(layer: RetryingPubSubChannelLayer, name: Any) -> None:
    for call in (
        lambda: layer.send(name, {"type": "x"}),
        lambda: layer.receive(name),
        lambda: layer.group_send(name, {"type": "x"}),
        lambda: layer.group_add(name, "channel"),
        lambda: layer.group_discard("group", name),
    ):
        with pytest.raises(TypeError, match="must be a valid unicode string"):
            await call()
    with pytest.raises(TypeError, match="a message is a dict"):
        await layer.send("work", [])  # type: ignore[arg-type]


# General channels


def test_durable_project_loses_nothing_when_its_worker_is_killed(
    redis_url: str, effects: Effects, tmp_path: Path
) -> None:
    settings = "tests.plain.pubsub_settings"
    env = {"REDIS_URL": redis_url, "EFFECTS": str(effects.path), "PYTHONPATH": str(ROOT)}
    subprocess.run(  # with nobody listening: plain pub/sub would drop all of them
        [sys.executable, "-c", SEND, str(MESSAGES)],
        env={**env, "DJANGO_SETTINGS_MODULE": settings}, cwd=ROOT, check=True, timeout=60,
    )  # fmt: skip
    with RunWorker(settings, "work", log=tmp_path / "first.log", env=env) as first:
        wait_for(lambda: len(effects.lines()) >= KILLED_AFTER, "20 messages done")
        first.kill()
    assert KILLED_AFTER <= len(effects.lines()) < MESSAGES
    with RunWorker(settings, "work", log=tmp_path / "second.log", env=env):
        wait_for(lambda: set(effects.numbers()) == set(range(MESSAGES)), "all messages done")
    assert len(effects.lines()) <= MESSAGES + 1


async def test_failed_job_is_retried_and_buried(
    used: RetryingPubSubChannelLayer, redis_url: str, effects: Effects, tmp_path: Path
) -> None:
    await aenqueue("work", {"type": "work.fail", "n": 7}, job_id="seven")
    env = {"REDIS_URL": redis_url, "EFFECTS": str(effects.path)}

    async def dead() -> bool:
        job = await jobs.aget("work", "seven")
        return job is not None and job.state is State.DEAD

    with RunWorker("tests.plain.pubsub_settings", "work", log=tmp_path / "worker.log", env=env):
        await await_for(dead, "three attempts failed")
    assert effects.numbers() == [7, 7, 7]


def test_async_to_sync_from_threads_shares_connections(used: RetryingPubSubChannelLayer) -> None:
    def work() -> None:
        for n in range(20):
            async_to_sync(used.send)("work", {"type": "work.do", "n": n})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert jobs.counts("work").ready == 80
    assert used._layers == {}, "no connections for the groups of loops that sent one job"


async def test_receive_of_a_general_channel_takes_jobs_in_order(layer: RetryingPubSubChannelLayer) -> None:
    for n in range(3):
        await layer.send("work", {"type": "x", "n": n})
    assert [(await receive(layer, "work"))["n"] for _ in range(3)] == [0, 1, 2]
    waiting = asyncio.create_task(layer.receive("work"))
    await asyncio.sleep(0)
    await layer.send("work", {"type": "x", "n": 3})
    assert (await asyncio.wait_for(waiting, PATIENCE))["n"] == 3


async def test_capacity_holds_for_general_channels_when_given(redis_url: str) -> None:
    layer = RetryingPubSubChannelLayer(hosts=[redis_url], capacity=2, channel_capacity={"wide*": 3})
    for _ in range(2):
        await layer.send("narrow", {"type": "x"})
    with pytest.raises(ChannelFull):
        await layer.send("narrow", {"type": "x"})
    for _ in range(3):
        await layer.send("wide.one", {"type": "x"})
    with pytest.raises(ChannelFull):
        await layer.send("wide.one", {"type": "x"})
    name = await layer.new_channel()
    for n in range(10):
        await layer.send(name, {"type": "x", "n": n})
    assert [(await receive(layer, name))["n"] for _ in range(10)] == list(range(10))
    await layer.close_pools()


async def test_expiry_limits_the_wait_for_the_first_attempt(redis_url: str) -> None:
    layer = RetryingPubSubChannelLayer(hosts=[redis_url], expiry=0.05)
    await layer.send("work", {"type": "old"})
    expired = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, expired.set)
    await expired.wait()
    await layer.send("work", {"type": "new"})
    assert (await receive(layer, "work"))["type"] == "new"
    assert (await layer.store.arun(layer.store.counts("work"))).finished == 1
    await layer.close_pools()


async def test_jobs_live_where_store_says_and_outlive_a_flush(redis_url: str) -> None:
    layer = RetryingPubSubChannelLayer(hosts=[redis_url], store=redis_url.removesuffix("/0") + "/3", prefix="mine[*]")
    await layer.send("work", {"type": "x"})
    await layer.group_add("chat", await layer.new_channel())
    await layer.flush()
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await client.dbsize() == 0
    assert await receive(layer, "work") == {"type": "x"}
    name = await layer.new_channel()
    await layer.send(name, {"type": "as new"})
    assert await receive(layer, name) == {"type": "as new"}
    await layer.close_pools()


async def test_encrypted_messages_and_jobs(redis_url: str) -> None:
    old, new = ["old secret"], ["new secret", "old secret"]
    sender = RetryingPubSubChannelLayer(hosts=[redis_url], symmetric_encryption_keys=old)
    receiver = RetryingPubSubChannelLayer(hosts=[redis_url], symmetric_encryption_keys=new)
    await sender.send("work", {"type": "kept", "pin": "1234"})
    name = await receiver.new_channel()
    await sender.send(name, {"type": "direct"})
    assert await receive(receiver, name) == {"type": "direct"}
    assert await receive(receiver, "work") == {"type": "kept", "pin": "1234"}
    await sender.close_pools()
    await receiver.close_pools()


def test_settings_name_both_layers_when_another_is_configured(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    with pytest.raises(Exception, match=r"RetryingChannelLayer.*RetryingPubSubChannelLayer.*InMemory"):
        get_layer()
    channel_layers.backends.clear()


@pytest.mark.parametrize("run", EVENT_LOOPS)
def test_a_reset_connection_is_a_connection_error_on_every_loop(valkey: Valkey, run: Any) -> None:
    """uvloop refuses a write to a socket that the peer has reset with a bare RuntimeError, which nobody expects."""
    raised: set[type] = set()

    async def main(proxy: Proxy) -> None:
        layer = RetryingPubSubChannelLayer(hosts=[proxy.url])
        for n in range(40):
            await layer.group_send("g", {"type": "a"})
            proxy.reset()
            if n % 2:
                await asyncio.sleep(0.001)
            while True:
                try:
                    await layer.group_send("g", {"type": "a"})
                except Exception as error:  # noqa: BLE001  (which one is the question)
                    raised.add(type(error))
                else:
                    break
        await layer.close_pools()

    with Proxy(valkey.port) as proxy:
        run(main(proxy))
    # On plain asyncio redis-py itself raises an AttributeError now and then, when a connection goes in the middle.
    assert RedisConnectionError in raised
    assert not raised - {RedisConnectionError, AttributeError}
