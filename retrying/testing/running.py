"""Running jobs in a test: the worker of ``runworker``, in this process, until nothing is left to do."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..attempt import Attempt, End, Ending
from ..exceptions import InvalidJob
from ..job import State
from ..joblayer import JobLayer
from ..layers import get_layer
from ..management.routes import routes_for
from ..message import check_channel
from ..routes import Route, project_application
from ..store.calls import Call, Settled
from ..store.scripts import script
from ..worker import Worker

#: Seconds between two looks at the store.
LOOK = 0.005

OUTCOMES = {
    End.SUCCESS: "succeeded",
    End.RETRY: "retrying",
    End.SNOOZE: "snoozed",
    End.BURIAL: "dead",
    End.DISCARD: "cancelled",
    End.RELEASE: "released",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """An attempt that ended.

    ``outcome``: "succeeded", "retrying", "snoozed", "dead", "cancelled", "released" (given back uncharged), or
    "refused" (its lease had been given away). ``error``: text of what the handler raised; ``reason``: why dead or
    cancelled.
    """

    channel: str
    id: str
    type: str
    attempt: int
    outcome: str
    error: str = ""
    reason: str = ""


class StillBusy(AssertionError):
    """The channels did not become idle in time."""


def run_until_idle(*channels: str, application: Any = None, timeout: float = 10.0, using: str = "default") -> list[Ran]:
    """Run jobs of ``channels`` until none is ready, running or due now; those that are due later stay.

    ``application``: default is the project's ASGI_APPLICATION. Returns what ran, in the order in which it ended; a
    handler that fails raises nothing here. Raises StillBusy after ``timeout`` seconds (running jobs are given back),
    NoRoute, InvalidJob (no such channel name), RuntimeError (inside an event loop, or the worker itself failed).
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError("run_until_idle() was called from async code; use: await arun_until_idle(...)")
    # A loop of its own that doesn't become the thread's current one: the test runner has one there.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(arun_until_idle(*channels, application=application, timeout=timeout, using=using))


async def arun_until_idle(
    *channels: str, application: Any = None, timeout: float = 10.0, using: str = "default"
) -> list[Ran]:
    """``run_until_idle`` on the running event loop."""
    if not channels:
        raise InvalidJob("run_until_idle() takes the names of the channels to run, e.g. run_until_idle('reports')")
    for channel in channels:
        check_channel(channel)
    layer = get_layer(using)
    swept = {channel: (await _look(channel, layer)).swept for channel in channels}
    worker = _Worker(application or project_application(), dict.fromkeys(channels), layer, routes_for(channels, using))
    running = asyncio.create_task(worker.run())
    deadline = time.monotonic() + timeout
    try:
        while looks := [
            f"on {channel}: {look.words}"
            for channel in channels
            # What time alone moves on, a sweep does: there has to have been one.
            if (look := await _look(channel, layer)).busy or look.swept == swept[channel]
        ]:
            if running.done():
                break
            if time.monotonic() > deadline:
                raise StillBusy(f"after {timeout:g} s there still is, {'; '.join(looks)}. Ran so far: {worker.ran}")
            await asyncio.sleep(LOOK)
    except BaseException:
        worker.stop()  # and once more below: what still runs is given back at once
        raise
    finally:
        worker.stop()
        status = await running
    if looks and status:
        raise RuntimeError("the worker failed; its log says why")
    return worker.ran


class _Look(NamedTuple):
    ready: int
    running: int
    due: int
    swept: bytes

    @property
    def busy(self) -> bool:
        return bool(self.ready or self.running or self.due)

    @property
    def words(self) -> str:
        return f"{self.ready} ready, {self.running} running, {self.due} due"


async def _look(channel: str, layer: JobLayer) -> _Look:
    keys = layer.store.keys(channel).sent
    return await layer.store.arun(Call(script("look", "retrying.testing"), keys, (0, 0), lambda reply: _Look(*reply)))


class _Worker(Worker):
    """Notes what ran."""

    def __init__(self, application: Any, channels: dict[str, None], layer: JobLayer, routes: dict[str, Route]) -> None:
        super().__init__(application, channels, layer, routes=routes, on_end=self._note)
        self.ran: list[Ran] = []

    def _note(self, attempt: Attempt, ending: Ending, answer: Settled | tuple[Settled, int | None]) -> None:
        self.ran.append(self._ran(attempt, ending, answer))

    def _ran(self, attempt: Attempt, ending: Ending, answer: Settled | tuple[Settled, int | None]) -> Ran:
        settled, due = answer if isinstance(answer, tuple) else (answer, 0)
        outcome, reason = OUTCOMES[ending.end], ending.reason
        if settled is Settled.LOST:
            outcome = "refused"
        elif due is None:  # past its deadline, or cancelled meanwhile: not tried again
            store = self.layer.store
            job = store.run(store.get(attempt.channel, attempt.lease.job_id))
            outcome, reason = (job.state, job.reason) if job else (State.DEAD, reason)
        return Ran(
            channel=attempt.channel,
            id=attempt.lease.job_id,
            type=attempt.message_type,
            attempt=attempt.number,
            outcome=str(outcome),
            error=ending.error,
            reason=reason,
        )
