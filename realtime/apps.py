"""The Django app: static files (client.js), and Django's signals about users."""

from __future__ import annotations

from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    name = "realtime"
    verbose_name = "Realtime"

    def ready(self) -> None:
        from . import signals

        signals.connect()
