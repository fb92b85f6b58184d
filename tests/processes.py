"""Real processes: started, signalled and killed by their pid; nothing outlives its block."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.conftest import wait_for

ROOT = Path(__file__).resolve().parent.parent


class Process:
    """A process whose output goes to ``log``; killed at the end of the block if still there."""

    def __init__(self, args: Sequence[str], *, log: Path, env: Mapping[str, str]) -> None:
        self.args = list(args)
        self.log = log
        self.env = dict(env)

    def __enter__(self) -> Self:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.args, env=self.env, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    @property
    def pid(self) -> int:
        return self.process.pid

    def text(self) -> str:
        """What it printed so far."""
        return self.log.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.process.kill()
        self.process.wait()

    def ended(self, timeout: float = 20) -> int:
        """Wait for its end and return the exit status."""
        return self.process.wait(timeout)


class RunWorker(Process):
    """``runworker`` of the project with these settings."""

    def __init__(self, settings: str, *args: str, log: Path, env: Mapping[str, str] | None = None) -> None:
        super().__init__(
            [sys.executable, "-W", "ignore", "-m", "django", "runworker", *args],
            log=log,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PYTHONUNBUFFERED": "1",
                **(env or {}),
                "DJANGO_SETTINGS_MODULE": settings,
            },
        )

    def ready(self) -> Self:
        """Wait until it consumes."""
        wait_for(lambda: self._alive() and "is ready" in self.text(), f"the worker is ready; it said: {self.text()}")
        return self

    def _alive(self) -> bool:
        assert self.process.poll() is None, f"the worker ended with {self.process.returncode}: {self.text()}"
        return True
