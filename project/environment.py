"""What the site reads from its environment: variables, the file that a running `make run` leaves, the secret key."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


class Environment:
    """Variables of the process; below them, the lines KEY=VALUE of ``file``, if it is there.

    The file is written by the supervisor of a running site, so that a command typed in another terminal talks to the
    same database and store.
    """

    def __init__(self, file: Path) -> None:
        try:
            lines = file.read_text("utf-8").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            lines = []
        pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        self._values = {name.strip(): value.strip() for name, value in pairs} | dict(os.environ)

    def text(self, name: str, default: str = "") -> str:
        return self._values.get(name) or default

    def flag(self, name: str) -> bool:
        """1/true/yes/on or 0/false/no/off/nothing. Raises ImproperlyConfigured for anything else."""
        value = self.text(name).lower()
        if value in {"1", "true", "yes", "on"}:
            return True
        if value in {"", "0", "false", "no", "off"}:
            return False
        raise ImproperlyConfigured(f"{name} must be 1 or 0, got {value!r}")

    def seconds(self, name: str, default: float) -> float:
        """A number above 0. Raises ImproperlyConfigured for anything else."""
        value = self.text(name)
        try:
            number = float(value) if value else default
        except ValueError:
            number = 0.0
        if not 0 < number < float("inf"):
            raise ImproperlyConfigured(f"{name} must be seconds > 0, got {value!r}")
        return number

    def words(self, name: str) -> list[str]:
        """A list separated by commas."""
        return [word.strip() for word in self.text(name).split(",") if word.strip()]


def kept_secret_key(file: Path) -> str:
    """The key in ``file``, made at the first start and readable by its owner only.

    Two processes that start at once agree on one key: it is written aside and linked into place, which only one can do.
    Raises ImproperlyConfigured when the folder can't be written.
    """
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            aside = file.with_name(f"{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as handle:
                handle.write(secrets.token_urlsafe(50))
            try:
                os.link(aside, file)
            except FileExistsError:
                pass
            finally:
                aside.unlink()
        return file.read_text("ascii").strip()
    except OSError as error:
        raise ImproperlyConfigured(
            f"the secret key is kept in {file}, which can't be used ({error.strerror}): "
            "make its folder writable, choose another with VAR_DIR, or set DJANGO_SECRET_KEY"
        ) from error
