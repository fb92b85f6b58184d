"""threadmill: a backend of django.tasks. Releases since 0.4 need Python 3.14; on older ones 0.3 runs."""

# /// script
# requires-python = ">=3.12"
# dependencies = [
#     "Django==6.1.3",
#     "threadmill[redis]==0.8.4; python_version >= '3.14'",
#     "threadmill==0.3.1; python_version < '3.14'",
#     "redis[hiredis]==8.1.0",
# ]
#
# [tool.benchmark]
# packages = ["threadmill", "Django", "redis"]
# after_kill = "failed after its lease (1 h)"
#
# [tool.benchmark.variants.threads]
# settings = "one worker process, 1 thread (100 for the sleeps)"
# concurrency = 1
# jobs = 5000
# rounds = 1
# sleep_concurrency = 100
# ///

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import django
from django.conf import settings
from django.core.management import call_command

from benchmarks import effects
from benchmarks.roles import Sender, concurrency, redis_url

settings.configure(
    SECRET_KEY="for benchmarks only",
    USE_TZ=True,
    INSTALLED_APPS=["threadmill"],
    TASKS={"default": {"BACKEND": "threadmill.backends.redis.RedisTaskBackend", "REDIS_URL": redis_url()}},
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
    import threadmill.executor

    threadmill.executor.logger.setLevel(logging.ERROR)  # two records a task otherwise
    call_command("threadmill", "worker", workers=1, threads=concurrency(), verbosity=0)
