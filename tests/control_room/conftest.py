"""Clients of people who may do this or that in the control room."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from realtime.control_room import screens


@pytest.fixture(autouse=True)
def _nothing_shared_between_tests() -> None:
    screens.forget()


@pytest.fixture
def admin(db: None) -> Client:
    """The browser of somebody who may do everything."""
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


@pytest.fixture
def client_of(db: None) -> Callable[..., Client]:
    """Makes the browser of a staff member with some of the rights: view, manage, purge."""

    def make(*rights: str, staff: bool = True) -> Client:
        user = User.objects.create_user(f"user-{'-'.join(rights) or 'none'}-{staff}", is_staff=staff)
        names = [f"{right}_control_room" for right in rights]
        user.user_permissions.set(Permission.objects.filter(codename__in=names))
        client = Client()
        client.force_login(user)
        return client

    return make
