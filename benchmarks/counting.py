"""What statistics and metrics cost: the same drain with and without the scripts' counting, and while it is scraped.

``python -m benchmarks.counting``: medians of five interleaved runs, for jobs in batches and one at a time; about three
minutes. Run it where nothing else runs. "off" are the same scripts with the functions that count emptied: there is no
such setting. A child process of this module does each drain.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure, Server, cpu_seconds, interleaved

ROUNDS = 5
MODES = ("on", "off", "scraped")
#: Jobs, and how many run at a time.
LOADS = ((30_000, 100), (5_000, 1))
#: Much more often than any Prometheus asks.
SCRAPE_SECONDS = 1.0
EMPTIED = ("tally", "tally_time", "record")


def main() -> None:
    """Print a table."""
    for jobs, concurrency in LOADS:
        found: dict[str, list[tuple[float, float, float]]] = {mode: [] for mode in MODES}
        for _, mode in interleaved(ROUNDS, MODES):
            with Server() as server:
                found[mode].append(_child(server, mode, jobs, concurrency))
        print(f"\n{jobs} jobs, {concurrency} at a time     jobs/s  spread   worker us/job   server us/job")
        base = Figure.of([rate for rate, _, _ in found["off"]]).median
        for mode in MODES:
            rate, worker, server_cpu = (Figure.of(values) for values in zip(*found[mode], strict=True))
            print(
                f"{mode:8} {rate.median / base - 1:+7.1%} {rate.median:18.0f} {rate.spread:7.1%}"
                f"{worker.median:15.1f} {server_cpu.median:15.1f}"
            )


def _child(server: Server, mode: str, jobs: int, concurrency: int) -> tuple[float, float, float]:
    """Jobs a second, and processor time of worker and server (microseconds a job)."""
    before = cpu_seconds(server.pid)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.counting", mode, str(jobs), str(concurrency), str(server.pid)],
        env={**os.environ, "REDIS_URL": server.url, "DJANGO_SETTINGS_MODULE": "tests.plain.durable_settings"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode or cpu_seconds(server.pid) <= before:
        raise RuntimeError(f"the drain failed: {done.stderr[-2000:]}")
    rate, worker, server_cpu = json.loads(done.stdout.splitlines()[-1])
    return rate, worker, server_cpu


def drain(mode: str, jobs: int, concurrency: int, server_pid: int) -> None:
    """Enqueue and drain; prints what ``_child`` reads."""
    import django

    django.setup()
    if mode == "off":
        _stop_counting()
    from retrying import enqueue_many
    from retrying.probes import Probes

    enqueue_many("work", ({"type": "work.do"} for _ in range(jobs)))
    if mode != "scraped":
        print(json.dumps(asyncio.run(_drain(jobs, concurrency, server_pid))))
        return
    with Probes("127.0.0.1", 0, [Path("heartbeat")]) as probes:
        scraper = subprocess.Popen([sys.executable, "-c", _SCRAPER, str(probes.port), str(SCRAPE_SECONDS)])
        try:
            print(json.dumps(asyncio.run(_drain(jobs, concurrency, server_pid))))
        finally:
            scraper.kill()
            scraper.wait()


_SCRAPER = """
import sys, time, urllib.request
while True:
    urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/metrics").read()
    time.sleep(float(sys.argv[2]))
"""


async def _drain(jobs: int, concurrency: int, server_pid: int) -> tuple[float, float, float]:
    from channels.consumer import AsyncConsumer
    from channels.routing import ChannelNameRouter, ProtocolTypeRouter

    from retrying.layers import get_layer
    from retrying.worker import Worker

    class Work(AsyncConsumer):  # type: ignore[misc, unused-ignore]
        async def work_do(self, message: dict[str, Any]) -> None:
            pass

    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    left = jobs

    def on_end(*_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            ended.set()

    consumer: Any = Work
    layer: Any = get_layer()
    application = ProtocolTypeRouter({"channel": ChannelNameRouter({"work": consumer.as_asgi()})})
    worker = Worker(application, {"work": concurrency}, layer, on_end=on_end)
    began, own, server = loop.time(), cpu_seconds(os.getpid(), below=False), cpu_seconds(server_pid)
    task = asyncio.create_task(worker.run())
    await ended.wait()
    seconds = loop.time() - began
    own, server = cpu_seconds(os.getpid(), below=False) - own, cpu_seconds(server_pid) - server
    worker.stop()
    await task
    await layer.close_pools()
    return jobs / seconds, own / jobs * 1e6, server / jobs * 1e6


def _stop_counting() -> None:
    """Empty the functions that count, in every script that is loaded from now on."""
    import retrying.store
    from retrying.store import scripts

    whole = scripts.script

    @cache
    def silent(name: str, package: str = scripts.__package__) -> scripts.Script:
        text = whole(name, package).text
        for function in EMPTIED:
            pattern = rf"^local function {function}\(.*?^end\n"
            text = re.sub(pattern, f"local function {function}() end\n", text, flags=re.MULTILINE | re.DOTALL)
        return scripts.Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    retrying.store.script = silent  # type: ignore[attr-defined]


if __name__ == "__main__":
    if sys.argv[1:]:
        drain(sys.argv[1], *(int(word) for word in sys.argv[2:]))
    else:
        main()
