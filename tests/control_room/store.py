"""Jobs in every state, put there by the store's own transitions."""

from __future__ import annotations

from typing import Any

from retrying import enqueue
from retrying.layers import get_layer
from retrying.store.calls import Burial, Lease, Retry

CHANNEL = "work"
WORKER = "host:1:worker"


def put(*ids: str, channel: str = CHANNEL, name: str = "work.do", arguments: Any = None, **options: Any) -> None:
    """Enqueue jobs of these ids."""
    for id in ids:
        enqueue(channel, {"type": name, **(arguments or {})}, job_id=id, **options)


def take(count: int = 1, *, channel: str = CHANNEL, claim: str = "T") -> list[Lease]:
    """Claim the next jobs."""
    store = get_layer().store
    return [Lease(job.id, claim) for job in store.run(store.claim(channel, WORKER, claim, wanted=count)).jobs]


def kill(
    *ids: str, channel: str = CHANNEL, error: str = "ValueError: no", name: str = "work.do", trace: str = "", **job: Any
) -> None:
    """Make dead letters of new jobs."""
    put(*ids, channel=channel, name=name, **job)
    store = get_layer().store
    trace = trace or f"builtins.{error.partition(':')[0]}\nTraceback (most recent call last):\n{error}\n"
    leases = take(len(ids), channel=channel, claim=f"T-{ids[0]}")
    store.run(store.bury(channel, [Burial(lease, "no attempts left", error, 5, trace, name) for lease in leases]))


def fail(lease: Lease, *, channel: str = CHANNEL, delay: int = 60_000, error: str = "ValueError: no") -> None:
    """End an attempt that is tried again later."""
    store = get_layer().store
    trace = f"builtins.{error.partition(':')[0]}\nTraceback\n{error}\n"
    store.run(store.retry(channel, [Retry(lease, delay, True, error, 5, None, trace, "work.do")]))


def succeed(*leases: Lease, channel: str = CHANNEL, keep: int = 0) -> None:
    store = get_layer().store
    store.run(store.claim(channel, WORKER, "end", wanted=0, succeeded=leases, keep=keep))
