"""docs/tutorial.md, done word by word in a fresh project: the page is slow before and fast after."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import django
import pytest

from project.development.valkey import Valkey
from tests.browser.running import wait_until
from tests.docs.test_progress import Project

pytestmark = [pytest.mark.long]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
SLOW_SECONDS = 3


def parts() -> list[str]:
    """What comes before the first step, and the steps, as a reader of this Django reads them."""
    text = PAGE.read_text()
    if django.VERSION < (6,):  # as the page says
        text = text.replace("from django.tasks import", "from django_tasks import")
        text = text.replace('    "retrying",\n', '    "retrying",\n    "django_tasks",\n')
    return text.split("\n## ")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with ExitStack() as stack:
        valkey = Valkey(tmp_path / "valkey", appendonly=True)
        valkey.start()
        stack.callback(valkey.stop)
        directory = tmp_path / "project"
        directory.mkdir()
        yield stack.enter_context(Project(directory, valkey.url))


def ask(project: Project) -> tuple[int, dict[str, Any], float]:
    """Status, answer and seconds of the page."""
    began = time.monotonic()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{project.port}/report/", timeout=30) as answer:
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read()
    return status, json.loads(body), time.monotonic() - began


def command(project: Project, *words: str) -> Any:
    """What a command prints as JSON."""
    done = subprocess.run(
        [sys.executable, "manage.py", "retrying", *words, "--json"],
        cwd=project.directory, env=project.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def end_last_server(project: Project) -> None:
    server = project.servers.pop()
    server.terminate()
    server.wait(20)


def test_from_a_slow_page_to_a_stored_value(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    start, find, decide, broker, make, schedule, read = parts()
    try:
        project.follow(start)
        project.follow(find)
        wait_until(project.listens, f"runserver listens; {project.logs()}", 60)
        status, answer, seconds = ask(project)
        assert (status, answer["orders"]) == (200, 1234)
        assert seconds >= SLOW_SECONDS

        project.follow(decide)
        project.follow(broker)
        project.follow(make)
        project.follow(schedule)
        (listed,) = command(project, "schedule")
        assert (listed["name"], listed["line"], listed["catch_up"]) == ("report", "every 10 s", "last")
        # The reader starts worker and site again, which know of nothing new otherwise.
        end_last_server(project)
        project.type("python manage.py runworker tasks.default")
        wait_until(lambda: command(project, "schedule")[0]["last"], f"a slot became a job; {project.logs()}", 60)

        end_last = project.servers.pop(0)
        end_last.terminate()
        end_last.wait(20)
        project.follow(read)
        project.type("python manage.py runserver")
        wait_until(project.listens, f"runserver listens; {project.logs()}", 60)
        wait_until(lambda: ask(project)[0] == 200, f"the value is stored; {project.logs()}", 60)
        status, answer, seconds = ask(project)
        assert answer["orders"] == 1234
        assert seconds < SLOW_SECONDS / 2
        first = answer["as_of"]
        wait_until(lambda: ask(project)[1]["as_of"] > first, "the schedule keeps it fresh", 60)
    except BaseException:
        print(project.logs())
        raise
