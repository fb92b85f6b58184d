"""A random mix of faults on three workers under steady load: ``python -m tests.faults.soak`` (SOAK_MINUTES=30).

Ends with status 1 when an invariant does not hold; writes a summary as JSON (SOAK_SUMMARY, default docs/soak.json) and
into docs/guarantees.md.
"""

from __future__ import annotations

import json
import os
import platform
import random
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from project.development.valkey import Valkey
from tests.conftest import wait_for
from tests.faults.proxy import Proxy
from tests.faults.report import PAGE, Results, between, write_tables
from tests.faults.rig import CHANNEL, PREFIX, Rig, memory_kib, open_files

WORKERS = 3
#: The poison limit is for jobs that kill their worker; here the workers are killed for nothing the jobs did.
MAX_RESCUES = 1_000_000
LEASE, SWEEP = 2.0, 0.5


class Soak:
    """One run. ``samples``: what was measured each few seconds, beside what was done."""

    def __init__(self, rig: Rig, proxy: Proxy, minutes: float) -> None:
        self.rig = rig
        self.proxy = proxy
        self.minutes = minutes
        self.faults: Counter[str] = Counter()
        self.samples: list[dict[str, int]] = []
        #: This worker is never killed: its memory and connections tell of leaks.
        self.steady = rig.worker(url=proxy.url, MAX_RESCUES=MAX_RESCUES)
        self.mortal = [rig.worker(url=proxy.url, MAX_RESCUES=MAX_RESCUES) for _ in range(WORKERS - 1)]

    def run(self) -> None:
        kinds: list[Callable[[], None]] = [
            self.kill_worker, self.stop_worker, self.end_worker, self.restart_server, self.crash_server,
            self.stall_server, self.kill_clients, self.pause_clients, self.flush_scripts, self.lose_replies,
            self.truncate_replies, self.reset, self.half_close, self.blackhole, self.slow, self.steal_bell,
            self.fill_memory, self.fill_disk,
        ]  # fmt: skip
        until = time.monotonic() + self.minutes * 60
        with self.rig.load(pause=0.1, seconds=0.2, fails=1, url=self.proxy.url):
            self.settle()
            while time.monotonic() < until:
                fault = random.choice(kinds)
                fault()
                self.faults[fault.__name__] += 1
                self.settle()
                self.samples.append(self.measure())
        self.rig.finish(120)

    def settle(self) -> None:
        """Wait until jobs get done again."""
        size = self.rig.effects.stat().st_size if self.rig.effects.exists() else 0
        wait_for(
            lambda: self.rig.effects.exists() and self.rig.effects.stat().st_size > size + 400, "jobs are done", 60
        )

    def measure(self) -> dict[str, int]:
        client = self.rig.client()
        info: Any = client.info()
        # Tombstones are there for DEDUP_SECONDS by design, and the test's own topic grows to its cap.
        counts = self.rig.store.run(self.rig.store.counts(CHANNEL))
        eternal = sum(
            client.ttl(key) == -1 for key in client.scan_iter(f"{PREFIX}:*", count=5000) if ":job:" not in key
        )
        found = {
            "second": round(time.monotonic()),
            "worker_kib": memory_kib(self.steady.pid),
            "worker_files": open_files(self.steady.pid),
            "server_kib": info["used_memory"] // 1024,
            "server_clients": info["connected_clients"],
            "keys_without_ttl": eternal,
            "open_jobs": counts.scheduled + counts.ready + counts.running,
        }
        client.close()
        return found

    # Faults

    def _replace(self, index: int) -> None:
        self.mortal[index] = self.rig.worker(url=self.proxy.url, MAX_RESCUES=MAX_RESCUES)

    def kill_worker(self) -> None:
        index = random.randrange(len(self.mortal))
        self.rig.kill(self.mortal[index])
        self._replace(index)

    def stop_worker(self) -> None:
        worker = random.choice(self.mortal)
        self.rig.hurt.add(worker.pid)
        worker.signal(signal.SIGSTOP)
        time.sleep(random.uniform(0.5, 3) * LEASE)
        worker.signal(signal.SIGCONT)

    def end_worker(self) -> None:
        index = random.randrange(len(self.mortal))
        self.mortal[index].signal(signal.SIGTERM)
        status = self.mortal[index].ended(60)
        assert status == 0, f"a worker that was told to stop ended with {status}"
        self._replace(index)

    def restart_server(self) -> None:
        self.rig.server.stop()
        self.rig.server.start()

    def crash_server(self) -> None:
        self.rig.server.kill()
        self.rig.server.start()

    def stall_server(self) -> None:
        os.kill(self.rig.server.pid, signal.SIGSTOP)
        time.sleep(random.uniform(0.2, 2) * LEASE)
        os.kill(self.rig.server.pid, signal.SIGCONT)

    def kill_clients(self) -> None:
        client = self.rig.client()
        for _ in range(20):
            client.client_kill_filter(_type="normal", skipme=True)
            time.sleep(0.05)

    def pause_clients(self) -> None:
        self.rig.client().client_pause(random.randrange(100, 3000), all=random.random() < 0.5)

    def flush_scripts(self) -> None:
        client = self.rig.client()
        for _ in range(20):
            client.script_flush()
            time.sleep(0.05)

    def lose_replies(self) -> None:
        self._for_a_while("cut")

    def truncate_replies(self) -> None:
        self._for_a_while("truncate")

    def _for_a_while(self, fate: str) -> None:
        self.proxy.fate = lambda request: fate if b"EVALSHA" in request and random.random() < 0.2 else ""
        time.sleep(2)
        self.proxy.fate = lambda _: ""

    def reset(self) -> None:
        self.proxy.reset()

    def half_close(self) -> None:
        self.proxy.half_close()

    def blackhole(self) -> None:
        self.proxy.blackhole()
        time.sleep(random.uniform(0.2, 3) * LEASE)
        self.proxy.reopen()

    def slow(self) -> None:
        self.proxy.delay = lambda: random.uniform(0, 0.2)
        time.sleep(3)
        self.proxy.delay = lambda: 0.0

    def steal_bell(self) -> None:
        client, bell = self.rig.client(), self.rig.store.keys(CHANNEL).bell
        until = time.monotonic() + 1
        while time.monotonic() < until:
            client.lpop(bell)
            time.sleep(0.002)

    def fill_memory(self) -> None:
        client = self.rig.client()
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 2**14)
        time.sleep(random.uniform(0.5, 2) * LEASE)
        client.config_set("maxmemory", 0)

    def fill_disk(self) -> None:
        """Its file may not grow, as on a full disk."""
        server = self.rig.server
        size = max(file.stat().st_size for file in (server.directory / "appendonlydir").iterdir())
        soft, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size + 4096, hard))
        time.sleep(random.uniform(0.5, 2) * LEASE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (soft, hard))

    # What came of it

    def growth(self, name: str) -> tuple[int, int]:
        """Medians of the second and the last quarter of the samples: the first is warming up."""
        values = [sample[name] for sample in self.samples]
        quarter = max(1, len(values) // 4)
        return round(statistics.median(values[quarter : 2 * quarter])), round(statistics.median(values[-quarter:]))

    def problems(self) -> list[str]:
        """Invariants that do not hold."""
        found = []
        try:
            self.rig.check()
        except AssertionError as error:
            found.append(str(error))
        limits = {
            "worker_kib": lambda early: early * 1.1 + 4096,
            "worker_files": lambda early: early + 10,
            "server_clients": lambda early: early + 30,
            "keys_without_ttl": lambda early: early + 4,
        }
        for name, limit in limits.items():
            early, late = self.growth(name)
            if late > limit(early):
                found.append(f"{name} grew from {early} to {late}")
        if "Traceback" in self.rig.logs():
            found.append("a worker printed a traceback")
        return found


def main() -> int:
    minutes = float(os.environ.get("SOAK_MINUTES", "30"))
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as directory,
        Valkey(Path(directory) / "valkey", appendonly=True) as server,
        Rig(Path(directory), server, lease=LEASE, sweep=SWEEP) as rig,
        Proxy(server.port) as proxy,
    ):
        soak = Soak(rig, proxy, minutes)
        try:
            soak.run()
            problems = soak.problems()
        except AssertionError as error:
            problems = [str(error)]
        if problems:
            (Path(tempfile.gettempdir()) / "soak.log").write_text(rig.logs())
        starts = sum(line.word == "start" for line in rig.lines())
        summary = {
            "ended": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "minutes": round((time.monotonic() - began) / 60, 1),
            "python": platform.python_version(),
            "workers": WORKERS,
            "lease_seconds": LEASE,
            "jobs": len(rig.acked),
            "runs": starts,
            "rescues": len(rig.rescued()),
            "enqueues_refused_and_repeated": rig.refused,
            "replies_lost": proxy.hurt,
            "faults": dict(sorted(soak.faults.items())),
            "growth": {name: soak.growth(name) for name in soak.samples[0] if name != "second"} if soak.samples else {},
            "problems": problems,
        }
    write(summary)
    print(json.dumps(summary, indent=2))
    return 1 if problems else 0


