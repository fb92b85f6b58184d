"""Parts and their supervisor, on small programs in place of the site's."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from project.development.supervisor import Part, PartError, Supervisor, ending
from tests.conftest import await_for
from tests.system.site import alive

SLEEPS = "import time; print('up', flush=True); time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


class Log:
    """Remembers the lines of all parts, `name: line`."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, name: str, line: str) -> None:
        self.lines.append(f"{name}: {line}")

    async def has(self, line: str, times: int = 1) -> None:
        await await_for(lambda: self.lines.count(line) >= times, f"the log has {line!r} {times} times")


@pytest.fixture
def log() -> Log:
    return Log()


def part(name: str, program: str, log: Log, *, stop_seconds: float = 10.0) -> Part:
    return Part(name, [sys.executable, "-c", program], os.environ, stop_seconds=stop_seconds, log=log)


async def test_the_last_part_started_is_the_first_one_stopped(log: Log) -> None:
    says_when_it_ends = (
        "import signal, sys, time\n"
        "def end(*_): print('ends', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('up', flush=True); time.sleep(60)"
    )
    async with Supervisor() as supervisor:
        for name in ("store", "web", "worker"):
            await supervisor.start(part(name, says_when_it_ends, log))
            await log.has(f"{name}: up")
    assert log.lines[3:] == ["worker: ends", "web: ends", "store: ends"]


async def test_a_part_that_ends_by_itself_is_started_again_with_growing_pauses(log: Log) -> None:
    async with Supervisor() as supervisor:
        crashing = part("web", "import sys; print('no newline at the end', end=''); sys.exit(3)", log)
        await supervisor.start(crashing)
        await log.has("web: crashed (exit code 3), is started again in 0.5 s")
        await log.has("web: crashed (exit code 3), is started again in 1 s")
        assert log.lines.count("web: no newline at the end") == 2
    assert crashing.pid == 0
    assert crashing.starts == 2, "a stop during the pause starts nothing more"


async def test_a_killed_part_is_named_with_its_signal(log: Log) -> None:
    async with Supervisor() as supervisor:
        worker = part("worker", SLEEPS, log)
        await supervisor.start(worker)
        await log.has("worker: up")
        first = worker.pid
        worker.signal(signal.SIGKILL)
        await log.has("worker: crashed (SIGKILL), is started again in 0.5 s")
        await log.has("worker: up", times=2)
        assert worker.pid not in {0, first}


async def test_a_part_that_ignores_sigterm_is_killed(log: Log) -> None:
    deaf = part("worker", DEAF, log, stop_seconds=0.2)
    async with Supervisor() as supervisor:
        await supervisor.start(deaf)
        await log.has("worker: up")
        pid = deaf.pid
    assert not alive(pid)
    assert log.lines[-1] == "worker: still here 0.2 s after SIGTERM: killed"


async def test_hurry_signals_the_part_that_is_being_stopped_once_more(log: Log) -> None:
    ends_at_the_second = (
        "import signal, sys, time\n"
        "def first(*_): signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print('once', flush=True)\n"
        "signal.signal(signal.SIGTERM, first); print('up', flush=True)\n"
        "while True: time.sleep(60)"
    )
    supervisor = Supervisor()
    async with supervisor:
        await supervisor.start(part("worker", ends_at_the_second, log, stop_seconds=30))
        await log.has("worker: up")

        async def hurry() -> None:
            await log.has("worker: once")
            supervisor.hurry()

        hurrying = asyncio.create_task(hurry())
    await hurrying
    assert log.lines == ["worker: up", "worker: once"]


async def test_what_a_part_prints_is_copied_line_by_line_whatever_it_is(log: Log) -> None:
    program = r"import sys; sys.stdout.buffer.write(b'a' * 200_000 + b'\nnot \xff utf-8\r\n\nlast')"
    await part("setup", program, log).run()
    assert log.lines == [
        "setup: " + "a" * 200_000,
        "setup: not \N{REPLACEMENT CHARACTER} utf-8",
        "setup: ",
        "setup: last",
    ]


async def test_a_command_that_fails_stops_the_start(log: Log) -> None:
    with pytest.raises(PartError, match=r"^setup failed \(exit code 1\): what it said is above$"):
        await part("setup", "import sys; sys.exit('no database')", log).run()
    assert log.lines == ["setup: no database"]


async def test_a_cancelled_command_takes_its_process_with_it(log: Log) -> None:
    setup = part("setup", SLEEPS, log)
    running = asyncio.create_task(setup.run())
    await log.has("setup: up")
    pid = setup.pid
    running.cancel()
    await asyncio.wait({running})
    assert not alive(pid)


async def test_a_part_dies_with_a_killed_supervisor(tmp_path: Path) -> None:
    program = tmp_path / "supervisor.py"
    program.write_text(
        "import asyncio, os, sys\n"
        "from project.development.supervisor import Part, Supervisor\n"
        "async def main():\n"
        "    async with Supervisor() as supervisor:\n"
        f"        command = [sys.executable, '-c', {DEAF!r}]\n"
        "        part = Part('deaf', command, os.environ, log=lambda _, line: print(part.pid))\n"
        "        await supervisor.start(part)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "PYTHONUNBUFFERED": "1"}  # noqa: PTH109
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, str(program), env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert supervisor.stdout is not None
    pid = int(await supervisor.stdout.readline())
    supervisor.kill()
    await supervisor.wait()
    await await_for(lambda: not alive(pid), "the part is gone")


@pytest.mark.parametrize(
    ("returncode", "words"),
    [(0, "exit code 0"), (3, "exit code 3"), (-9, "SIGKILL"), (-15, "SIGTERM"), (-64, "SIGRTMAX")],
)
def test_endings_in_words(returncode: int, words: str) -> None:
    assert ending(returncode) == words
