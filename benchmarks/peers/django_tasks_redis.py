"""django-tasks-redis: a backend of django.tasks on a stream."""

# /// script
# requires-python = ">=3.12"
# dependencies = ["Django==6.1.3", "django-tasks-redis==0.4.0", "redis[hiredis]==8.1.0"]
#
# [tool.benchmark]
# packages = ["django-tasks-redis", "Django", "redis"]
# after_kill = "back after 300 s"
# survives = true
#
# [tool.benchmark.variants.default]
# settings = "one worker, which runs one task at a time"
# concurrency = 1
# jobs = 1800
# rounds = 1
# pace = 10.0
#
# [tool.benchmark.variants.claiming]
# settings = "REDIS_CLAIM_TIMEOUT 10 s (default 300), --claim-interval 5"
# concurrency = 1
# measures = ["crash"]
# default = false
# ///

import os
from collections.abc import Iterator
from contextlib import contextmanager

import django
from django.conf import settings
from django.core.management import call_command

from benchmarks import effects
from benchmarks.roles import Sender, redis_url

CLAIMING = os.environ["BENCH_VARIANT"] == "claiming"
OPTIONS = {"REDIS_URL": redis_url(), **({"REDIS_CLAIM_TIMEOUT": 10} if CLAIMING else {})}
settings.configure(
    SECRET_KEY="for benchmarks only",
    USE_TZ=True,
    INSTALLED_APPS=["django_tasks_redis"],
    TASKS={"default": {"BACKEND": "django_tasks_redis.RedisTaskBackend", "OPTIONS": OPTIONS}},
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
    yield Sender(lambda kind, n: TASKS[kind].enqueue(n=n))


def work(variant: str) -> None:
    options = {"claim_interval": 5} if CLAIMING else {}
    call_command("run_redis_tasks", continuous=True, verbosity=0, **options)
