"""The users of the command line: by name, made on first use."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser

DEFAULT_NAME = "developer"


def get_or_make_user(name: str) -> AbstractBaseUser:
    """The user of this name. A new one has no password (sign-in links are its way in) and is staff with DEBUG only."""
    model = get_user_model()
    user, made = model._default_manager.get_or_create(
        **{model.USERNAME_FIELD: name}, defaults={"is_staff": settings.DEBUG}
    )
    if made:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    return user
