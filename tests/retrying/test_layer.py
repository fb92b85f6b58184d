"""The channel layer: what is inherited from channels_redis still holds, and general channels are jobs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from channels.exceptions import ChannelFull
from channels_redis.core import RedisChannelLayer

from project.development.valkey import Valkey
from retrying import State, jobs
from retrying.layers import RetryingChannelLayer, get_layer
from retrying.store.calls import NewJob
from tests.conftest import await_for, wait_for

CHANNEL = "work"
Make = Callable[..., RetryingChannelLayer]


@pytest.fixture
async def make(redis_url: str) -> AsyncIterator[Make]:
    """Makes layers on the shared server, and closes them."""
    made: list[RetryingChannelLayer] = []

    def layer(**config: Any) -> RetryingChannelLayer:
        made.append(RetryingChannelLayer(**{"hosts": [redis_url], **config}))
        return made[-1]

    yield layer
    for item in made:
        await item.close_pools()
        item.store.connections.close()


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


async def nothing(receiving: Awaitable[Any]) -> bool:
    """Whether nothing comes, as far as one can tell in a moment."""
    try:
        await asyncio.wait_for(receiving, 0.3)
    except TimeoutError:
        return True
    return False


# Specific channels and groups, as inherited


async def test_specific_channel(make: Make) -> None:
    layer = make()
    name = await layer.new_channel()
    assert "!" in name
    message = {"type": "a", "raw": b"\x00\xff", "n": [1, {"b": None}]}
    await layer.send(name, message)
    assert await layer.receive(name) == message
    assert message == {"type": "a", "raw": b"\x00\xff", "n": [1, {"b": None}]}, "what was sent is left alone"


async def test_specific_channels_are_told_apart_and_keep_their_order(make: Make) -> None:
    layer = make()
    first, second = await layer.new_channel(), await layer.new_channel("mine")
    assert second.startswith("mine.")
    for n in range(5):
        await layer.send(first, {"type": "a", "n": n})
        await layer.send(second, {"type": "b", "n": n})
    assert [(await layer.receive(second))["n"] for _ in range(5)] == list(range(5))
    assert [(await layer.receive(first))["n"] for _ in range(5)] == list(range(5))


async def test_waiting_receiver_gets_the_message(make: Make) -> None:
    layer = make()
    name = await layer.new_channel()
    receiving = asyncio.create_task(layer.receive(name))
    await asyncio.sleep(0)
    await layer.send(name, {"type": "a"})
    assert await asyncio.wait_for(receiving, 5) == {"type": "a"}


async def test_cancelled_receiver_takes_no_message_with_it(make: Make) -> None:
    layer = make()
    name = await layer.new_channel()
    for n in range(20):
        receiving = asyncio.create_task(layer.receive(name))
        await asyncio.sleep(0.001 * (n % 4))
        await layer.send(name, {"type": "a", "n": n})
        for _ in range(n):
            await asyncio.sleep(0)
        if not receiving.cancel():
            assert receiving.result()["n"] == n
            continue
        try:
            message = await receiving
        except asyncio.CancelledError:
            message = await asyncio.wait_for(layer.receive(name), 5)
        assert message["n"] == n


async def test_capacity_of_specific_channels(make: Make) -> None:
    layer = make(capacity=3)
    name = await layer.new_channel()
    for _ in range(3):
        await layer.send(name, {"type": "a"})
    with pytest.raises(ChannelFull):
        await layer.send(name, {"type": "a"})


async def test_messages_of_specific_channels_expire(make: Make, server: redis.Redis) -> None:
    layer = make(expiry=1)
    name = await layer.new_channel()
    await layer.send(name, {"type": "a"})
    await await_for(lambda: not server.keys("asgi*"), "the message is gone")


async def test_groups(make: Make) -> None:
    here, there = make(), make()
    names = [await here.new_channel(), await there.new_channel(), await here.new_channel()]
    for name in names[:2]:
        await here.group_add("g", name)
    await there.group_send("g", {"type": "a"})
    assert (await here.receive(names[0]))["type"] == "a"
    assert (await there.receive(names[1]))["type"] == "a"
    await here.group_discard("g", names[0])
    await here.group_send("g", {"type": "b"})
    assert (await there.receive(names[1]))["type"] == "b"
    assert await nothing(here.receive(names[0]))
    await here.group_send("nobody", {"type": "c"})


async def test_group_with_a_full_member_reaches_the_others(make: Make) -> None:
    layer = make(channel_capacity={"full*": 1})
    full, free = await layer.new_channel("full"), await layer.new_channel()
    for name in (full, free):
        await layer.group_add("g", name)
    for n in range(3):
        await layer.group_send("g", {"type": "a", "n": n})
    assert [(await layer.receive(free))["n"] for _ in range(3)] == [0, 1, 2]
    assert (await layer.receive(full))["n"] == 0
    assert await nothing(layer.receive(full))


async def test_general_channel_in_a_group(make: Make) -> None:
    layer = make()
    name = await layer.new_channel()
    for member in (CHANNEL, name):
        await layer.group_add("g", member)
    await layer.group_send("g", {"type": "a"})
    assert await layer.receive(CHANNEL) == {"type": "a"}
    assert await layer.receive(name) == {"type": "a"}


@pytest.mark.parametrize("name", ["", "käse", "a b", "x" * 100, "a!b!c", 5])
async def test_bad_names(make: Make, name: Any) -> None:
    layer = make()
    with pytest.raises(TypeError):
        await layer.send(name, {"type": "a"})
    with pytest.raises(TypeError):
        await layer.group_add(name, "work")


async def test_specific_channel_of_another_process(make: Make) -> None:
    with pytest.raises(ValueError, match="belongs to another process"):
        await make().receive(await make().new_channel())


async def test_flush_keeps_jobs(make: Make, server: redis.Redis) -> None:
    layer = make()
    name = await layer.new_channel()
    await layer.group_add("g", name)
    await layer.send(name, {"type": "a"})
    await layer.send(CHANNEL, {"type": "b"})
    await layer.flush()
    assert server.keys("asgi*") == []
    assert await layer.receive(CHANNEL) == {"type": "b"}


async def test_receive_survives_a_restart_of_the_server(make: Make, tmp_path: Path) -> None:
    with Valkey(tmp_path) as valkey:
        layer = make(hosts=[valkey.url])
        name = await layer.new_channel()
        await layer.send(name, {"type": "before"})
        assert (await layer.receive(name))["type"] == "before"
        receiving = asyncio.create_task(layer.receive(name))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(valkey.kill)
        await asyncio.to_thread(valkey.start)
        assert not receiving.done(), "an outage is waited out"

        async def sent() -> bool:
            try:
                await layer.send(name, {"type": "after"})
            except (OSError, redis.RedisError):
                return False
            return True

        await await_for(sent, "the server takes messages again")
        assert (await asyncio.wait_for(receiving, 15))["type"] == "after"
        await layer.close_pools()


# General channels


async def test_general_channel_outlives_expiry_and_capacity_by_default(make: Make, server: redis.Redis) -> None:
    layer = make()
    for n in range(150):  # plain Channels: ChannelFull at 100
        await layer.send(CHANNEL, {"type": "a", "n": n, "raw": b"\xff"})
    assert [(await layer.receive(CHANNEL))["n"] for _ in range(150)] == list(range(150))
    assert jobs.counts(CHANNEL).ready == 0


async def test_capacity_given_holds_for_general_channels(make: Make) -> None:
    layer = make(capacity=2, channel_capacity={"big*": 3})
    for channel, limit in ((CHANNEL, 2), ("big-work", 3)):
        for _ in range(limit):
            await layer.send(channel, {"type": "a"})
        with pytest.raises(ChannelFull):
            await layer.send(channel, {"type": "a"})
        assert jobs.counts(channel).ready == limit
    await layer.receive(CHANNEL)
    await layer.send(CHANNEL, {"type": "a"})


async def test_expiry_given_limits_the_wait_for_the_first_attempt(make: Make) -> None:
    layer = make(expiry=1)
    await layer.send(CHANNEL, {"type": "a"})
    (id_,) = [key.rsplit(b":", 1)[1].decode() async for key in layer.store.connections.async_().scan_iter("*job:*")]
    started = time.monotonic()
    assert await nothing_after(layer, started + 1.05)
    assert jobs.get(CHANNEL, id_).state is State.EXPIRED  # type: ignore[union-attr]


async def nothing_after(layer: RetryingChannelLayer, moment: float) -> bool:
    """Whether nothing is there at that moment."""
    await await_for(lambda: time.monotonic() > moment, "the moment has come")
    return await nothing(layer.receive(CHANNEL))


async def test_receive_waits_for_a_job_and_settles_it(make: Make) -> None:
    layer = make()
    receiving = asyncio.create_task(layer.receive(CHANNEL))
    await asyncio.sleep(0.05)
    await make().send(CHANNEL, {"type": "a"})
    assert await asyncio.wait_for(receiving, 5) == {"type": "a"}
    counts = jobs.counts(CHANNEL)
    assert (counts.ready, counts.running, counts.dead) == (0, 0, 0)


@pytest.mark.usefixtures("_short_lease")
async def test_receive_cancelled_in_the_middle_is_made_good_by_the_next_one(make: Make) -> None:
    """Cancelled between claim and ack, it leaves a job leased to nobody; where no worker runs, nobody else sweeps."""
    layer = make()
    await layer.send(CHANNEL, {"type": "a"})
    claim = layer.store.claim(CHANNEL, "gone", "T", wanted=1)
    assert len((await layer.arun(claim)).jobs) == 1
    assert await asyncio.wait_for(make().receive(CHANNEL), 20) == {"type": "a"}
    assert jobs.counts(CHANNEL).running == 0


async def test_receive_keeps_the_successes_that_the_channel_keeps(make: Make, settings: Any) -> None:
    settings.RETRYING = {**settings.RETRYING, "KEEP_SUCCEEDED": 5}
    layer = make()
    await layer.send(CHANNEL, {"type": "a"})
    await layer.receive(CHANNEL)
    assert jobs.counts(CHANNEL).finished == 1


async def test_receive_of_what_cannot_be_decoded_keeps_it_as_a_dead_letter(make: Make) -> None:
    layer = make()
    await layer.arun(layer.store.enqueue(CHANNEL, [NewJob(id="bad", payload=b"\xc1")]))
    await layer.send(CHANNEL, {"type": "good"})
    assert await layer.receive(CHANNEL) == {"type": "good"}
    job = jobs.get(CHANNEL, "bad")
    assert job is not None
    assert job.state is State.DEAD
    assert "can't be decoded" in job.reason


async def test_adopts_what_plain_channels_left_behind(make: Make, redis_url: str) -> None:
    plain = RedisChannelLayer(hosts=[redis_url], capacity=1000)
    big = {"type": "big", "text": "x" * 2**21}  # more than MAX_MESSAGE_BYTES: it was taken then
    await plain.send(CHANNEL, big)
    await plain.send(CHANNEL, {"type": "a"})
    await plain.close_pools()
    layer = make()
    assert await layer.adopt(CHANNEL) == 2
    assert await layer.adopt(CHANNEL) == 0
    received = [await layer.receive(CHANNEL) for _ in range(2)]
    assert sorted(message["type"] for message in received) == ["a", "big"]


# Encryption


async def test_encrypted_messages(make: Make, server: redis.Redis) -> None:
    layer = make(symmetric_encryption_keys=["secret one"])
    name = await layer.new_channel()
    for channel in (CHANNEL, name):
        await layer.send(channel, {"type": "a", "word": "plaintext"})
    dumped = b"".join(server.dump(key) or b"" for key in server.scan_iter())
    assert b"plaintext" not in dumped
    for channel in (CHANNEL, name):
        assert (await layer.receive(channel))["word"] == "plaintext"


async def test_keys_are_rotated(make: Make) -> None:
    old = make(symmetric_encryption_keys=["old"])
    for n in range(2):
        await old.send(CHANNEL, {"type": "a", "n": n})
    new = make(symmetric_encryption_keys=["new", "old"])
    assert (await new.receive(CHANNEL))["n"] == 0
    await new.send(CHANNEL, {"type": "b", "n": 2})
    assert (await new.receive(CHANNEL))["n"] == 1
    assert (await make(symmetric_encryption_keys=["new"]).receive(CHANNEL))["n"] == 2


async def test_a_job_older_than_the_layers_expiry_still_decrypts(make: Make) -> None:
    layer = make(symmetric_encryption_keys=["secret"])
    plain = make()
    token = layer._job_serializer.crypter
    hours_ago = int(time.time()) - 100 * 3600
    (fernet,) = token._fernets
    prefix = b"\0" * layer._job_serializer.random_prefix_length
    payload = prefix + fernet.encrypt_at_time(plain.encode({"type": "a"}), hours_ago)
    assert layer.decode(payload) == {"type": "a"}


async def test_wrong_key_is_a_dead_letter_not_a_loss(make: Make) -> None:
    await make(symmetric_encryption_keys=["one"]).send(CHANNEL, {"type": "a"})
    other = make(symmetric_encryption_keys=["two"])
    assert await nothing(other.receive(CHANNEL))
    assert jobs.counts(CHANNEL).dead == 1


async def test_json_serializer(make: Make) -> None:
    layer = make(serializer_format="json")
    name = await layer.new_channel()
    for channel in (CHANNEL, name):
        await layer.send(channel, {"type": "a", "x": [1, None, "ü"]})
        assert await layer.receive(channel) == {"type": "a", "x": [1, None, "ü"]}


# Loops and threads


def test_one_layer_in_several_event_loops(redis_url: str, server: redis.Redis) -> None:
    layer = RetryingChannelLayer(hosts=[redis_url])
    before = {client["id"] for client in server.client_list()}
    errors: list[BaseException] = []

    async def talk() -> None:
        for _ in range(5):
            name = await layer.new_channel()
            await layer.group_add("g", name)
            await layer.group_send("g", {"type": "a"})
            assert (await asyncio.wait_for(layer.receive(name), 5))["type"] == "a"
            await layer.group_discard("g", name)

    async def work() -> None:
        for _ in range(5):
            await layer.send(CHANNEL, {"type": "b"})

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):  # one after the other: channels_redis reads specific channels in one loop at a time
        asyncio.run(talk())
    for thread in threads:
        thread.join()
    assert errors == []
    assert jobs.counts(CHANNEL).ready == 20
    assert layer._inboxes == {}, "what belonged to the closed loops is forgotten"
    for used in (layer, get_layer()):
        used.store.connections.close()
    wait_for(lambda: len({c["id"] for c in server.client_list()} - before) == 0, "every connection is closed", 5)


async def test_a_sync_view_sends_from_its_own_thread(make: Make, server: redis.Redis) -> None:
    layer = make(capacity=2)
    assert iscoroutinefunction(layer.send), "for who asks before he calls it"
    await layer.send(CHANNEL, {"type": "a"})
    blocked = threading.Event()

    def view() -> None:
        # The loop is busy: what needed it would not get through.
        loop.call_soon_threadsafe(blocked.wait, 30)
        sending = layer.send(CHANNEL, {"type": "b"})
        wait_for(lambda: jobs.counts(CHANNEL).ready == 2, "it is stored before it is awaited")
        full = layer.send(CHANNEL, {"type": "c"})
        blocked.set()
        async_to_sync(_awaited)(sending)
        with pytest.raises(ChannelFull):
            async_to_sync(_awaited)(full)
        with pytest.raises(ChannelFull):
            async_to_sync(layer.send)(CHANNEL, {"type": "c"})

    loop = asyncio.get_running_loop()
    await sync_to_async(view)()


async def _awaited(awaitable: Awaitable[None]) -> None:
    await awaitable


def test_async_to_sync_keeps_one_connection_and_leaves_none(redis_url: str, server: redis.Redis) -> None:
    layer = RetryingChannelLayer(hosts=[redis_url])

    def ids() -> set[str]:
        return {client["id"] for client in server.client_list()}

    before, ever = ids(), server.info("stats")["total_connections_received"]
    for n in range(50):
        async_to_sync(layer.send)(CHANNEL, {"type": "a", "n": n})
    assert server.info("stats")["total_connections_received"] - ever == 1
    threads = [
        threading.Thread(target=lambda: [async_to_sync(layer.send)(CHANNEL, {"type": "a"}) for _ in range(20)])
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert jobs.counts(CHANNEL).ready == 150
    assert server.info("stats")["total_connections_received"] - ever <= 5 + 1, "at most one for each thread at once"
    for used in (layer, get_layer()):
        used.store.connections.close()
    wait_for(lambda: ids() <= before, "every connection is closed", 5)


async def test_a_bare_receive_ends_when_it_is_cancelled_just_as_a_reply_comes() -> None:
    """redis-py swallows such a cancellation on Python 3.11, and the loop in receive() would go on for ever."""
    layer = get_layer()
    bell = layer.store.keys(CHANNEL).bell
    client = layer.store.connections.async_()
    stop = asyncio.Event()

    async def ring() -> None:
        while not stop.is_set():
            await client.lpush(bell, "1")

    ringing = asyncio.create_task(ring())
    for n in range(200):
        receiving = asyncio.create_task(layer.receive(CHANNEL))
        await asyncio.sleep(0.0001 * (n % 40))
        receiving.cancel()
        ended, _ = await asyncio.wait([receiving], timeout=5)
        assert ended, f"cancellation {n} was lost"
    stop.set()
    await ringing
