"""django-tasks-rq: a backend of django.tasks on RQ."""

# /// script
# requires-python = ">=3.12"
# dependencies = ["Django==6.1.3", "django-tasks-rq==0.12.0", "redis[hiredis]==8.1.0"]
#
# [tool.benchmark]
# packages = ["django-tasks-rq", "rq", "Django", "redis"]
# after_kill = "held until the job's timeout, then failed"
#
# [tool.benchmark.variants.simple]
# settings = "rq's SimpleWorker (no fork)"
# concurrency = 1
# jobs = 600
# rounds = 1
# pace = 10.0
# ///

from collections.abc import Iterator
from contextlib import contextmanager

import django
from django.conf import settings
from django.core.management import call_command

from benchmarks import effects
from benchmarks.roles import Sender, redis_url

settings.configure(
    SECRET_KEY="for benchmarks only",
    USE_TZ=True,
    INSTALLED_APPS=["django_tasks_rq", "django_rq"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    RQ_QUEUES={"default": {"URL": redis_url()}},
    TASKS={"default": {"BACKEND": "django_tasks_rq.RQBackend"}},
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
    call_command("rqworker", "default", worker_class="rq.SimpleWorker", job_class="django_tasks_rq.Job", verbosity=0)
