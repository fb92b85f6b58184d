"""``runworker --processes N``: a parent that only supervises; it imports no consumer and dials no server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from django.utils.autoreload import StatReloader

from . import reconnect

logger = logging.getLogger("retrying.worker")

#: In the environment of a supervised worker.
SUPERVISED = "RETRYING_SUPERVISED"
#: A worker that lived for so many seconds failed by itself, not by its start: it is replaced at once.
SETTLED_SECONDS = 10.0
#: Seconds beyond the shutdown timeout after which a worker that doesn't end is killed.
KILL_AFTER = 10.0
#: Exit status of a worker that wants to be started anew at once: recycled, or its code changed.
AGAIN = 3


class Supervisor:
    """Keeps ``count`` copies of this very command running, until SIGTERM or SIGINT; a second one hurries them."""

    def __init__(self, count: int, *, shutdown_timeout: float) -> None:
        self._count = count
        self._patience = shutdown_timeout + KILL_AFTER
        self._stopping = asyncio.Event()
        self._children: set[asyncio.subprocess.Process] = set()

    async def run(self) -> int:
        """The worst exit status of the last workers; 128 and the signal's number for one that was killed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        statuses = await asyncio.gather(*(self._keep(number) for number in range(1, self._count + 1)))
        return max(status if status >= 0 else 128 - status for status in statuses)

    def _stop(self) -> None:
        self._stopping.set()
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)

    async def _keep(self, number: int) -> int:
        failures = 0
        while True:
            began = time.monotonic()
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                *sys.orig_argv[1:],
                env={**os.environ, SUPERVISED: str(number)},
                stdin=subprocess.DEVNULL,
                # Ctrl-C in the terminal reaches the parent alone, which then asks each worker once.
                start_new_session=True,
            )
            self._children.add(child)
            if self._stopping.is_set():
                self._stop()
            logger.info("worker process %d of %d started pid=%d", number, self._count, child.pid)
            status = await self._watch(child)
            self._children.discard(child)
            if self._stopping.is_set():
                return 0 if status == -signal.SIGTERM else status  # it had not got as far as handling the signal
            failures = 0 if status == AGAIN or time.monotonic() - began > SETTLED_SECONDS else failures + 1
            logger.log(
                logging.INFO if status == AGAIN else logging.ERROR,
                "worker process %d ended with status %d; starting another", number, status,
            )  # fmt: skip
            if failures:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), reconnect.delay(failures))
                if self._stopping.is_set():
                    return 0

    async def _watch(self, child: asyncio.subprocess.Process) -> int:
        """Wait for its end; once stopping, kill it when it takes too long."""
        ended = asyncio.create_task(child.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        done, _ = await asyncio.wait([ended], timeout=self._patience)
        if not done:
            logger.error("worker pid=%d did not end within %s s: killed", child.pid, self._patience)
            child.kill()
        return await ended


def watch_code(changed: Callable[[Path], object]) -> None:
    """Call ``changed(file)`` once, from a thread, when a source file of a loaded module changes."""

    def watch() -> None:
        reloader = StatReloader()
        times: dict[Path, float] = {}
        while True:
            for file, modified in reloader.snapshot_files():
                if times.setdefault(file, modified) != modified:
                    changed(file)
                    return
            time.sleep(reloader.SLEEP_TIME)

    threading.Thread(target=watch, name="retrying-autoreload", daemon=True).start()
