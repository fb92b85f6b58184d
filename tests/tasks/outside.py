"""A task in no ``tasks`` module: it runs nowhere, unless ROUTES names it."""

from __future__ import annotations

from tests.tasks.compat import task
from tests.tasks.sample.tasks import RAN


@task
def unlisted() -> None:
    RAN.append("unlisted")
