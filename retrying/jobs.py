"""Look at jobs and act on them: each function sync, and async with an ``a`` before its name.

All take ``using``, the alias of the channel layer, and raise StoreUnavailable. Lists and bulk actions read the sorted
sets of one channel a bounded piece at a time; nothing here scans the server's keys.
"""

from __future__ import annotations

import math
import secrets
from datetime import timedelta
from typing import Any

from channels.routing import ChannelNameRouter, ProtocolTypeRouter

from .conf import get_settings, task_channels
from .find import parse_cursor
from .job import Counts, Job, State, WorkerInfo
from .layers import get_layer
from .operations import Steps, ask, awaitable, blocking
from .routes import project_application
from .store import Store
from .store.calls import Page, Purged, Redriven

__all__ = [
    # Looking
    "Counts",
    "Job",
    "Page",
    "State",
    "WorkerInfo",
    "achannels",
    "acounts",
    "aget",
    "ais_paused",
    "apaused_seconds",
    "asearch",
    "aworkers",
    "channels",
    "counts",
    "get",
    "is_paused",
    "paused_seconds",
    "search",
    "workers",
    # One job
    "acancel",
    "apurge",
    "aredrive",
    "aretry_now",
    "cancel",
    "purge",
    "redrive",
    "retry_now",
    # A whole channel
    "apause",
    "apurge_all",
    "aredrive_all",
    "aresume",
    "pause",
    "purge_all",
    "redrive_all",
    "resume",
    # A worker
    "aquiet_worker",
    "astop_worker",
    "awake_worker",
    "quiet_worker",
    "stop_worker",
    "wake_worker",
]

CANCELLED_ON_REQUEST = "cancelled on request"
#: Most jobs in one page of ``search``.
MAX_PAGE = 1000
#: States that are kept after a job's end, and so can be purged.
ENDED = (State.DEAD, State.CANCELLED, State.EXPIRED, State.SUCCEEDED)


def _store(using: str) -> Store:
    return get_layer(using).store


# Looking


@blocking
def get(channel: str, job_id: str, *, using: str = "default") -> Steps[Job | None]:
    """The job, or None when it is unknown or was purged. A success is known for ``DEDUP_SECONDS``, by state only."""
    return ask(_store(using).get(channel, job_id))


aget = awaitable(get)


@blocking
def search(
    channel: str, state: State | str, *, limit: int = 50, cursor: str | None = None, using: str = "default"
) -> Steps[Page]:
    """Jobs in ``state``, those that came last first: the latest end, start or due time, the last in line.

    Returns a Page: ``jobs``, at most ``limit`` (1..1000), and ``cursor``, to be passed for the next page; None at the
    end. A page may hold fewer jobs and still have a next one. Succeeded jobs are listed while ``KEEP_SUCCEEDED`` keeps
    them. Raises ValueError: no such state, limit out of range, a cursor that isn't one.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"limit takes a number from 1 to {MAX_PAGE}, got {limit!r}")
    return ask(_store(using).search(channel, State(state), limit, None if cursor is None else parse_cursor(cursor)))


asearch = awaitable(search)


@blocking
def counts(channel: str, *, using: str = "default") -> Steps[Counts]:
    """Jobs by state, and for how long one has been waiting."""
    return ask(_store(using).counts(channel))


acounts = awaitable(counts)


@blocking
def workers(channel: str, *, using: str = "default") -> Steps[list[WorkerInfo]]:
    """Workers that consume the channel, heard of within three sweeps."""
    return ask(_store(using).workers(channel))


aworkers = awaitable(workers)


@blocking
def paused_seconds(channel: str, *, using: str = "default") -> Steps[float | None]:
    """For how long the channel has been paused; None when it isn't."""
    return ask(_store(using).paused(channel))


apaused_seconds = awaitable(paused_seconds)


@blocking
def is_paused(channel: str, *, using: str = "default") -> Steps[bool]:
    """Whether the channel is paused."""
    return (yield from ask(_store(using).paused(channel))) is not None


ais_paused = awaitable(is_paused)


@blocking
def channels(*, using: str = "default") -> Steps[list[str]]:
    """Channels that the project names, in ``RETRYING["CHANNELS"]``, ``TASKS`` and ``ROUTES`` and in the routers of its
    ASGI application, and those that somebody sent to or consumed (the 1000 heard of last).

    Raises what loading ``ASGI_APPLICATION`` raises.
    """
    named = named_channels()
    return sorted(named.union((yield from ask(_store(using).channels()))))


achannels = awaitable(channels)


def named_channels() -> set[str]:
    """Those of ``channels()`` that the project names. Asks no server."""
    return {*get_settings().CHANNELS, *task_channels(), *routed(project_application())}


def routed(application: Any) -> list[str]:
    """Names of the channels that an ASGI application's routers have applications for."""
    while application is not None:
        if isinstance(application, ChannelNameRouter):
            return list(application.application_mapping)
        if isinstance(application, ProtocolTypeRouter):
            application = application.application_mapping.get("channel")
        else:
            application = getattr(application, "inner", None)
    return []


# One job


@blocking
def cancel(
    channel: str, job_id: str, reason: str = CANCELLED_ON_REQUEST, *, using: str = "default"
) -> Steps[State | None]:
    """Cancel a job. Returns its state now: CANCELLED, or RUNNING when its handler was asked to stop; None: unknown."""
    return ask(_store(using).cancel(channel, job_id, reason))


