"""What every worker does beside its jobs: sweeping, and taking over what plain channels_redis left."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from channels.consumer import AsyncConsumer
from channels.layers import channel_layers

from project.development.valkey import Valkey
from retrying import State, aenqueue
from retrying.layers import get_layer
from tests.conftest import await_for
from tests.retrying.running import CHANNEL, reached, running


class Work(AsyncConsumer):
    async def work_do(self, message: dict[str, Any]) -> None:
        pass


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
