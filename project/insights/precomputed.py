"""``@precomputed``: a slow function runs in the background, and requests read the value that it left.

@task
@periodic(every=timedelta(minutes=5))
@precomputed("statistics")
def statistics(): ...slow...

read("statistics")  # in a view: one row, by its primary key
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import transaction
from django.utils import timezone

from .models import Precomputed


def precomputed(name: str) -> Callable[[Callable[[], Any]], Callable[[], None]]:
    """Let the function store what it computes (JSON) under ``name`` instead of returning it."""

    def decorate(compute: Callable[[], Any]) -> Callable[[], None]:
        @wraps(compute)
        def refresh() -> None:
            as_of, began = timezone.now(), time.monotonic()
            value = compute()
            _store(name, {"value": value, "as_of": as_of, "took_ms": round((time.monotonic() - began) * 1000)})

        return refresh

    return decorate


def read(name: str) -> Precomputed | None:
    """The newest value; None before the first one."""
    return Precomputed.objects.filter(pk=name).first()


def _store(name: str, found: dict[str, Any]) -> None:
    with transaction.atomic():
        _, made = Precomputed.objects.select_for_update().get_or_create(pk=name, defaults=found)
        if not made:
            Precomputed.objects.filter(pk=name, as_of__lt=found["as_of"]).update(**found)
