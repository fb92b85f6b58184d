"""Workers over all channels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ..job import WorkerInfo
from ..layers import get_layer
from ..operations import Steps, ask, awaitable, blocking


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker process and all that it consumes. See WorkerInfo."""

    id: str
    host: str
    pid: int
    #: Channels that it consumes, by name.
    channels: tuple[str, ...]
    #: Jobs in hand, of all channels.
    running: int
    #: Jobs at a time, of all channels; of those of a group counted once for each.
    concurrency: int
    memory_mib: float
    started_at: datetime | None
    quiet: bool
    stopping: bool
    seen_seconds_ago: float


@blocking
def workers(*, using: str = "default") -> Steps[list[Worker]]:
    """Live workers, by id."""
    return _workers(using)


aworkers = awaitable(workers)


def _workers(using: str) -> Steps[list[Worker]]:
    store = get_layer(using).store
    found: list[tuple[str, WorkerInfo]] = []
    for channel in (yield from ask(store.channels())):  # a worker's channels are remembered there
        found += [(channel, worker) for worker in (yield from ask(store.workers(channel)))]
    return merged(found)


def merged(found: Iterable[tuple[str, WorkerInfo]]) -> list[Worker]:
    """From the workers of each channel, the workers."""
    by_id: dict[str, list[tuple[str, WorkerInfo]]] = {}
    for channel, worker in found:
        by_id.setdefault(worker.id, []).append((channel, worker))
    return [_worker(by_id[id]) for id in sorted(by_id)]


def _worker(parts: list[tuple[str, WorkerInfo]]) -> Worker:
    infos = [info for _, info in parts]
    first = infos[0]
    return Worker(
        id=first.id,
        host=first.host,
        pid=first.pid,
        channels=tuple(sorted(channel for channel, _ in parts)),
        running=sum(info.running for info in infos),
        concurrency=sum(info.concurrency for info in infos),
        memory_mib=max(info.memory_mib for info in infos),
        started_at=first.started_at,
        quiet=any(info.quiet for info in infos),
        stopping=any(info.stopping for info in infos),
        seen_seconds_ago=min(info.seen_seconds_ago for info in infos),
    )
