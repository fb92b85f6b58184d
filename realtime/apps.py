"""The Django app: static files (client.js) and the sign-out signal."""

from __future__ import annotations

from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    name = "realtime"
    verbose_name = "Realtime"

    def ready(self) -> None:
        from . import sessions

        sessions.connect_signal()
