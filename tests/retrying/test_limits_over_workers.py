"""Limits over several worker processes: rates by the server's own record, keys in order while workers are killed."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from retrying import enqueue_many, jobs
from retrying.job import Job
from tests.conftest import Effects, wait_for
from tests.processes import RunWorker

CHANNEL = "work"
Start = Callable[..., RunWorker]


@pytest.fixture
def start(redis_url: str, effects: Effects, tmp_path: Path) -> Iterator[Start]:
    """Starts a worker process under limits, and waits until it is ready."""
    with ExitStack() as stack:
        count = 0

        def start(limits: dict[str, Any], concurrency: int = 5) -> RunWorker:
            nonlocal count
            count += 1
            env = {"REDIS_URL": redis_url, "EFFECTS": str(effects.path), "LIMITS": json.dumps(limits)}
            log = tmp_path / f"worker{count}.log"
            worker = RunWorker(
                "tests.plain.limited_settings", CHANNEL, "--concurrency", str(concurrency), log=log, env=env
            )
            return stack.enter_context(worker).ready()

        yield start


def cpu_seconds(pid: int) -> float:
    """Processor time that a process used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def succeeded() -> list[Job]:
    found: list[Job] = []
    cursor = None
    while True:
        page = jobs.search(CHANNEL, "succeeded", limit=1000, cursor=cursor)
        found += page.jobs
        cursor = page.cursor
        if cursor is None:
            return found


@pytest.mark.long
@pytest.mark.alone
def test_rate_over_three_workers(start: Start, redis_url: str) -> None:
    """50 a second with a burst of 10: never more than 60 in any sliding second, none lost, and nobody polls."""
    limits = {"rate": "50/s", "burst": 10, "keep_succeeded": 2000}
    workers = [start(limits) for _ in range(3)]
    cpu = [cpu_seconds(worker.pid) for worker in workers]
    with redis.Redis.from_url(redis_url) as server:
        scripts = server.info("commandstats")["cmdstat_evalsha"]["calls"]
        enqueue_many(CHANNEL, ({"type": "work.do", "n": n} for n in range(1000)))
        wait_for(lambda: (found := jobs.counts(CHANNEL)).finished == 1000 and not found.ready, "all succeeded", 60)
        scripts = server.info("commandstats")["cmdstat_evalsha"]["calls"] - scripts
    done = succeeded()
    assert len({job.id for job in done}) == 1000
    assert {job.attempt for job in done} == {1}
    began = sorted(job.started_at.timestamp() for job in done if job.started_at)
    most = max(
        sum(1 for other in began[first : first + 200] if other < began[first] + 1) for first in range(len(began))
    )
    seconds = began[-1] - began[0]
    used = [100 * (cpu_seconds(worker.pid) - before) / seconds for worker, before in zip(workers, cpu, strict=True)]
    print(
        f"1000 jobs in {seconds:.2f} s, at most {most} in a second; CPU of the workers "
        f"{', '.join(f'{share:.1f} %' for share in used)}; {scripts / seconds:.0f} requests a second in all"
    )
    assert most <= 60
    assert seconds < 1.15 * 990 / 50  # as fast as it may
    assert max(used) < 5


@pytest.mark.long
def test_order_of_keys_while_workers_are_killed(start: Start, effects: Effects) -> None:
    """One at a time and in order, also when the worker in the middle of it is killed: its job comes first."""
    keys, each = 8, 40
    limits = {"ordered_by_key": True, "timeout": 30}
    items = [
        ({"type": "work.tracked", "n": 1000 * key + n, "seconds": 0.03}, {"key": f"k{key}"})
        for n in range(each)
        for key in range(keys)
    ]
    workers = [start(limits) for _ in range(3)]
    enqueue_many(CHANNEL, items)
    for kill in range(4):
        wait_for(lambda least=50 * (kill + 1): len(effects.lines()) >= least, "some work is done")
        workers.pop(0).kill()
        workers.append(start(limits))
    wait_for(lambda: sum((c := jobs.counts(CHANNEL), c.scheduled + c.ready + c.running)[1:]) == 0, "all is done", 90)
    began: dict[int, list[int]] = defaultdict(list)
    done: set[int] = set()
    running: dict[int, int] = {}
    for line in effects.lines():
        number, _, word = line.split()
        key, n = divmod(int(number), 1000)
        if word == "start":
            assert running.get(key) in (None, n), f"{n} of key {key} began beside {running[key]}"
            running[key] = n
            began[key].append(n)
        else:
            assert running.pop(key) == n
            done.add(int(number))
    assert len(done) == keys * each
    for order in began.values():
        assert order == sorted(order)
    again = sum(map(len, began.values())) - keys * each
    print(f"{keys * each} jobs of {keys} keys in order over 4 kills; {again} began a second time")
    assert jobs.counts(CHANNEL).dead == 0
