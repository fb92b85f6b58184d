"""No table: what people may do in the control room, as permissions of Django's."""

from __future__ import annotations

from django.db import models


class ControlRoom(models.Model):
    """Carries the permissions ``realtime.view_control_room``, ``manage_control_room`` and ``purge_control_room``."""

    class Meta:
        managed = False
        default_permissions = ()
        permissions = [
            ("view_control_room", "Can see jobs, their arguments and errors, workers and schedules"),
            ("manage_control_room", "Can retry, cancel and redrive jobs, and pause channels and schedules"),
            ("purge_control_room", "Can delete jobs that have ended"),
        ]
        verbose_name = "control room"
        verbose_name_plural = "control room"

    def __str__(self) -> str:
        return "control room"
