"""What the channel layer specification asks for, of both layers alike: https://channels.readthedocs.io (layer spec)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull
from channels.layers import channel_layers

from retrying import State, jobs
from retrying.layers import RetryingChannelLayer, RetryingPubSubChannelLayer, get_layer
from retrying.store.calls import Lease, Retry
from retrying.testing import advance
from tests.conftest import await_for

LAYERS = {"core": RetryingChannelLayer, "pub/sub": RetryingPubSubChannelLayer}
CHANNEL = "work"
HOURS = 3600
#: Everything that a message may hold.
MESSAGE: dict[str, Any] = {
    "type": "test.message", "text": "ä€🙂", "bytes": b"\x00\xff", "number": -(2**63), "large": 2**63, "float": 0.1,
    "true": True, "none": None, "list": [1, [2, {"deep": b"x"}]], "dict": {"a": {"b": []}},
}  # fmt: skip

Layer = RetryingChannelLayer | RetryingPubSubChannelLayer
Make = Callable[..., Layer]


@pytest.fixture(params=LAYERS)
async def make(request: pytest.FixtureRequest, redis_url: str, settings: Any) -> AsyncIterator[Make]:
    """Makes the project's layer with this CONFIG; one made before is what another process has."""
    made: list[Layer] = []
    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": f"retrying.layers.{LAYERS[request.param].__name__}", "CONFIG": {"hosts": [redis_url]}}
    }

    def layer(**config: Any) -> Layer:
        made.append(LAYERS[request.param](**{"hosts": [redis_url], **config}))
        channel_layers.set("default", made[-1])
        return made[-1]

    yield layer
    for item in made:
        await item.close_pools()
        item.store.connections.close()


async def soon(receiving: Any) -> dict[str, Any]:
    found: dict[str, Any] = await asyncio.wait_for(receiving, 10)
    return found


async def nothing(layer: Layer, channel: str) -> bool:
    try:
        await asyncio.wait_for(layer.receive(channel), 0.2)
    except TimeoutError:
        return True
    return False


# Messages


@pytest.mark.parametrize("general", [True, False], ids=["general", "specific"])
async def test_a_message_arrives_as_it_was_bytes_included(make: Make, general: bool) -> None:
    layer = make()
    channel = CHANNEL if general else await layer.new_channel()
    await layer.send(channel, MESSAGE)
    assert await soon(layer.receive(channel)) == MESSAGE


async def test_a_message_that_is_changed_after_it_was_sent(make: Make) -> None:
    layer = make()
    message = {"type": "a", "list": [1]}
    await layer.send(CHANNEL, message)
    message["list"].append(2)  # type: ignore[attr-defined]
    assert (await soon(layer.receive(CHANNEL)))["list"] == [1]


async def test_messages_arrive_once_and_in_order(make: Make) -> None:
    layer = make()
    name = await layer.new_channel()
    for n in range(20):
        await layer.send(CHANNEL, {"type": "a", "n": n})
        await layer.send(name, {"type": "a", "n": n})
    for channel in (CHANNEL, name):
        assert [(await soon(layer.receive(channel)))["n"] for _ in range(20)] == list(range(20))
    assert await nothing(layer, CHANNEL)


async def test_new_channels_are_specific_and_unique(make: Make) -> None:
    layer = make()
    names = {await layer.new_channel("my.prefix") for _ in range(10)}
    assert len(names) == 10
    assert all(name.startswith("my.prefix") and "!" in name and len(name) < 100 for name in names)


@pytest.mark.parametrize("name", ["", "a b", "x" * 100, "käse", "a!b!c", "a/b", None, 5, b"work"])
async def test_a_bad_name_is_refused(make: Make, name: Any) -> None:
    layer = make()
    with pytest.raises(TypeError):
        await layer.send(name, {"type": "a"})
    assert jobs.counts(CHANNEL).ready == 0


@pytest.mark.parametrize("message", ["text", None, [("type", "a")]])
async def test_a_message_that_is_no_dict_is_refused(make: Make, message: Any) -> None:
    layer = make()
    with pytest.raises(TypeError):
        await layer.send(CHANNEL, message)
    assert jobs.counts(CHANNEL).ready == 0


# Groups


async def test_a_group_reaches_its_members_and_no_others(make: Make) -> None:
    layer = make()
    first, second, other = [await layer.new_channel() for _ in range(3)]
    for name in (first, second, second):  # twice is once
        await layer.group_add("g", name)
    await layer.group_add("h", other)
    await layer.group_send("g", MESSAGE)
    assert await soon(layer.receive(first)) == MESSAGE
    assert await soon(layer.receive(second)) == MESSAGE
    for _ in range(2):
        await layer.group_discard("g", first)
    await layer.group_send("g", {"type": "b"})
    assert await soon(layer.receive(second)) == {"type": "b"}, "and the first message once only"
    for name in (first, other):  # a cancelled receive ends a channel of the pub/sub layer, so at the end
        assert await nothing(layer, name)


async def test_a_group_without_members(make: Make) -> None:
    await make().group_send("nobody", {"type": "a"})


async def test_extensions_are_named(make: Make) -> None:
    assert set(make().extensions) >= {"groups", "flush"}


