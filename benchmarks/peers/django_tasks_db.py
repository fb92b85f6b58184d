"""django-tasks-db: a backend of django.tasks in the database, here SQLite in WAL mode."""

# /// script
# requires-python = ">=3.12"
# dependencies = ["Django==6.1.3", "django-tasks-db==0.13.0"]
#
# [tool.benchmark]
# packages = ["django-tasks-db", "Django"]
# after_kill = "stays running for ever"
# on_redis = false
#
# [tool.benchmark.variants.default]
# settings = "SQLite in WAL mode, its file in memory, polls each 0.1 s (default 1 s)"
# concurrency = 1
# jobs = 900
# rounds = 1
# pace = 10.0
# ///

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command

from benchmarks import effects
from benchmarks.roles import Sender

DATABASE = Path(os.environ["BENCH_DIRECTORY"]) / "tasks.sqlite3"
settings.configure(
    SECRET_KEY="for benchmarks only",
    USE_TZ=True,
    INSTALLED_APPS=["django_tasks_db"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DATABASE,
            "OPTIONS": {
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            },
        }
    },
    TASKS={"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}},
    LOGGING={"version": 1, "loggers": {"django_tasks_db": {"level": "ERROR"}}},
)
django.setup()

from django.tasks import task  # noqa: E402 - needs the settings


@task
def noop(n):
    effects.noop(n)


@task
def sleep(n):
    effects.sleep(n)


@task
def crash(n):
    effects.crash(n)


TASKS = {"noop": noop, "sleep": sleep, "crash": crash}


@contextmanager
def producer() -> Iterator[Sender]:
    call_command("migrate", verbosity=0)
    yield Sender(lambda kind, n: TASKS[kind].enqueue(n=n))


def work(variant: str) -> None:
    call_command("migrate", verbosity=0)
    call_command("db_worker", interval=0.1, startup_delay=False, reload=False, verbosity=0)