acancel = awaitable(cancel)


@blocking
def retry_now(channel: str, job_id: str, *, using: str = "default") -> Steps[State | None]:
    """Make a scheduled job ready at once. Returns its state now (other states are left alone); None: unknown."""
    return ask(_store(using).retry_now(channel, job_id))


aretry_now = awaitable(retry_now)


@blocking
def redrive(channel: str, job_id: str, *, using: str = "default") -> Steps[State | None]:
    """Make a dead letter ready again, its failures and rescues counted anew. Returns its state now; None: unknown.

    Raises NotUnique when another job holds its unique name meanwhile: then it stays dead.
    """
    return ask(_store(using).redrive(channel, job_id))


aredrive = awaitable(redrive)


@blocking
def purge(channel: str, job_id: str, *, using: str = "default") -> Steps[State | None]:
    """Forget a job that has ended, dead letters too; its id may be used again at once.

    Returns None when it is gone (or never was), else the state that keeps it: cancel it first.
    """
    return ask(_store(using).purge(channel, job_id))


apurge = awaitable(purge)


# A whole channel


@blocking
def redrive_all(
    channel: str, *, limit: int | None = None, rate: float | None = None, using: str = "default"
) -> Steps[int]:
    """Make dead letters ready again, those that died first first. Returns how many.

    ``limit``: at most so many. ``rate``: so many a second: they are scheduled one after the other, so that what made
    them fail isn't flooded. Letters that die meanwhile, and those whose unique name another job holds, are left alone.
    Raises ValueError: a limit or rate not above 0.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit takes a number from 1 on, or None, got {limit!r}")
    if rate is not None and not (0 < rate < math.inf):
        raise ValueError(f"rate takes jobs per second, more than 0, or None, got {rate!r}")
    return _redrive_all(_store(using), channel, limit, None if rate is None else 1000 / rate)


aredrive_all = awaitable(redrive_all)


def _redrive_all(store: Store, channel: str, limit: int | None, pace: float | None) -> Steps[int]:
    done = 0
    batch: Redriven | None = None
    while (batch is None or batch.more) and (limit is None or done < limit):
        wanted = MAX_PAGE if limit is None else min(limit - done, MAX_PAGE)
        token = secrets.token_urlsafe(16)
        batch = yield from ask(store.redrive_all(channel, token, wanted=wanted, pace=pace, after=batch))
        done += batch.done
    return done


@blocking
def purge_all(
    channel: str, state: State | str, *, older_than: float | timedelta = 0, using: str = "default"
) -> Steps[int]:
    """Forget the jobs that ended in ``state`` (DEAD, CANCELLED, EXPIRED or kept SUCCEEDED). Returns how many.

    ``older_than``: only those that ended at least so many seconds (or a timedelta) ago. Raises ValueError: another
    state, an age that is negative or no number.
    """
    state = State(state)
    if state not in ENDED:
        raise ValueError(f"purge_all takes {', '.join(ENDED)}, got {state.value!r}: cancel these jobs first")
    age = older_than.total_seconds() if isinstance(older_than, timedelta) else older_than
    if not (0 <= age < math.inf):
        raise ValueError(f"older_than takes seconds >= 0 or a timedelta, got {older_than!r}")
    return _purge_all(_store(using), channel, state, round(age * 1000))


apurge_all = awaitable(purge_all)


def _purge_all(store: Store, channel: str, state: State, age: int) -> Steps[int]:
    done = 0
    batch: Purged | None = None
    while batch is None or batch.skip >= 0:
        batch = yield from ask(store.purge_all(channel, state, age=age, after=batch))
        done += batch.done
    return done


@blocking
def pause(channel: str, *, using: str = "default") -> Steps[bool]:
    """Let no worker begin jobs of the channel until it is resumed; running ones end, new ones are stored.

    Returns whether this call paused it: False when it was paused already.
    """
    return ask(_store(using).pause(channel))


apause = awaitable(pause)


@blocking
def resume(channel: str, *, using: str = "default") -> Steps[bool]:
    """Let workers begin jobs of the channel again. Returns whether this call resumed it (False: it wasn't paused)."""
    return ask(_store(using).resume(channel))


aresume = awaitable(resume)


# A worker


@blocking
def quiet_worker(channel: str, worker_id: str, *, using: str = "default") -> Steps[bool]:
    """Tell a worker to begin no jobs, of none of its channels, until it is told to work again.

    It hears it with its next sweep of ``channel``, one that it consumes. Returns False when there is no such worker.
    """
    return ask(_store(using).steer(channel, worker_id, "quiet"))


aquiet_worker = awaitable(quiet_worker)


@blocking
def wake_worker(channel: str, worker_id: str, *, using: str = "default") -> Steps[bool]:
    """Tell a quiet worker to work again; see ``quiet_worker``."""
    return ask(_store(using).steer(channel, worker_id, "work"))


awake_worker = awaitable(wake_worker)


@blocking
def stop_worker(channel: str, worker_id: str, *, using: str = "default") -> Steps[bool]:
    """Tell a worker to end as after SIGTERM: running jobs get ``SHUTDOWN_TIMEOUT_SECONDS``. What supervises it
    (``--processes``, systemd, Kubernetes) starts another one. See ``quiet_worker``."""
    return ask(_store(using).steer(channel, worker_id, "stop"))


astop_worker = awaitable(stop_worker)
