"""The example's task module, unchanged, on Django's own backend, on django-tasks-db, and on this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import django
import pytest

from tests.processes import ROOT

OWN = "django.tasks" if django.VERSION >= (6,) else "django_tasks"
IMMEDIATE = f"{OWN}.backends.immediate.ImmediateBackend"
DATABASE = "django_tasks_db.DatabaseBackend"
RETRYING = "retrying.backends.RetryingBackend"

#: Sync and async, with @retry and @periodic under @task, on two queues.
STORY = """
import json, sys, django
django.setup()
from django.core.management import call_command
from project.insights import tasks
from project.insights.models import Forecast

row = Forecast.objects.create(deliveries=10)
results = [tasks.aggregate_deliveries.enqueue(), tasks.poll_feed.enqueue(), tasks.make_forecast.enqueue(row.pk)]
if sys.argv[1] == "db":
    call_command("db_worker", batch=True, queue_name="*", startup_delay=False, interval=0, verbosity=0)
elif sys.argv[1] == "own":
    from retrying.testing import run_until_idle
    run_until_idle("tasks.default", "tasks.reports")
if sys.argv[1]:
    for result in results:
        result.refresh()
row.refresh_from_db()
print(json.dumps([[str(result.status), result.return_value, result.attempts] for result in results]
                 + [row.finished_at is not None and row.result is not None]))
"""


def told(backend: str, how: str, directory: Path, redis_url: str, path: Path | None = None) -> object:
    """What the story prints."""
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.tasks.portable_settings",
        "TASKS_BACKEND": backend,
        "VAR_DIR": str(directory),
        "DATABASE_URL": f"sqlite:///{directory / 'db.sqlite3'}",
        "REDIS_URL": redis_url,
        "PYTHONPATH": os.pathsep.join(str(item) for item in (ROOT, path) if item),
    }
    for command in (["-m", "django", "migrate", "--verbosity", "0"], ["-c", STORY, how]):
        ran = subprocess.run(
            [sys.executable, *command], env=env, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
        )
        assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


#: A day of quarters added up, a feed that isn't set, a forecast made.
EXPECTED = [["SUCCESSFUL", 96, 1], ["SUCCESSFUL", 0, 1], ["SUCCESSFUL", None, 1], True]


@pytest.mark.parametrize(("backend", "how"), [(IMMEDIATE, ""), (RETRYING, "own")])
def test_the_same_tasks_here_and_there(backend: str, how: str, tmp_path: Path, redis_url: str) -> None:
    assert told(backend, how, tmp_path, redis_url) == EXPECTED


@pytest.mark.long
def test_the_same_tasks_on_the_database(tmp_path: Path, redis_url: str) -> None:
    packages = tmp_path / "packages"
    wanted = ["django-tasks-db>=0.13", "django-stubs-ext", "typing-extensions"]  # without another Django
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages), *wanted]
    subprocess.run(install, check=True, timeout=100)
    assert told(DATABASE, "db", tmp_path, redis_url, packages) == EXPECTED
