"""What every worker does beside its jobs: sweeping, and taking over what plain channels_redis left."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from channels.consumer import AsyncConsumer
from channels.layers import channel_layers

from project.development.valkey import Valkey
from retrying import State, aenqueue
from retrying.conf import Settings
from retrying.consumers import BackgroundConsumer
from retrying.layers import get_layer
from tests.conftest import await_for
from tests.retrying.running import CHANNEL, reached, running

#: Commands a second with which channels_redis waits for messages to the specific channels of a process.
CHANNELS_REDIS = 0.8


class Work(AsyncConsumer):
    async def work_do(self, message: dict[str, Any]) -> None:
        pass


class Background(BackgroundConsumer):
    async def work_do(self, message: dict[str, Any]) -> None:
        pass


def commands(server: redis.Redis) -> dict[str, int]:
    """By name, how many the server ran so far, those inside scripts too."""
    stats = server.info("commandstats")
    return {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items() if name != "cmdstat_info"}


@pytest.mark.usefixtures("_short_lease")
async def test_a_layer_that_is_away_does_not_hold_up_the_jobs(
    tmp_path: Path, redis_url: str, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The messages of plain channels_redis are looked for on the layer's server, which may be another one: stopped, it
    used to keep the sweeper waiting for the socket's 15 s again and again, and no job was rescued meanwhile."""
    with Valkey(tmp_path) as server:
        settings.CHANNEL_LAYERS = {
            "default": {
                "BACKEND": "retrying.layers.RetryingChannelLayer",
                "CONFIG": {"hosts": [server.url], "store": redis_url},
            }
        }
        channel_layers.backends.clear()
        await aenqueue(CHANNEL, {"type": "work.do"}, job_id="a")
        store = get_layer().store
        assert (await store.arun(store.claim(CHANNEL, "gone", "T", wanted=1))).jobs
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with caplog.at_level(logging.WARNING, "retrying.worker"):
                async with running(Work):
                    await reached("a", State.SUCCEEDED)
                    await await_for(
                        lambda: "no look at messages of plain channels_redis" in caplog.text, "the trouble is told"
                    )
            assert caplog.text.count("no look at messages") == 1, "and told once"
        finally:
            os.kill(server.pid, signal.SIGCONT)


async def test_an_idle_worker_sends_fewer_than_five_commands_a_second(redis_url: str, settings: Any) -> None:
    settings.RETRYING = {"POLL_SECONDS": 0.1, "SWEEP_SECONDS": 3600}
    layer, defaults = get_layer(), Settings()
    with redis.Redis.from_url(redis_url) as server:
        first = commands(server).get("exists", 0)
        async with running(Background):
            await await_for(lambda: commands(server).get("exists", 0) > first + 2, "it has swept and looks")
            before = commands(server)
            await await_for(lambda: commands(server)["blpop"] >= before["blpop"] + 5, "it waits for the bell again")
            after = commands(server)
        assert after["evalsha"] == before["evalsha"], "it makes no claim that finds nothing"
        looks = after["blpop"] - before["blpop"]
        assert sum(after.values()) - sum(before.values()) <= 2 * looks + 1

        for _ in range(2):  # the first time it connects, and is new
            before = commands(server)
            await layer.adopt(CHANNEL)
            await layer.store.arun(layer.store.sweep(CHANNEL, "another", facts="{}"))
            after = commands(server)
        swept = sum(after.values()) - sum(before.values())
        await layer.close_pools()
    assert 2 / defaults.POLL_SECONDS + swept / (0.8 * defaults.SWEEP_SECONDS) + CHANNELS_REDIS < 5


@pytest.mark.alone
async def test_an_idle_worker_begins_a_delayed_job_when_it_is_due(settings: Any) -> None:
    """Nothing rings for it: the look of each poll finds that one is scheduled, and the claim that follows, when."""
    settings.RETRYING = {"POLL_SECONDS": 0.2, "SWEEP_SECONDS": 3600}
    async with running(Background):
        await aenqueue(CHANNEL, {"type": "work.do"}, job_id="first")
        await reached("first", State.SUCCEEDED)
        await aenqueue(CHANNEL, {"type": "work.do"}, job_id="late", delay=0.5)
        began = time.monotonic()
        await reached("late", State.SUCCEEDED)
    assert 0.4 < time.monotonic() - began < 1.5
