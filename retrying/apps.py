"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig


class RetryingConfig(AppConfig):
    """Registers the system checks."""

    name = "retrying"
    verbose_name = "Jobs"

    def ready(self) -> None:
        from . import checks  # noqa: F401  (registers them)
