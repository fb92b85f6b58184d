"""What Django tells of users who lose something, or may have: their sockets are told at once."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.db.models.signals import m2m_changed, post_delete, post_save

from . import sessions


def connect() -> None:
    """Connect the signals; models are loaded by now. Connecting twice is connecting once."""
    user_logged_out.connect(_logged_out, dispatch_uid="realtime.logged_out")
    user = get_user_model()
    post_save.connect(_saved, sender=user, dispatch_uid="realtime.saved")
    post_delete.connect(_deleted, sender=user, dispatch_uid="realtime.deleted")
    for name in ("groups", "user_permissions"):
        if field := getattr(user, name, None):  # a project's own user may have neither
            m2m_changed.connect(_lost_some, sender=field.through, dispatch_uid=f"realtime.{name}")


def _logged_out(sender: Any, request: Any, **_: Any) -> None:
    if key := getattr(getattr(request, "session", None), "session_key", None):
        sessions.end_session(key)


def _saved(sender: Any, instance: Any, created: bool, update_fields: Any, **_: Any) -> None:
    """What makes somebody staff, or no longer, is a field of the user. A sign-in saves nothing but its time."""
    if not created and set(update_fields or ()) != {"last_login"}:
        sessions.recheck(instance)


def _deleted(sender: Any, instance: Any, **_: Any) -> None:
    sessions.sign_out(instance)


def _lost_some(sender: Any, instance: Any, *, action: str, reverse: bool, model: Any, pk_set: Any, **_: Any) -> None:
    """A user has left groups or lost permissions, or (``reverse``) a group or a permission has lost users."""
    if action not in ("post_remove", "post_clear"):
        return
    users = [model(pk=key) for key in pk_set or ()] if reverse else [instance]
    for user in users:
        sessions.recheck(user)
