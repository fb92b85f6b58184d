"""What the machines do: a full disk, clocks that are wrong or jump. The number in a test's name is the fault's."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from project.development.valkey import Valkey
from retrying.exceptions import StoreUnavailable
from retrying.job import State
from tests.conftest import wait_for
from tests.faults.clock import HOUR, Clock
from tests.faults.conftest import Figure
from tests.faults.rig import CHANNEL, PREFIX, Rig

pytestmark = pytest.mark.timeout(120)
long = pytest.mark.long

TEN_MINUTES = 600


@long
def test_24_disk_is_full(rig: Rig, tmp_path: Path, figure: Figure) -> None:
    """The server's file may not grow: writes are refused, by name. Nobody ends, and all goes on when it may."""
    heartbeat, ready = tmp_path / "heartbeat", tmp_path / "heartbeat.ready"
    worker = rig.worker("--heartbeat-file", str(heartbeat))
    (file,) = (tmp_path / "valkey" / "appendonlydir").glob("*.incr.aof")
    unlimited = resource.prlimit(rig.server.pid, resource.RLIMIT_FSIZE)
    with rig.load(fails=1):
        wait_for(lambda: len(rig.said("done")) > 50, "jobs are done")
        wait_for(ready.exists, "it is ready")
        # A Python that ignores SIGXFSZ became the server (tether.py), so a write beyond this fails as on a full disk.
        size = file.stat().st_size + 20_000
        resource.prlimit(rig.server.pid, resource.RLIMIT_FSIZE, (size, unlimited[1]))
        wait_for(lambda: rig.refused >= 3, "jobs are refused")
        ids = rig.ids(1)
        with pytest.raises(StoreUnavailable, match="can't write its file: MISCONF"):
            rig.put_ids(ids)
        wait_for(lambda: "can't write its file" in worker.text(), "the worker says so")
        wait_for(lambda: not ready.exists(), "and is not ready")
        assert worker.process.poll() is None
        resource.prlimit(rig.server.pid, resource.RLIMIT_FSIZE, unlimited)
        room, acked = time.monotonic(), len(rig.acked)
        wait_for(lambda: len(rig.acked) > acked + 40, "jobs are taken again")
        wait_for(lambda: set(list(rig.acked)[acked:]) & rig.said("done"), "and done")
        took = time.monotonic() - room
        wait_for(ready.exists, "it is ready again")
    rig.put_ids(ids)
    rig.finish()
    rig.server.kill()
    rig.server.start()
    rig.check()
    figure(f"{len(rig.acked)} jobs, 0 lost; {rig.refused} enqueues refused; at work again after {took:.1f} s")


@pytest.mark.parametrize("skew", [pytest.param("+1 h", marks=long), pytest.param("-1 h", marks=long), "jumping"])
def test_25_wrong_clock(rig: Rig, tmp_path: Path, skew: str) -> None:
    """Due times and leases go by the server's clock: Rig.check finds nothing early, nothing twice."""
    rig.lease = 2.0
    clock = Clock(tmp_path / "clock")
    clock.offset = -HOUR if skew == "-1 h" else HOUR
    shown = subprocess.check_output(
        [sys.executable, "-c", "import time; print(time.time())"], env={**os.environ, **clock.env}
    )
    assert abs(float(shown) - time.time() - clock.offset) < 60, "the preloaded library has no effect"
    with clock.jumping() if skew == "jumping" else contextlib.nullcontext():
        rig.worker(**clock.env)
        rig.worker()
        rig.put(20, delay=1.5)
        rig.put(20, seconds=1.5 * rig.lease, fails=1)
        rig.finish()
    rig.check(repeats=False)
    assert not rig.rescued()


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def skewed(tmp_path: Path, clock: Clock) -> Iterator[Rig]:
    """A rig whose server goes by ``clock``."""
    with (
        Valkey(tmp_path / "valkey", appendonly=True, env=clock.env) as server,
        Rig(tmp_path, server, lease=2.0, sweep=0.5) as found,
    ):
        yield found


@long
def test_26_clock_of_the_server_jumps(skewed: Rig, clock: Clock, figure: Figure) -> None:
    """Forward: live workers keep what they run. Back: what a dead worker held is rescued in time all the same."""
    rig = skewed
    began = rig.client().time()[0]
    first, second = (rig.worker(concurrency=15, DEDUP_SECONDS=HOUR) for _ in range(2))
    lasting = rig.put(20, seconds=3)
    wait_for(lambda: len(rig.said("start")) == 20, "20 jobs run")
    clock.offset = TEN_MINUTES
    assert rig.client().time()[0] >= began + TEN_MINUTES
    rig.put(20, seconds=0.1)
    wait_for(lambda: rig.said("done") >= set(lasting), "they end")
    early = len(rig.rescued())
    (later,) = rig.put(delay=1)
    held = rig.put(20, seconds=1.5)
    wait_for(lambda: rig.said("start") >= set(held), "20 more run")
    clock.offset = 0
    rig.kill(first)
    killed = time.monotonic()
    lost = {line.job for line in rig.lines() if line.pid == first.pid} & set(held)
    wait_for(lambda: {job for job, _ in rig.rescued()} >= lost, "what it held is rescued")
    took = time.monotonic() - killed
    assert took < rig.lease + 2 * rig.sweep + 1
    job = rig.store.run(rig.store.get(CHANNEL, later))
    assert job is not None
    assert job.state is State.SCHEDULED, "due at a time that the server's clock has yet to reach"
    assert rig.store.run(rig.store.retry_now(CHANNEL, later)) is State.READY
    rig.put(20, seconds=0.1)
    rig.finish()
    assert second.process.poll() is None
    rig.check()
    events = rig.client().xrange(f"{PREFIX}:{{{CHANNEL}}}:topic:all")
    assert set(Counter(event["job"] for _, event in events if event["name"] == "succeeded").values()) == {1}
    figure(f"+10 min: {early} early rescues; -10 min: {len(lost)} jobs of a killed worker rescued after {took:.1f} s")
