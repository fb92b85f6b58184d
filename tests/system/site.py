"""A whole site in processes of its own, started as `make run` starts it."""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from tests.conftest import wait_for
from tests.processes import ROOT, Process

#: What a developer's shell, or the test run itself, may have set and a site of its own must not see.
SITE_VARIABLES = re.compile(
    r"(REDIS_URL|DATABASE_URL|SITE_ORIGIN|VAR_DIR|HOST|PORT|WEBHOOK_RECEIVER_ORIGIN|ALLOWED_HOSTS|PYTHON|VENV|MAKE.*|DJANGO_.*)"
)
SHORT = {"LEASE_SECONDS": "2", "SWEEP_SECONDS": "0.5"}


def environment(var: Path, **more: str) -> dict[str, str]:
    """Variables for a site with its data in ``var``, on a free port unless ``more`` says another."""
    kept = {name: value for name, value in os.environ.items() if not SITE_VARIABLES.fullmatch(name)}
    return {**kept, **SHORT, "VAR_DIR": str(var), "PORT": "0", **more}


class Site(Process):
    """``python -m project.development.run`` with its data in ``var``; killed at the end of the block if still there."""

    def __init__(self, var: Path, *, command: list[str] | None = None, **variables: str) -> None:
        var.mkdir(exist_ok=True)
        super().__init__(
            command or [sys.executable, "-m", "project.development.run"],
            log=var.with_name(f"{var.name}.log"),
            env=environment(var, **variables),
        )
        self.var = var

    def says(self, pattern: str, *, times: int = 1) -> str:
        """Wait until its log matches ``pattern`` for the ``times``-th time; that match's first group, or all of it."""

        def found() -> list[str]:
            matches = [match.groups()[0] if match.groups() else match[0] for match in re.finditer(pattern, self.text())]
            if len(matches) < times and self.process.poll() is not None:
                raise AssertionError(f"it ended without saying {pattern!r}; it said:\n{self.text()}")
            return matches[times - 1 :]

        return str(wait_for(found, f"the site says {pattern!r}; its log is {self.log}")[0])

    def ready(self, *, starts: int = 1) -> str:
        """Wait until it is ready and has printed the link to its page; the site's origin."""
        self.says(r"ready after [\d.]+ s", times=starts)
        self.says("for a fresh link", times=starts)
        return self.says(r"page +\| (http://[^/]+)/sign-in/\S+", times=starts)

    def parts(self) -> dict[str, int]:
        """Process ids of everything that this process has started, by what it runs."""
        return {command: pid for pid, command in descendants(self.pid).items()}


def get(origin: str, path: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a page, asked for without any proxy."""
    connection = http.client.HTTPConnection(origin.removeprefix("http://"), timeout=20)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def descendants(parent: int) -> dict[int, str]:
    """All living processes under ``parent``: process id -> what it runs (valkey, sweep, web, worker, or a command)."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = status.read_text().split(" (", 1)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        children.setdefault(int(rest.rpartition(") ")[2].split()[1]), []).append(int(pid))
    found: dict[int, str] = {}
    waiting = children.get(parent, [])
    while waiting:
        pid = waiting.pop()
        if alive(pid):
            found[pid] = _what(pid)
        waiting += children.get(pid, [])
    return found


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and is only not yet collected by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def none_alive(pids: list[int]) -> None:
    """Wait until all of these processes are gone."""
    wait_for(lambda: not any(map(alive, pids)), f"all of the processes {pids} are gone")


def manage(site: Site, *arguments: str) -> str:
    """The output of a command of ``manage.py``, typed in another terminal: it knows VAR_DIR only."""
    log = site.var.with_name("manage.log")
    log.unlink(missing_ok=True)
    with Process([sys.executable, "manage.py", *arguments], log=log, env=environment(site.var)) as command:
        status = command.ended(60)
        assert status == 0, command.text()
        return command.text()


def _what(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    for name, mark in (
        ("valkey", "valkey-server"),
        ("sweep", "sweep_deliveries"),
        ("web", "daphne"),
        ("reports", "tasks.reports"),
        ("worker", "runworker"),
    ):
        if any(mark in word for word in words):
            return name
    return " ".join(words).strip()


__all__ = ["ROOT", "Site", "alive", "descendants", "environment", "get", "manage", "none_alive"]
