"""Workers are SIGKILLed again and again while they run jobs: nothing is lost, nothing runs twice without a reason."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from retrying import jobs
from retrying.layers import get_layer
from retrying.store.calls import NewJob
from tests.conftest import Effects, wait_for
from tests.faults.conftest import Figure
from tests.processes import RunWorker

SETTINGS = "tests.plain.durable_settings"
WORKERS = 2
CONCURRENCY = 40


def enqueue_many(count: int) -> None:
    """Jobs of 20 to 200 ms."""
    layer = get_layer()

    async def store() -> None:
        for start in range(0, count, 500):
            batch = [
                NewJob(
                    id=f"job-{n}",
                    payload=layer.encode({"type": "work.tracked", "n": n, "seconds": random.uniform(0.02, 0.2)}),
                )
                for n in range(start, min(start + 500, count))
            ]
            await layer.store.arun(layer.store.enqueue("work", batch))
        await layer.close_pools()

    asyncio.run(store())


def check(effects: Effects, count: int, killed: set[int]) -> int:
    """Every job was done, and every run beyond the first follows one that a kill ended. Returns the extra runs."""
    starts: dict[int, list[int]] = defaultdict(list)
    done: set[int] = set()
    for line in effects.lines():
        n, pid, what = line.split()
        if what == "start":
            starts[int(n)].append(int(pid))
        else:
            done.add(int(n))
    assert done == set(range(count)), f"{count - len(done)} jobs were lost"
    for n, pids in starts.items():
        assert set(pids[:-1]) <= killed, f"job {n} ran again although no kill ended its earlier run: {pids}"
    return sum(len(pids) - 1 for pids in starts.values())


@pytest.mark.parametrize(
    ("count", "kills", "lease"),
    [
        (600, 4, 1.0),
        pytest.param(10_000, 100, 1.0, marks=[pytest.mark.long, pytest.mark.timeout(900)]),
        pytest.param(10_000, 100, 30.0, marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
def test_no_job_is_lost_to_kills(  # noqa: PLR0917  (fixtures)
    redis_url: str, effects: Effects, tmp_path: Path, count: int, kills: int, lease: float, figure: Figure
) -> None:
    env = {
        "REDIS_URL": redis_url,
        "EFFECTS": str(effects.path),
        "LEASE_SECONDS": str(lease),
        "SWEEP_SECONDS": str(lease / 6),
        "MAX_RESCUES": str(kills),  # the poison limit is for jobs that kill, not for jobs that are killed
    }
    enqueue_many(count)
    killed: set[int] = set()
    hits = 0

    def worker() -> RunWorker:
        args = (SETTINGS, "work", "--concurrency", str(CONCURRENCY))
        return RunWorker(*args, log=tmp_path / "worker.log", env=env).__enter__()

    workers = [worker() for _ in range(WORKERS)]
    try:
        while hits < kills:
            victim = workers.pop(0)
            wait_for(_busy(effects, victim.pid), "the worker runs jobs", timeout=lease + 60)
            victim.kill()
            killed.add(victim.pid)
            hits += 1
            workers.append(worker())
        wait_for(lambda: _finished(effects, count), "every job is done", timeout=lease * 2 + 300)
        wait_for(lambda: jobs.counts("work").running == 0, "every end is told", timeout=lease * 2 + 10)
    finally:
        for one in workers:
            one.__exit__()
    extra = check(effects, count, killed)
    counts = jobs.counts("work")
    assert (counts.ready, counts.scheduled, counts.dead) == (0, 0, 0)
    figure(f"lease {lease:g} s: {count:,} jobs, {hits} kills of a running handler, {extra:,} runs repeated, 0 lost")


def _busy(effects: Effects, pid: int) -> Callable[[], bool]:
    """A condition: the process has a job in hand that it started and has not done."""
    size = effects.path.stat().st_size if effects.path.exists() else 0

    def condition() -> bool:
        if not effects.path.exists():
            return False
        with effects.path.open() as file:
            file.seek(size)
            words = [line.split() for line in file.read().splitlines() if line.count(" ") == 2]
        open_jobs: set[str] = set()
        for n, by, what in words:
            if int(by) == pid:
                (open_jobs.add if what == "start" else open_jobs.discard)(n)
        return bool(open_jobs)

    return condition


def _finished(effects: Effects, count: int) -> bool:
    return sum(line.endswith("done") for line in effects.lines()) >= count and len(set(effects.numbers())) == count


@pytest.mark.alone
def test_rescue_within_lease_and_sweep(redis_url: str, effects: Effects, tmp_path: Path, figure: Figure) -> None:
    """p100 of the rescue of a killed worker's jobs: under lease + sweep + 1 s."""
    figure(_rescue(redis_url, effects, tmp_path, lease=1.0, sweep=0.3))


@pytest.mark.long
@pytest.mark.timeout(120)
def test_rescue_within_lease_and_sweep_at_the_defaults(
    redis_url: str, effects: Effects, tmp_path: Path, figure: Figure
) -> None:
    figure(_rescue(redis_url, effects, tmp_path, lease=30.0, sweep=5.0))


def _rescue(redis_url: str, effects: Effects, tmp_path: Path, *, lease: float, sweep: float) -> str:
    env = {
        "REDIS_URL": redis_url,
        "EFFECTS": str(effects.path),
        "LEASE_SECONDS": str(lease),
        "SWEEP_SECONDS": str(sweep),
    }
    layer = get_layer()
    count = 20
    payload = [layer.encode({"type": "work.tracked", "n": n, "seconds": 600}) for n in range(count)]
    layer.store.run(layer.store.enqueue("work", [NewJob(id=str(n), payload=payload[n]) for n in range(count)]))
    args = (SETTINGS, "work", "--concurrency", "20")
    with RunWorker(*args, log=tmp_path / "first.log", env=env) as first:
        wait_for(lambda: len(effects.lines()) == count, "20 jobs run")
        with RunWorker(*args, log=tmp_path / "second.log", env=env) as second:
            second.ready()
            first.signal(signal.SIGKILL)
            killed_at = time.monotonic()
            wait_for(lambda: len(effects.lines()) == 2 * count, "all 20 run again", timeout=lease + sweep + 10)
            took = time.monotonic() - killed_at
    assert took < lease + sweep + 1
    assert {line.split()[1] for line in effects.lines()[count:]} == {str(second.pid)}
    return f"lease {lease:g} s, sweep {sweep:g} s: the last of {count} jobs ran again after {took:.2f} s (p100)"
