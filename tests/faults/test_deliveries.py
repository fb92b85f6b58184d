"""Webhook deliveries while their store is away. Real processes, on SQLite."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from project.development.valkey import Valkey, free_port
from tests.conftest import wait_for
from tests.processes import ROOT, Process, RunWorker

OUTAGE_SECONDS = 10
SETTINGS = "project.settings"

SUBMIT = """
import asyncio, sys, django
django.setup()
from django.contrib.auth import get_user_model
from project.webhooks.actions import submit
from retrying.layers import get_layer
owner = get_user_model().objects.get_or_create(username="tester")[0]

async def main(url, count):
    queued = [(await submit(owner.pk, url=url, payload="{}"))[1] for _ in range(count)]
    await get_layer().close_pools()
    print("queued", sum(queued), "kept", count - sum(queued))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


class Site:
    """The parts of the site that deliver, without its web server."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.valkey = Valkey(directory / "valkey", appendonly=True)
        self.received = directory / "received"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/hook"

    def open(self) -> None:
        self.valkey.start()
        self.env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "DJANGO_DEBUG": "1",
            "PYTHONPATH": str(ROOT),
            "REDIS_URL": self.valkey.url,
            "VAR_DIR": str(self.directory),
            "WEBHOOK_RECEIVER_ORIGIN": self.url.removesuffix("/hook"),
            "LEASE_SECONDS": "2",
            "SWEEP_SECONDS": "0.5",
            "DELIVERIES_BACKOFF_SECONDS": "0.5",
        }
        self.env.pop("DATABASE_URL", None)
        self.run("manage.py", "migrate", "--verbosity", "0")

    def run(self, *args: str) -> str:
        done = subprocess.run(
            [sys.executable, *args], env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def submit(self, count: int) -> str:
        return self.run("-c", SUBMIT, self.url, str(count))

    def worker(self, name: str) -> RunWorker:
        return RunWorker(SETTINGS, "deliveries", log=self.directory / f"{name}.log", env=self.env)

    def receiver(self, mode: str = "open") -> Process:
        args = [sys.executable, str(ROOT / "tests/faults/receiver.py"), str(self.port), str(self.received), mode]
        return Process(args, log=self.directory / "receiver.log", env=self.env)

    def sweep(self) -> Process:
        args = [sys.executable, "manage.py", "sweep_deliveries", "--every", "1"]
        return Process(args, log=self.directory / "sweep.log", env=self.env)

    def received_ids(self) -> list[str]:
        return self.received.read_text().split() if self.received.exists() else []

    def query(self, sql: str) -> list[tuple[object, ...]]:
        with contextlib.closing(sqlite3.connect(self.directory / "db.sqlite3", timeout=20)) as connection:
            return connection.execute(sql).fetchall()

    def states(self) -> Counter[object]:
        return Counter(state for (state,) in self.query("SELECT state FROM webhooks_delivery"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    site.open()
    yield site
    site.valkey.stop()


@pytest.mark.long
def test_server_away_for_ten_seconds_during_deliveries(site: Site) -> None:
    with site.receiver("held") as receiver, site.sweep(), site.worker("worker") as worker:
        site.submit(20)
        wait_for(lambda: len(site.received_ids()) == 20, "20 calls in flight")
        site.valkey.stop()
        away_since = time.monotonic()
        receiver.signal(signal.SIGUSR1)  # the calls end while the server is away
        assert site.submit(5).split() == ["queued", "0", "kept", "5"]
        wait_for(lambda: "does not answer" in worker.text(), "the worker says that the store does not answer")
        wait_for(lambda: site.states()["delivered"] == 20, "calls that were under way are recorded all the same")
        wait_for(lambda: time.monotonic() - away_since >= OUTAGE_SECONDS, "the outage lasted its ten seconds")
        site.valkey.start()
        wait_for(lambda: site.states() == {"delivered": 25}, "everything is delivered", timeout=40)
        assert "answers again" in worker.text()
        assert worker.process.poll() is None
    assert set(Counter(site.received_ids()).values()) <= {1, 2}


def test_worker_started_before_its_server(site: Site) -> None:
    site.submit(3)
    site.valkey.stop()
    with site.receiver(), site.worker("worker") as worker:
        wait_for(lambda: "does not answer" in worker.text(), "the worker says so")
        site.valkey.start()
        wait_for(lambda: site.states() == {"delivered": 3}, "it recovers by itself")
