"""runworker as a daemon: several processes, replaced when they die; recycling, heartbeats, reload."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from project.development.valkey import Valkey
from retrying import enqueue
from tests.conftest import Effects, wait_for
from tests.processes import ROOT, RunWorker

SETTINGS = "tests.plain.durable_settings"


@pytest.fixture
def env(redis_url: str, effects: Effects) -> Iterator[dict[str, str]]:
    return {"REDIS_URL": redis_url, "EFFECTS": str(effects.path)}


def started(worker: RunWorker) -> list[int]:
    return [int(pid) for pid in re.findall(r"started pid=(\d+)", worker.text())]


def ready(worker: RunWorker) -> int:
    return worker.text().count("is ready")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_process_is_replaced_and_all_stop_together(env: dict[str, str], tmp_path: Path) -> None:
    with RunWorker(SETTINGS, "work", "--processes", "2", log=tmp_path / "log", env=env) as worker:
        wait_for(lambda: ready(worker) == 2, "two workers are ready")
        first = started(worker)[0]
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: ready(worker) == 3, "another one took its place")
        assert "ended with status -9" in worker.text()
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
        assert not [pid for pid in started(worker) if alive(pid)]


def test_workers_end_when_their_supervisor_is_killed(env: dict[str, str], tmp_path: Path) -> None:
    with RunWorker(SETTINGS, "work", "--processes", "2", log=tmp_path / "log", env=env) as worker:
        wait_for(lambda: ready(worker) == 2, "two workers are ready")
        pids = started(worker)
        worker.kill()
        wait_for(lambda: not [pid for pid in pids if alive(pid)], "no orphan is left")


def test_a_command_that_cannot_start_is_tried_again_with_backoff(env: dict[str, str], tmp_path: Path) -> None:
    with RunWorker(SETTINGS, "nowhere", "--processes", "1", log=tmp_path / "log", env=env) as worker:
        wait_for(lambda: len(started(worker)) >= 3, "it was tried again")
        assert "ChannelNameRouter has no application for 'nowhere'" in worker.text()
        worker.signal(signal.SIGTERM)
        worker.ended()


def test_a_worker_is_recycled_after_so_many_jobs(env: dict[str, str], effects: Effects, tmp_path: Path) -> None:
    for n in range(30):
        enqueue("work", {"type": "work.do", "n": n})
    env = {**env, "RECYCLE_AFTER_JOBS": "10"}
    with RunWorker(SETTINGS, "work", "--processes", "1", log=tmp_path / "log", env=env) as worker:
        wait_for(lambda: len(started(worker)) >= 2, "a second process was started")
        wait_for(lambda: sorted(effects.numbers()) == list(range(30)), "every job ran once")
        assert "RECYCLE_AFTER_JOBS" in worker.text()
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


def test_a_worker_is_recycled_above_so_much_memory(env: dict[str, str], tmp_path: Path) -> None:
    env = {**env, "RECYCLE_ABOVE_MIB": "1"}
    with RunWorker(SETTINGS, "work", "--processes", "1", log=tmp_path / "log", env=env) as worker:
        wait_for(lambda: ready(worker) >= 2, "started anew")
        assert "MiB (RECYCLE_ABOVE_MIB)" in worker.text()
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


def test_start_and_stop_are_told(env: dict[str, str], tmp_path: Path) -> None:
    with RunWorker(SETTINGS, "work", "--concurrency", "3", log=tmp_path / "log", env=env) as worker:
        wait_for(lambda: ready(worker), "ready")
        assert "consumes work: 3 at a time (--concurrency), lease 1.0 s" in worker.text()
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
        assert "stops: no new jobs, up to 25.0 s for 0 running ones" in worker.text()
        assert "stopped" in worker.text()


def test_heartbeat_files_tell_life_and_readiness(env: dict[str, str], tmp_path: Path) -> None:
    beat, ready_file = tmp_path / "beat", tmp_path / "beat.ready"
    with RunWorker(SETTINGS, "work", "--heartbeat-file", str(beat), log=tmp_path / "log", env=env) as worker:
        wait_for(ready_file.exists, "ready")
        seen = beat.stat().st_mtime_ns
        wait_for(lambda: beat.stat().st_mtime_ns > seen, "the heart beats")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    assert not beat.exists()
    assert not ready_file.exists()


def test_a_worker_without_its_server_lives_but_is_not_ready(env: dict[str, str], tmp_path: Path) -> None:
    beat, ready_file = tmp_path / "beat", tmp_path / "beat.ready"
    with Valkey(tmp_path / "valkey") as server:
        env = {**env, "REDIS_URL": server.url}
        with RunWorker(SETTINGS, "work", "--heartbeat-file", str(beat), log=tmp_path / "log", env=env):
            wait_for(ready_file.exists, "ready")
            server.stop()
            wait_for(lambda: not ready_file.exists(), "no longer ready")
            seen = beat.stat().st_mtime_ns
            wait_for(lambda: beat.stat().st_mtime_ns > seen, "the heart beats all the same")
            server.start()
            wait_for(ready_file.exists, "ready again")


def test_changed_code_starts_the_worker_anew(env: dict[str, str], effects: Effects, tmp_path: Path) -> None:
    module = tmp_path / "edited.py"
    module.write_text("from tests.plain.durable_settings import *\n")
    env = {**env, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    with RunWorker("edited", "work", "--reload", log=tmp_path / "log", env=env) as worker:
        wait_for(lambda: ready(worker) == 1, "ready")

        def edited() -> bool:
            module.write_text(module.read_text() + "# edited\n")  # again and again: the watcher may not look yet
            return "starting anew" in worker.text()

        wait_for(edited, "the change was noticed")
        wait_for(lambda: ready(worker) >= 2, "started anew")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
