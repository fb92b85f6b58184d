"""`python -m benchmarks.control_room`: what ten open pages of the control room cost a worker that drains a channel.

Rounds in turns with and without the pages, the site's web server running in both. The pages are sockets that ask for
the overview again as soon as they have been answered, as the page's script does, and read its charts every ten seconds.
Exit status 1: the worker was slowed by more than ALLOWED.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import Figure, Process, Server, cpu_seconds, interleaved, wait_until

ROUNDS = 5
BROWSERS = 10
JOBS = 100_000
CONCURRENCY = 100
ALLOWED = 0.05
CHANNEL = "noop"
HOST = "127.0.0.1"
CHARTS_SECONDS = 10.0
#: The rate is that of the jobs between these shares of all: the worker's start and its end are not in it.
FROM, TO = 0.05, 0.95

SIGN_IN = """
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.create_superuser("operator"))
print(client.cookies["sessionid"].value)
"""


class Web:
    """The example site's web server on a port of its own, and somebody signed in."""

    def __init__(self, directory: Path, redis_url: str, port: int) -> None:
        self.port = port
        self.env = {
            **os.environ,
            "ALLOWED_HOSTS": HOST,
            "DJANGO_DEBUG": "1",
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "REDIS_URL": redis_url,
            "VAR_DIR": str(directory),
        }
        self.env.pop("DATABASE_URL", None)
        self._manage("migrate", "--verbosity", "0")
        self.cookie = f"sessionid={self._manage('shell', '-v', '0', '-c', SIGN_IN).split()[-1]}"
        self.process = Process(
            [sys.executable, "-m", "daphne", "-v", "0", "-b", HOST, "-p", str(port), "asgi:application"],
            log=directory / "web.log",
            env=self.env,
        )

    def get(self, path: str) -> bytes:
        connection = HTTPConnection(HOST, self.port, timeout=10)
        try:
            connection.request("GET", path, headers={"Cookie": self.cookie})
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise RuntimeError(f"{path} was answered with {response.status}")
            return body
        finally:
            connection.close()

    def answers(self) -> bool:
        try:
            return bool(self.get("/jobs/"))
        except OSError:
            return False

    def _manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=True).stdout


async def look(port: int, cookie: str) -> None:
    """BROWSERS pages, until this process is told to end; prints how many parts all of them were given."""
    from websockets.asyncio.client import connect
    from websockets.typing import Origin

    parts = 0

    async def page() -> None:
        nonlocal parts
        address = f"ws://{HOST}:{port}/ws/control-room/"
        async with connect(
            address, origin=Origin(f"http://{HOST}:{port}"), additional_headers={"Cookie": cookie}
        ) as socket:
            seen = ""
            while True:
                await socket.send(json.dumps({"type": "look", "screen": "overview", "query": "", "seen": seen}))
                while (frame := json.loads(await socket.recv()))["type"] != "part":
                    if frame["type"] == "check":
                        await socket.send(json.dumps({"type": "checked", "n": frame["n"]}))
                seen = frame["digest"]
                parts += 1

    async def charts() -> None:
        while True:
            await asyncio.to_thread(_read_charts, port, cookie)
            await asyncio.sleep(CHARTS_SECONDS)

    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(15, stopped.set)
    tasks = [asyncio.create_task(work()) for _ in range(BROWSERS) for work in (page, charts)]
    await asyncio.wait([asyncio.create_task(stopped.wait()), *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done():
            task.result()
    print(parts, flush=True)


def _read_charts(port: int, cookie: str) -> None:
    connection = HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", "/jobs/series/?range=1h", headers={"Cookie": cookie})
        connection.getresponse().read()
    finally:
        connection.close()


@contextlib.contextmanager
def browsers(web: Web, directory: Path, count: int) -> Iterator[Path]:
    """The pages in a process of their own; its log, which ends with the parts that they were given."""
    log = directory / f"browsers-{time.monotonic_ns()}.log"
    if not count:
        yield log
        return
    with Process([sys.executable, "-m", __spec__.name, "look", str(web.port), web.cookie], log=log):
        time.sleep(2)  # all pages are open
        yield log


class Drained(NamedTuple):
    """``rate``: jobs a second; processor seconds: of the worker and of Redis for a job, of the web server a second;
    ``parts``: what all pages were given."""

    rate: float
    worker: float
    redis: float
    web: float
    parts: int


def drain(server: Server, directory: Path, web: Web, pages: int) -> Drained:
    """Let a worker drain JOBS while so many pages are open."""
    from retrying import enqueue_many, jobs, stats

    jobs.resume(CHANNEL)
    enqueue_many(CHANNEL, ({"type": "no.op", "n": number} for number in range(JOBS)))
    before = stats.channel(CHANNEL).totals.succeeded
    command = [sys.executable, "manage.py", "runworker", CHANNEL, "--concurrency", str(CONCURRENCY)]
    env = {"DJANGO_SETTINGS_MODULE": "benchmarks.noop.settings", "REDIS_URL": server.url}

    def done() -> int:
        return stats.channel(CHANNEL).totals.succeeded - before

    working = Process(command, log=directory / "worker.log", env=env)
    with browsers(web, directory, pages) as log, working as worker:
        pids = (worker.pid, server.pid, web.process.pid)
        wait_until(lambda: done() >= JOBS * FROM, 60, every=0.05)
        first, began, before_cpu = done(), time.perf_counter(), [cpu_seconds(pid) for pid in pids]
        wait_until(lambda: done() >= JOBS * TO, 120, every=0.05)
        last, took = done(), time.perf_counter() - began
        used = [cpu_seconds(pid) - then for pid, then in zip(pids, before_cpu, strict=True)]
        if not wait_until(lambda: done() >= JOBS, 60, every=0.05):
            raise RuntimeError(f"the worker did not end: {done()} of {JOBS}")
    parts = int(log.read_text().split()[-1]) if pages else 0
    count = last - first
    return Drained(count / took, used[0] / count, used[1] / count, used[2] / took, parts)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="bench-room-") as name, Server() as server:
        os.environ.update(DJANGO_SETTINGS_MODULE="benchmarks.noop.settings", REDIS_URL=server.url)
        import django

        django.setup()
        directory = Path(name)
        web = Web(directory, server.url, _free_port())
        found: dict[int, list[Drained]] = {0: [], BROWSERS: []}
        with web.process:
            if not wait_until(web.answers, 30, every=0.1):
                raise RuntimeError(f"the web server does not answer: {web.process.printed()}")
            drain(server, directory, web, 0)  # not counted: everything has been loaded once
            for number, pages in interleaved(ROUNDS, [0, BROWSERS]):
                one = drain(server, directory, web, pages)
                found[pages].append(one)
                print(
                    f"round {number}, {pages:2} pages: {one.rate:7,.0f} jobs/s; of a job: worker "
                    f"{one.worker * 1e6:.0f} us, Redis {one.redis * 1e6:.0f} us; web {one.web:.1%} of a core, "
                    f"{one.parts} parts"
                )
    closed, opened = (Figure.of([one.rate for one in found[pages]]) for pages in (0, BROWSERS))
    slower = 1 - opened.median / closed.median
    print(
        f"median: {closed.median:,.0f}/s without, {opened.median:,.0f}/s with {BROWSERS} pages: {slower:.1%} slower "
        f"(spread {closed.spread:.0%}, {opened.spread:.0%})"
    )
    return int(slower > ALLOWED)


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    if sys.argv[1:2] == ["look"]:
        asyncio.run(look(int(sys.argv[2]), sys.argv[3]))
    else:
        sys.exit(main())
