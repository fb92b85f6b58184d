"""What the site reads from its environment, and how it starts when something of that is wrong."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from project.environment import Environment, kept_secret_key
from tests.processes import ROOT

SHOW = "from django.conf import settings as s; print(s.DEBUG, s.SESSION_COOKIE_SECURE, s.REDIS_URL, s.SITE_ORIGIN)"
SHOW_RECEIVERS = "from django.conf import settings as s; print(repr(s.WEBHOOK_RECEIVER_ORIGIN))"


def shown(code: str, var: Path, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "DJANGO_SETTINGS_MODULE": "project.settings", "VAR_DIR": str(var)} | env
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_the_defaults_are_safe(tmp_path: Path) -> None:
    assert shown(SHOW, tmp_path).stdout == "False True redis://127.0.0.1:6379/0 http://127.0.0.1:8000\n"


def test_the_receivers_origin_counts_with_debug_only(tmp_path: Path) -> None:
    origin = {"WEBHOOK_RECEIVER_ORIGIN": "http://127.0.0.1:9/"}
    assert shown(SHOW_RECEIVERS, tmp_path, **origin).stdout == "''\n"
    assert shown(SHOW_RECEIVERS, tmp_path, DJANGO_DEBUG="1", **origin).stdout == "'http://127.0.0.1:9'\n"


def test_a_second_terminal_finds_the_running_site(tmp_path: Path) -> None:
    lines = "REDIS_URL=redis://127.0.0.1:9/0\nDJANGO_DEBUG=1\nSITE_ORIGIN=http://127.0.0.1:8001\n"
    (tmp_path / "environment").write_text(lines)
    assert shown(SHOW, tmp_path).stdout == "True False redis://127.0.0.1:9/0 http://127.0.0.1:8001\n"
    mine = shown(SHOW, tmp_path, REDIS_URL="redis://127.0.0.1:10/0")
    assert "redis://127.0.0.1:10/0" in mine.stdout, "what the terminal itself sets wins"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DJANGO_DEBUG", "maybe", "DJANGO_DEBUG must be 1 or 0, got 'maybe'"),
        ("LEASE_SECONDS", "soon", "LEASE_SECONDS must be seconds > 0, got 'soon'"),
        ("DELIVERIES_TIMEOUT_SECONDS", "-1", "DELIVERIES_TIMEOUT_SECONDS must be seconds > 0, got '-1'"),
    ],
)
def test_a_wrong_value_is_refused_in_words(tmp_path: Path, name: str, value: str, words: str) -> None:
    done = shown(SHOW, tmp_path, **{name: value})
    assert done.returncode != 0
    assert words in done.stderr


def test_an_unset_variable_is_its_default(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "none")
    assert environment.text("THERE_IS_NO_SUCH_VARIABLE", "x") == "x"
    assert not environment.flag("THERE_IS_NO_SUCH_VARIABLE")
    assert environment.seconds("THERE_IS_NO_SUCH_VARIABLE", 2.5) == 2.5
    assert environment.words("THERE_IS_NO_SUCH_VARIABLE") == []


def test_processes_that_start_at_once_agree_on_one_secret_key(tmp_path: Path) -> None:
    file = tmp_path / "var" / "secret_key"
    gate = threading.Barrier(8)
    keys: list[str] = []

    def start() -> None:
        gate.wait()
        keys.append(kept_secret_key(file))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1
    assert len(keys[0]) >= 50
    assert file.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in file.parent.iterdir()] == ["secret_key"]


def test_a_place_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with pytest.raises(ImproperlyConfigured, match="choose another with VAR_DIR, or set DJANGO_SECRET_KEY"):
        kept_secret_key(blocked / "secret_key")
    environment = {"PATH": "/usr/bin:/bin", "VAR_DIR": str(blocked)}
    command = [sys.executable, str(ROOT / "manage.py"), "migrate"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("The site is not configured properly: the secret key is kept in ")
    assert len(done.stderr.splitlines()) == 1
