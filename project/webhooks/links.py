"""One-time sign-in links: signed, short-lived, and worth nothing after the next sign-in of their user."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.core import signing
from django.urls import reverse
from django.utils import timezone

SALT = "project.webhooks.sign_in_link"


class LinkProblem(Exception):
    """The link doesn't sign anybody in. The text is for the person who followed it."""


def make_link(user: AbstractBaseUser) -> str:
    """A link that signs ``user`` in once, within SIGN_IN_LINK_SECONDS."""
    token = signing.dumps({"user": user.pk, "stamp": _stamp(user)}, salt=SALT)
    return settings.SITE_ORIGIN + reverse("sign-in-link", args=[token])


def redeem(token: str) -> AbstractBaseUser:
    """The user that the link signs in; it works for one caller only. Raises LinkProblem."""
    try:
        data = signing.loads(token, salt=SALT, max_age=settings.SIGN_IN_LINK_SECONDS)
    except signing.SignatureExpired:
        minutes = settings.SIGN_IN_LINK_SECONDS // 60
        raise LinkProblem(f"This link has expired: it was good for {minutes} minutes.") from None
    except signing.BadSignature:
        raise LinkProblem("This is not a complete sign-in link.") from None
    user = get_user_model()._default_manager.filter(pk=data["user"], is_active=True).first()
    if user is not None and _stamp(user) == data["stamp"] and _claim(user):
        return user
    raise LinkProblem("This link was used already, or its user signed in by another one.")


def _claim(user: AbstractBaseUser) -> bool:
    """Use the link up. Two that follow it at the same moment: this update has one winner."""
    unchanged = type(user)._default_manager.filter(pk=user.pk, last_login=user.last_login)
    return bool(unchanged.update(last_login=timezone.now()))


def _stamp(user: AbstractBaseUser) -> str:
    return user.last_login.isoformat() if user.last_login else ""
