"""Whatever a handler raises, its job ends where it can be read, and its worker goes on to the next."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retrying import Bury, Discard, RetryLater, Snooze, State, aenqueue, current_job, jobs
from retrying.attempt import MAX_ERROR
from retrying.consumers import BackgroundConsumer
from retrying.heartbeat import Heartbeat
from tests.retrying.running import CHANNEL, reached, running

MESSAGE = {"type": "work.do"}
#: A file name that isn't UTF-8, as Python gives it.
NAME = os.fsdecode(b"a\xffb")


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Busy(Exception):
    def __init__(self, retry_after: object) -> None:
        self.retry_after = retry_after


#: What is raised, and the state that the job is in then.
RAISED: dict[str, tuple[Callable[[], BaseException], State]] = {
    "surrogate": (lambda: ValueError(NAME), State.SCHEDULED),
    "bury-surrogate": (lambda: Bury(NAME), State.DEAD),
    "bury-none": (lambda: Bury(None), State.DEAD),  # type: ignore[arg-type]
    "bury-exception": (lambda: Bury(ValueError("x")), State.DEAD),  # type: ignore[arg-type]
    "bury-unprintable": (lambda: Bury(Unprintable()), State.SCHEDULED),  # type: ignore[arg-type]
    "bury-long": (lambda: Bury("x" * 5_000_000), State.DEAD),
    "discard-surrogate": (lambda: Discard(NAME), State.CANCELLED),
    "discard-exception": (lambda: Discard(ValueError("x")), State.CANCELLED),  # type: ignore[arg-type]
    "snooze-1e18": (lambda: Snooze(1e18), State.SCHEDULED),
    "snooze-1e300": (lambda: Snooze(1e300), State.SCHEDULED),
    "snooze-10**400": (lambda: Snooze(10**400), State.SCHEDULED),
    "later-1e300": (lambda: RetryLater(1e300), State.SCHEDULED),
    "retry-after-1e15": (lambda: Busy(1e15), State.SCHEDULED),
    "retry-after-1.7e308": (lambda: Busy(1.7e308), State.SCHEDULED),
    "retry-after-text": (lambda: Busy("soon"), State.SCHEDULED),
}


class Raises(BackgroundConsumer):
    """Raises what its message names."""

    async def work_do(self, message: dict[str, Any]) -> None:
        if "raises" in message:
            make, _ = RAISED[message["raises"]]
            raise make()


async def test_nothing_that_a_handler_raises_ends_the_worker() -> None:
    for name in RAISED:
        await aenqueue(CHANNEL, {**MESSAGE, "raises": name}, job_id=name.replace("*", "x"))
    async with running(Raises, concurrency=4):
        for name, (_, state) in RAISED.items():
            job = await reached(name.replace("*", "x"), state)
            assert len(job.reason or "") < 2 * MAX_ERROR
        await aenqueue(CHANNEL, MESSAGE, job_id="next")
        await reached("next", State.SUCCEEDED)
    dead = await jobs.aget(CHANNEL, "bury-surrogate")
    assert dead is not None
    assert dead.reason == r"a\udcffb"


@pytest.mark.parametrize("say", ["aemit", "aprogress"])
async def test_a_file_name_that_is_not_utf_8_can_be_told(say: str) -> None:
    class Says(BackgroundConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            if say == "aemit":
                await current_job().aemit({"file": NAME})
            else:
                await current_job().aprogress(0.5, NAME)

    await aenqueue(CHANNEL, MESSAGE, job_id="a", topic="t")
    async with running(Says):
        await reached("a", State.SUCCEEDED)


async def test_a_reason_keeps_no_secret() -> None:
    class Tells(BackgroundConsumer):
        async def work_do(self, message: dict[str, Any]) -> None:
            raise Bury("refused for password=hunter2")

    await aenqueue(CHANNEL, MESSAGE, job_id="a")
    async with running(Tells):
        job = await reached("a", State.DEAD)
    assert "hunter2" not in (job.reason or "")


def test_a_heartbeat_that_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    beat = Heartbeat(tmp_path / "gone" / "beat")
    for _ in range(3):
        beat.beat(ready=True)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    (tmp_path / "gone").mkdir()
    beat.beat(ready=True)
    assert (tmp_path / "gone" / "beat.ready").exists()
