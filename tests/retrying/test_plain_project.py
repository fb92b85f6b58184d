"""A plain Channels project becomes durable by two settings lines; before, a kill loses most of its messages."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Effects, wait_for
from tests.processes import ROOT, RunWorker

MESSAGES = 100
KILLED_AFTER = 30

SEND = """
import sys, django
django.setup()
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
layer = get_channel_layer()
for n in range(int(sys.argv[2])):
    async_to_sync(layer.send)(sys.argv[1], {"type": "work.do", "n": n, "seconds": 0.01})
"""


def send(settings: str, channel: str, redis_url: str) -> None:
    """Send the messages from a process of the project's own."""
    env = {"DJANGO_SETTINGS_MODULE": settings, "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT), "EFFECTS": "unused"}
    subprocess.run([sys.executable, "-c", SEND, channel, str(MESSAGES)], env=env, cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize("channel", ["work", "sync-work"])
def test_durable_project_loses_nothing_when_its_worker_is_killed(
    redis_url: str, effects: Effects, tmp_path: Path, channel: str
) -> None:
    settings = "tests.plain.durable_settings"
    env = {"REDIS_URL": redis_url, "EFFECTS": str(effects.path)}
    send(settings, channel, redis_url)
    with RunWorker(settings, channel, log=tmp_path / "first.log", env=env) as first:
        wait_for(lambda: len(effects.lines()) >= KILLED_AFTER, "30 messages done")
        first.kill()
    before = len(effects.lines())
    assert KILLED_AFTER <= before < MESSAGES
    with RunWorker(settings, channel, log=tmp_path / "second.log", env=env):
        wait_for(lambda: set(effects.numbers()) == set(range(MESSAGES)), "all 100 messages done")
    # One at a time: at most the message in hand at the kill ran twice.
    assert len(effects.lines()) <= MESSAGES + 1


def test_plain_project_loses_most_of_them(redis_url: str, effects: Effects, tmp_path: Path) -> None:
    settings = "tests.plain.settings"
    env = {"REDIS_URL": redis_url, "EFFECTS": str(effects.path)}
    send(settings, "work", redis_url)
    with RunWorker(settings, "work", log=tmp_path / "first.log", env=env) as first:
        wait_for(lambda: len(effects.lines()) >= KILLED_AFTER, "30 messages done")
        first.kill()
    done = len(effects.lines())
    assert done < MESSAGES
    with RunWorker(settings, "work", log=tmp_path / "second.log", env=env) as second:
        # A message sent after the rest proves that the second worker has read all that there was.
        send_one = SEND.replace("range(int(sys.argv[2]))", "[1000]")
        subprocess.run([sys.executable, "-c", send_one, "work"], env={**second.env}, cwd=ROOT, check=True, timeout=60)
        wait_for(lambda: 1000 in effects.numbers(), "the message sent last is done")
    assert MESSAGES - len(set(effects.numbers()) - {1000}) > MESSAGES / 2, "plain Channels lost fewer than half"


def test_messages_that_plain_processes_left_behind_are_adopted(
    redis_url: str, effects: Effects, tmp_path: Path
) -> None:
    send("tests.plain.settings", "work", redis_url)
    env = {"REDIS_URL": redis_url, "EFFECTS": str(effects.path)}
    with RunWorker("tests.plain.durable_settings", "work", log=tmp_path / "worker.log", env=env):
        wait_for(lambda: len(effects.lines()) == MESSAGES, "all 100 messages done")
    assert sorted(effects.numbers()) == list(range(MESSAGES))


async def test_idle_layer_outlives_redis_py_socket_timeout(redis_url: str) -> None:
    """With redis-py >= 8 a plain layer's idle receive raises after 5 s."""
    from channels.layers import get_channel_layer

    layer = get_channel_layer()
    name = await layer.new_channel()
    receiving = asyncio.create_task(layer.receive(name))
    done, _ = await asyncio.wait([receiving], timeout=6)
    assert not done
    await layer.send(name, {"type": "late"})
    assert (await asyncio.wait_for(receiving, 5))["type"] == "late"
    await layer.close_pools()
