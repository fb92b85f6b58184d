"""Look at schedules and act on them: each function sync, and async with an ``a`` before its name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..exceptions import InvalidSchedule
from ..job import Job, State, from_ms
from ..layers import get_layer
from ..message import new_id
from ..operations import Steps, ask, awaitable, blocking
from ..store import Store
from ..store.calls import ScheduleState
from .declaration import Schedule
from .discovery import declared


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A schedule and how it stands, by the store's clock.

    ``line``: when its slots are; ``next``: the next one, None while it is paused; ``last``: the newest one that became
    a job, None before the first; ``last_job``, ``last_state``: that job's id and how it stands, None when it is no
    longer known; ``overdue``: a slot whose time has come and that no worker has looked at, None: there is none.
    """

    name: str
    channel: str
    line: str
    catch_up: str
    next: datetime | None
    last: datetime | None
    last_job: str | None
    last_state: State | None
    overdue: datetime | None
    paused: bool
    workers: int


@blocking
def statuses(*, using: str = "default") -> Steps[list[Status]]:
    """All schedules that the project declares, by name. Raises InvalidSchedule when two have the same name."""
    return _statuses(using)


astatuses = awaitable(statuses)


@blocking
def pause(name: str, *, using: str = "default") -> Steps[bool]:
    """Make no jobs of its slots until it is resumed; those of the pause are not made up for. Returns whether this call
    paused it. Raises InvalidSchedule: there is none of that name."""
    return ask(_store(using).pause_schedule(_declared(name, using).channel, name))


apause = awaitable(pause)


@blocking
def resume(name: str, *, using: str = "default") -> Steps[bool]:
    """Make jobs of its slots again, from now on. Returns whether this call resumed it. Raises InvalidSchedule."""
    return ask(_store(using).resume_schedule(_declared(name, using).channel, name))


aresume = awaitable(resume)


@blocking
def run(name: str, *, using: str = "default") -> Steps[str]:
    """Enqueue one job of it now, also while it is paused; its slots go on as they would. Returns the job's id.
    Raises InvalidSchedule."""
    return _run(name, using)


arun = awaitable(run)


def _run(name: str, using: str) -> Steps[str]:
    schedule = _declared(name, using)
    job = schedule.make(f"schedule:{name}:{new_id()}")
    yield from ask(get_layer(using).enqueue_call(schedule.channel, [job]))
    return job.id


def _statuses(using: str) -> Steps[list[Status]]:
    store = _store(using)
    found = []
    for schedule in declared(using=using).values():
        state = yield from ask(store.schedule(schedule.channel, schedule.name))
        workers = yield from ask(store.workers(schedule.channel))
        job = None
        if state.last is not None:
            job = yield from ask(store.get(schedule.channel, schedule.job(from_ms(state.last)).id))
        found.append(_status(schedule, state, job, len(workers)))
    return found


def _status(schedule: Schedule, state: ScheduleState, job: Job | None, workers: int) -> Status:
    after = max(time for time in (state.now, state.since, state.mark) if time is not None)
    return Status(
        name=schedule.name,
        channel=schedule.channel,
        line=schedule.timing.line,
        catch_up=schedule.timing.catch_up.value,
        next=None if state.paused is not None else schedule.timing.next(from_ms(after)),
        last=None if state.last is None else from_ms(state.last),
        last_job=None if job is None else job.id,
        last_state=None if job is None else job.state,
        overdue=_overdue(schedule, state),
        paused=state.paused is not None,
        workers=workers,
    )


def _overdue(schedule: Schedule, state: ScheduleState) -> datetime | None:
    decided = max(time for time in (state.since, state.mark, 0) if time is not None)
    if not decided or state.paused is not None:
        return None
    slot = schedule.timing.next(from_ms(decided))
    return slot if slot < from_ms(state.now) else None


def _declared(name: str, using: str) -> Schedule:
    schedules = declared(using=using)
    try:
        return schedules[name]
    except KeyError:
        raise InvalidSchedule(f"there is no schedule {name!r}; there are: {', '.join(schedules) or 'none'}") from None


def _store(using: str) -> Store:
    return get_layer(using).store
