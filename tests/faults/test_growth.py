"""Nothing grows: after a million successes, and a hundred thousand failed attempts, all is as it was before."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from project.development.valkey import Valkey
from retrying.job import State
from retrying.store.calls import NewJob
from tests.conftest import wait_for
from tests.faults.conftest import Figure
from tests.faults.rig import CHANNEL, ETERNAL, PREFIX, Rig, memory_kib, open_files, serializer
from tests.processes import RunWorker

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

WARM_UP, SUCCESSES = 50_000, 1_000_000
#: Of the jobs that fail: this many fail thrice and succeed then, and this many until they are dead letters.
RECOVER, DIE = 25_000, 5_000
BATCH, BACKLOG = 500, 10_000
TOMBSTONE_SECONDS = 5.0
ALERTS = {f"{PREFIX}:alerts", f"{PREFIX}:turn"}
STORE_MIB, WORKER_MIB = 2, 8


class Size(NamedTuple):
    store_mib: float
    worker_mib: float
    worker_files: int
    connections: int


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Its server keeps no file: a million jobs would fill it with nothing that is asked here."""
    with Valkey(tmp_path / "valkey") as server, Rig(tmp_path, server, lease=30.0, sweep=1.0) as found:
        yield found


def run(rig: Rig, name: str, count: int, **message: object) -> None:
    """Have jobs done, a bounded number of them waiting at a time."""
    payload = serializer.serialize({"type": "work.quiet", **message})
    for first in range(0, count, BATCH):
        jobs = [NewJob(id=f"{name}-{n}", payload=payload) for n in range(first, min(first + BATCH, count))]
        rig.store.run(rig.store.enqueue(CHANNEL, jobs))
        wait_for(lambda: waiting(rig) < BACKLOG, "the worker keeps up", 300)
    rig.finish(600)


def waiting(rig: Rig) -> int:
    counts = rig.store.run(rig.store.counts(CHANNEL))
    return counts.ready + counts.scheduled


def left(client: redis.Redis) -> set[str]:
    """Keys that are still there, but for the few that any number of jobs shares and that end by themselves."""
    keys = {key.removeprefix(f"{PREFIX}:{{{CHANNEL}}}:") for key in client.scan_iter(count=10_000)}
    return {key for key in keys - ALERTS if not key.startswith("stats:")}


def size(rig: Rig, worker: RunWorker) -> Size:
    """Once nothing but the keys that may stay is left, and the server has given its tables back."""
    client = rig.client()
    wait_for(lambda: left(client) <= ETERNAL, "only keys on the list are left", 120)
    used: list[int] = []

    def settled() -> bool:
        used.append(int(client.info("memory")["used_memory"]))
        time.sleep(0.5)  # between two samples
        return len(used) > 6 and max(used[-6:]) - min(used[-6:]) < 2**16

    wait_for(settled, "the server's memory no longer changes", 60)
    found = Size(
        used[-1] / 2**20, memory_kib(worker.pid) / 1024, open_files(worker.pid), len(client.client_list(_type="normal"))
    )
    client.close()
    return found


def test_growth(rig: Rig, figure: Figure) -> None:
    worker = rig.worker(concurrency=100, BACKOFF=0.01, DEDUP_SECONDS=TOMBSTONE_SECONDS)
    run(rig, "warm", WARM_UP)
    run(rig, "warmer", 1000, fails=3)
    before = size(rig, worker)
    run(rig, "good", SUCCESSES)
    succeeded = size(rig, worker)
    run(rig, "shaky", RECOVER, fails=3)
    run(rig, "bad", DIE, fails=99)
    counts = rig.store.run(rig.store.counts(CHANNEL))
    assert counts.dead == DIE
    purged = 0
    batch = None
    while batch is None or batch.skip >= 0:
        batch = rig.store.run(rig.store.purge_all(CHANNEL, State.DEAD, age=0, after=batch))
        purged += batch.done
    assert purged == DIE
    failed = size(rig, worker)
    for after in (succeeded, failed):
        assert after.store_mib <= before.store_mib + STORE_MIB
        assert after.worker_mib <= before.worker_mib + WORKER_MIB
        assert after.worker_files <= before.worker_files + 2
        assert after.connections <= before.connections + 2
    attempts = 3 * RECOVER + 6 * DIE
    stores, workers, files = (
        " -> ".join(f"{getattr(at, name):.{digits}f}" for at in (before, succeeded, failed))
        for name, digits in (("store_mib", 2), ("worker_mib", 1), ("worker_files", 0))
    )
    counted = f"{SUCCESSES:,} successes, then {attempts:,} failed attempts"
    keys = ", ".join(sorted(left(rig.client())))
    figure(f"{counted}: store {stores} MiB, worker {workers} MiB and {files} descriptors; keys left: {keys}")
