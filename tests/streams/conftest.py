"""A server with room for thousands of sockets, and the users of these."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings

from project.development.valkey import Valkey
from tests.streams.parts import Daphne, allow_many_files, make_users
from tests.streams.settings import RETRYING


@pytest.fixture(scope="session")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with 10,000 of them: whether they may stay is asked again every minute."""
    return make_users(tmp_path_factory.mktemp("users"))


@pytest.fixture
def daphne(tmp_path: Path, users: Path, valkey: Valkey) -> Iterator[Daphne]:
    """A server that the test starts. What this process enqueues has the limits of the rigs, too."""
    allow_many_files()
    shutil.copy(users, tmp_path / users.name)
    with override_settings(RETRYING=RETRYING):
        yield Daphne(tmp_path)
