"""Clients of people who may do this or that in the control room."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
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
