"""What a worker is given beside the ASGI application; shared by ``runworker`` and ``run_until_idle``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import django
from django.apps import apps

if TYPE_CHECKING:
    from ..routes import Route


def routes_for(channels: Iterable[str], layer_alias: str) -> dict[str, Route]:
    """How to run those of ``channels`` that hold Django's tasks."""
    if django.VERSION < (6,) and not apps.is_installed("django_tasks"):
        return {}
    from ..backends.running import task_routes

    return task_routes(channels, layer_alias)