async def test_flush_empties_groups_and_specific_channels_and_keeps_jobs(make: Make) -> None:
    layer = make()
    name = await layer.new_channel()
    await layer.group_add("g", name)
    await layer.send(CHANNEL, {"type": "a"})
    await layer.flush()
    name = await layer.new_channel()
    await layer.group_send("g", {"type": "lost"})
    assert await soon(layer.receive(CHANNEL)) == {"type": "a"}
    await layer.send(name, {"type": "b"})
    assert await soon(layer.receive(name)) == {"type": "b"}, "it can be used as before"
    assert await nothing(layer, name)


# Capacity and expiry


async def test_capacity_given_is_the_number_of_waiting_jobs(make: Make) -> None:
    layer = make(capacity=2, channel_capacity={"wide.*": 3})
    for channel, capacity in ((CHANNEL, 2), ("wide.one", 3)):
        for _ in range(capacity):
            await layer.send(channel, {"type": "a"})
        with pytest.raises(ChannelFull):
            await layer.send(channel, {"type": "a"})
    await soon(layer.receive(CHANNEL))
    await layer.send(CHANNEL, {"type": "a"})


async def test_expiry_given_is_for_the_wait_for_the_first_attempt(make: Make) -> None:
    layer = make(expiry=HOURS)
    await layer.send(CHANNEL, {"type": "old"})
    await asyncio.to_thread(advance, HOURS - 60)
    await layer.send(CHANNEL, {"type": "new"})
    await asyncio.to_thread(advance, 61)
    assert await soon(layer.receive(CHANNEL)) == {"type": "new"}
    assert jobs.counts(CHANNEL).finished == 1


# Encryption


async def test_a_retry_due_hours_later_is_read_after_a_rotation_of_keys(make: Make) -> None:
    """The layer's own messages are refused after ``expiry`` (60 s): a job's must not be."""
    old = make(symmetric_encryption_keys=["old"])
    await old.send(CHANNEL, MESSAGE)
    store = old.store
    (job,) = (await store.arun(store.claim(CHANNEL, "w", "T", wanted=1))).jobs
    retry = Retry(Lease(job.id, "T"), 5 * HOURS * 1000, True, "no", 5)
    await store.arun(store.retry(CHANNEL, [retry]))
    new = make(symmetric_encryption_keys=["new", "old"])
    assert await nothing(new, CHANNEL)
    await asyncio.to_thread(advance, 5 * HOURS)
    assert await soon(new.receive(CHANNEL)) == MESSAGE


async def test_a_job_whose_key_is_gone_is_a_dead_letter(make: Make) -> None:
    await make(symmetric_encryption_keys=["old"]).send(CHANNEL, MESSAGE)
    assert await nothing(make(symmetric_encryption_keys=["new"]), CHANNEL)
    (letter,) = jobs.search(CHANNEL, State.DEAD).jobs
    assert "can't be decoded" in letter.reason


@pytest.mark.parametrize("serializer", ["msgpack", "json"])
async def test_both_serializers(make: Make, serializer: str) -> None:
    layer = make(serializer_format=serializer, symmetric_encryption_keys=["k"])
    message = {name: value for name, value in MESSAGE.items() if name not in ("bytes", "list")}
    name = await layer.new_channel()
    for channel in (CHANNEL, name):
        await layer.send(channel, message)
        assert await soon(layer.receive(channel)) == message


# Loops and threads


def test_one_layer_in_several_event_loops(make: Make) -> None:
    """Threads with loops of their own send jobs at the same time, and talk to themselves one after the other: as in
    channels_redis, specific channels of the core layer are read in one loop of a process at a time."""
    layer = make()
    errors: list[BaseException] = []
    reading = threading.Lock()

    async def talk() -> None:
        for _ in range(5):
            await layer.send(CHANNEL, {"type": "b"})
        with reading:
            name = await layer.new_channel()
            await layer.send(name, {"type": "a"})
            assert await soon(layer.receive(name)) == {"type": "a"}
            await layer.close_pools()

    def run() -> None:
        try:
            for _ in range(3):
                asyncio.run(talk())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert jobs.counts(CHANNEL).ready == 60


async def test_close_pools_closes_those_of_its_own_loop(make: Make) -> None:
    """channels_redis closes the connections of all loops, from the one that asks: they break under the others."""
    layer = make()
    name = await layer.new_channel()
    await layer.group_add("g", name)
    for n in range(3):  # with connections of this loop in use and at rest

        async def other(n: int = n) -> None:
            await layer.group_send("g", {"type": "a", "n": n})
            await layer.close_pools()

        await asyncio.to_thread(asyncio.run, other())
        assert (await soon(layer.receive(name)))["n"] == n


async def test_async_to_sync_from_threads(make: Make) -> None:
    layer = make()
    name = await layer.new_channel()
    await layer.group_add("g", name)

    def send() -> None:
        for _ in range(5):
            async_to_sync(layer.send)(CHANNEL, {"type": "a"})
            async_to_sync(layer.group_send)("g", {"type": "b"})

    await asyncio.gather(*(asyncio.to_thread(send) for _ in range(4)))
    assert [(await soon(layer.receive(name)))["type"] for _ in range(20)] == ["b"] * 20
    await await_for(lambda: jobs.acounts(CHANNEL), "the store answers")
    assert (await jobs.acounts(CHANNEL)).ready == 20
    assert get_layer() is layer
