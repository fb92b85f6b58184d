"""A server with room for thousands of sockets, and the users of these."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings

from project.development.valkey import Valkey
from tests.processes import ROOT
from tests.streams.parts import SETTINGS, Daphne, allow_many_files
from tests.streams.settings import RETRYING

DATABASE = "db.sqlite3"
MAKE_USERS = """
import django; django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
User.objects.bulk_create(User(pk=number, username=f"user-{number}") for number in range(1, 10_001))
"""


@pytest.fixture(scope="session")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with 10,000 of them: whether they may stay is asked again every minute."""
    directory = tmp_path_factory.mktemp("users")
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": SETTINGS, "VAR_DIR": str(directory), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-W", "ignore", "-c", MAKE_USERS], cwd=ROOT, env=env, timeout=60, check=True)
    return directory / DATABASE


@pytest.fixture
def daphne(tmp_path: Path, users: Path, valkey: Valkey) -> Iterator[Daphne]:
    """A server that the test starts. What this process enqueues has the limits of the rigs, too."""
    allow_many_files()
    shutil.copy(users, tmp_path / DATABASE)
    with override_settings(RETRYING=RETRYING):
        yield Daphne(tmp_path)
