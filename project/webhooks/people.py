"""The users of the command line: by name, made on first use."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser

DEFAULT_NAME = "developer"


def get_or_make_user(name: str) -> AbstractBaseUser:
    """The user of this name. A new one has no password (sign-in links are its way in) and may do everything with DEBUG
    only: then it is somebody's own machine."""
    model = get_user_model()
    user, made = model._default_manager.get_or_create(
        **{model.USERNAME_FIELD: name}, defaults={"is_staff": settings.DEBUG, "is_superuser": settings.DEBUG}
    )
    if made:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    return user


def make_admin(user: AbstractBaseUser) -> None:
    """Let the user into the admin and the control room, with every right."""
    user.is_staff = user.is_superuser = True
    user.save(update_fields=["is_staff", "is_superuser"])
