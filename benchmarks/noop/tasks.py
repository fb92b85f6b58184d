"""Django's tasks, one for each way in which they are run."""

from __future__ import annotations

import django

if django.VERSION >= (6,):
    from django.tasks import task
else:
    from django_tasks import task  # type: ignore[no-redef]


@task
async def no_op() -> None:
    pass


@task
def no_op_sync() -> None:
    pass
