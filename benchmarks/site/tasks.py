"""The same as tasks of Django."""

from benchmarks import effects

try:
    from django.tasks import task
except ImportError:  # Django 5.2
    from django_tasks import task


@task
async def anoop(n):
    await effects.anoop(n)


@task
async def aspin(n):
    await effects.aspin(n)


@task
async def asleep(n):
    await effects.asleep(n)


@task
def noop(n):
    effects.noop(n)


@task
def sleep(n):
    effects.sleep(n)


ASYNC = {"noop": anoop, "spin": aspin, "sleep": asleep}
SYNC = {"noop": noop, "sleep": sleep}
