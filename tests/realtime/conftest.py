"""Nothing may stay behind when the last socket of a test has left: no task, no hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.conftest import await_for

from .app import StreamConsumer
from .browser import hubs


@pytest.fixture(autouse=True)
async def _nothing_stays_behind() -> AsyncIterator[None]:
    StreamConsumer.may_go_on = asyncio.Event()
    StreamConsumer.running = []
    StreamConsumer.finished = []
    StreamConsumer.snapshots = 0
    StreamConsumer.banned = set()
    before = asyncio.all_tasks()
    yield
    await await_for(lambda: not _new_tasks(before), f"no task is left, found {_new_tasks(before)}", timeout=5)
    assert hubs() == 0


def _new_tasks(before: set[asyncio.Task[object]]) -> set[asyncio.Task[object]]:
    ours = {task for task in asyncio.all_tasks() - before if "realtime" in repr(task.get_coro())}
    return ours - {asyncio.current_task()}
