"""Fault 41: several workers, each with its own scheduler, stopped, killed, cut off, and with wrong clocks."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from retrying.store.calls import ScheduleState
from tests.conftest import wait_for
from tests.faults.clock import HOUR, Clock
from tests.faults.conftest import Figure
from tests.faults.proxy import Proxy
from tests.faults.rig import CHANNEL, LEASE, SWEEP, Rig
from tests.processes import RunWorker

pytestmark = [pytest.mark.timeout(180), pytest.mark.long]


class Tick(NamedTuple):
    """A slot that ran: ``late``: seconds from its time to the start of its handler."""

    name: str
    slot: int
    job: str
    attempt: int
    pid: int
    late: float


class Clockworks:
    """Workers that tick, and what they did."""

    def __init__(self, rig: Rig, directory: Path) -> None:
        self._rig, self._directory = rig, directory
        self._effects = directory / "ticks"
        self.workers: list[RunWorker] = []

    def start(self, url: str = "", **env: object) -> RunWorker:
        settings = {
            "REDIS_URL": url or self._rig.url,
            "EFFECTS": self._effects,
            "LEASE_SECONDS": LEASE,
            "SWEEP_SECONDS": SWEEP,
            "BOOTED": time.time() - time.monotonic(),
            **env,
        }
        worker = RunWorker(
            "tests.faults.ticking_settings", CHANNEL, "--concurrency", "10",
            log=self._directory / f"ticking-{len(self.workers)}.log",
            env={name: str(value) for name, value in settings.items()},
        )  # fmt: skip
        worker.__enter__()
        self.workers.append(worker)
        return worker.ready()

    def ticks(self, name: str = "all") -> list[Tick]:
        """In the order of slots."""
        if not self._effects.exists():
            return []
        found = []
        for line in self._effects.read_text().splitlines():
            words = line.split()
            slot = int(words[1])
            found.append(Tick(words[0], slot, words[2], int(words[3]), int(words[4]), float(words[5]) - slot))
        return sorted((tick for tick in found if tick.name == name), key=lambda tick: (tick.slot, tick.attempt))

    def until(self, condition: Callable[[], bool], what: str, timeout: float = 100) -> None:
        wait_for(condition, what, timeout)

    def check(self, *, count: int) -> None:
        """The first ``count`` slots of catch_up="all": none is missing, none became two jobs, none ran early."""
        first = self.ticks()[0].slot
        wanted = set(range(first, first + count))
        self.until(lambda: wanted <= {tick.slot for tick in self.ticks()}, "no slot is missing", 20)  # one may be late
        first_runs = [tick for tick in self.ticks() if tick.attempt == 1]
        twice = [slot for slot, runs in Counter(tick.slot for tick in first_runs).items() if runs > 1]
        assert not twice, f"slots that became more than one job, or ran again as a first attempt: {twice}"
        assert min(tick.late for tick in first_runs) >= 0, "before its time"

    def state(self, name: str) -> ScheduleState:
        return self._rig.store.run(self._rig.store.schedule(CHANNEL, name))


@pytest.fixture
def clockworks(rig: Rig, tmp_path: Path) -> Iterator[Clockworks]:
    found = Clockworks(rig, tmp_path)
    yield found
    for worker in found.workers:
        worker.__exit__()


def after(clockworks: Clockworks, count: int) -> Callable[[], bool]:
    """Whether so many slots have run."""
    return lambda: len({tick.slot for tick in clockworks.ticks()}) >= count


@pytest.mark.alone
def test_41_one_of_two_workers_is_stopped_for_10_of_60_seconds(clockworks: Clockworks, figure: Figure) -> None:
    first = clockworks.start()
    clockworks.start()
    clockworks.until(after(clockworks, 20), "20 slots ran")
    first.signal(signal.SIGSTOP)
    stopped = time.time()
    clockworks.until(lambda: time.time() > stopped + 10, "10 s passed")
    first.signal(signal.SIGCONT)
    clockworks.until(after(clockworks, 60), "60 slots ran")
    clockworks.check(count=60)
    late = sorted(
        tick.late * 1000
        for name in ("all", "last", "skip")
        for tick in clockworks.ticks(name)
        if tick.attempt == 1 and tick.pid != first.pid
    )
    p99 = late[int(len(late) * 0.99)]
    median, load = late[len(late) // 2], os.getloadavg()[0]
    figure(
        f"{len(late)} slots, those of the other worker: their handlers started late by {median:.1f} ms (median), "
        f"{p99:.1f} ms (p99), {late[-1]:.1f} ms (most); load average {load:.1f}"
    )
    # A machine with more to do than cores to do it on starts everything late.
    assert p99 < (100 if load <= (os.cpu_count() or 1) else 1000)


def test_41_workers_are_killed_one_after_the_other(clockworks: Clockworks) -> None:
    rng = random.Random(41)
    clockworks.start()
    for _ in range(8):
        fresh = clockworks.start()
        seen = len(clockworks.ticks())
        clockworks.until(lambda seen=seen: len(clockworks.ticks()) > seen, "another slot ran")  # type: ignore[misc]
        time.sleep(rng.random())  # where in the second it dies
        clockworks.workers[-2].kill()
        assert fresh.process.poll() is None
    count = len({tick.slot for tick in clockworks.ticks()})
    clockworks.until(after(clockworks, count + 3), "three more slots ran")
    clockworks.check(count=count)


def test_41_clocks_an_hour_off(clockworks: Clockworks, tmp_path: Path) -> None:
    """Both ways, and one that jumps from one to the other each second."""
    fast, slow, jumping = (Clock(tmp_path / name) for name in ("fast", "slow", "jumping"))
    fast.offset, slow.offset, jumping.offset = HOUR, -HOUR, HOUR
    with jumping.jumping():
        for clock in (fast, slow, jumping):
            clockworks.start(**clock.env)
        clockworks.until(after(clockworks, 8), "8 slots ran")
    clockworks.check(count=8)


def test_41_replies_are_lost(clockworks: Clockworks, proxy: Proxy) -> None:
    """Every third request is carried out and its reply is lost: the worker asks for the same slots again."""
    rng = random.Random(41)
    proxy.fate = lambda request: "cut" if b"EVALSHA" in request and rng.random() < 0.3 else ""
    clockworks.start(proxy.url)
    clockworks.start(proxy.url)
    clockworks.until(after(clockworks, 12), "12 slots ran")
    assert proxy.hurt > 12
    clockworks.check(count=12)


def test_41_what_each_policy_makes_up_for(clockworks: Clockworks) -> None:
    """No worker for 5 s."""
    worker = clockworks.start()
    clockworks.until(after(clockworks, 2), "two slots ran")
    worker.kill()
    last = {name: clockworks.state(name).last or 0 for name in ("all", "last", "skip")}
    gone = time.monotonic()
    clockworks.until(lambda: time.monotonic() > gone + 5, "5 s passed")
    clockworks.start()
    before = {name: last[name] // 1000 for name in last}
    clockworks.until(lambda: len([t for t in clockworks.ticks() if t.slot > before["all"]]) > 8, "it goes on")
    clockworks.check(count=8)
    caught_up = [tick for tick in clockworks.ticks("last") if tick.slot > before["last"]]
    assert caught_up[0].slot >= before["last"] + 5, "only the newest missed one, if that was before the start"
    assert [tick.slot for tick in caught_up] == list(range(caught_up[0].slot, caught_up[0].slot + len(caught_up)))
    skipped = [tick for tick in clockworks.ticks("skip") if tick.slot > before["skip"]]
    assert skipped[0].slot >= before["skip"] + 5
    assert skipped[0].late < 1, "half a second, and what a loaded machine adds"