def write(summary: dict[str, Any]) -> None:
    """As JSON, and as a paragraph of docs/guarantees.md."""
    path = Path(os.environ.get("SOAK_SUMMARY", PAGE.parent / "soak.json"))
    path.write_text(json.dumps(summary, indent=2) + "\n")
    growth = "\n".join(f"| {name} | {early} | {late} |" for name, (early, late) in summary["growth"].items())
    faults = ", ".join(f"{name} {count}" for name, count in summary["faults"].items())
    result = "no invariant was broken" if not summary["problems"] else "**broken**: " + "; ".join(summary["problems"])
    jobs = f"{summary['jobs']} jobs, {summary['runs']} runs, {summary['rescues']} rescues"
    refused = f"{summary['enqueues_refused_and_repeated']} enqueues refused and repeated"
    text = f"""The last one ended {summary["ended"]} after {summary["minutes"]} minutes (Python {summary["python"]}),
with
{summary["workers"]} workers and a lease of {summary["lease_seconds"]:g} s:
{jobs}, {refused}; {result}.

Faults: {faults}.

| Measured (median) | second quarter | last quarter |
|---|---|---|
{growth}"""
    PAGE.write_text(between(PAGE.read_text(), "soak", text))
    row = Results()
    row.add(
        "tests/faults/soak.py::test_42_soak", "failed" if summary["problems"] else "passed", summary["minutes"] * 60, []
    )
    write_tables(row)


if __name__ == "__main__":
    sys.exit(main())
