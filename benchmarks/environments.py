"""A virtual environment for each peer, under `.benchmarks/` of the checkout or where BENCHMARKS_DIR says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .catalogue import Peer

ROOT = Path(__file__).resolve().parent.parent
DIRECTORY = Path(os.environ.get("BENCHMARKS_DIR", ROOT / ".benchmarks"))
#: Seconds for pip, the network included.
INSTALL_SECONDS = 600

VERSIONS = """
import importlib.metadata, json, sys
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


#: What the peers' processes and ours import of this checkout.
PACKAGES = ("benchmarks", "project", "realtime", "retrying")


class CannotInstall(Exception):
    """A peer's environment could not be made; the message is for the report."""


def newest_python() -> Path:
    """The newest CPython here that has no free threading and can make environments: peers differ in what they need."""
    found: dict[tuple[int, int], Path] = {sys.version_info[:2]: Path(sys.executable)}
    for directory in [*os.environ.get("PATH", "").split(os.pathsep), *_pyenv()]:
        for candidate in Path(directory).glob("python3*"):
            if re.fullmatch(r"python3(\.\d+)?", candidate.name) and (version := _version(candidate)):
                found.setdefault(version, candidate)
    return found[max(found)]


def _pyenv() -> list[str]:
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return [str(path) for path in sorted(root.glob("versions/*/bin"))]


def _version(python: Path) -> tuple[int, int] | None:
    code = "import sys, venv, ensurepip, ssl; print(*sys.version_info[:2], sys.implementation.name)"
    try:
        run = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=10, check=False)
        major, minor, name = run.stdout.split()
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return (int(major), int(minor)) if name == "cpython" and (int(major), int(minor)) >= (3, 11) else None


def version_of(python: Path) -> str:
    code = "import platform; print(platform.python_version())"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def copy_code(directory: Path) -> None:
    """The packages as they are now: a run measures one state of them, whatever is edited meanwhile."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))


def commit() -> str:
    """Which one is checked out, with a + when something was changed since; "" outside of git."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def environment(peer: Peer, python: Path) -> Path:
    """The interpreter of the peer's environment, which is made when it is missing or when its requirements changed.

    Raises CannotInstall with pip's last words.
    """
    version = version_of(python)
    if tuple(int(number) for number in version.split(".")[:2]) < peer.python:
        raise CannotInstall(f"needs Python {'.'.join(map(str, peer.python))}, this is {version}")
    directory = DIRECTORY / "venvs" / f"{peer.name}-{version}"
    stamp, wanted = directory / "requirements.json", json.dumps(sorted(peer.requirements))
    interpreter = directory / "bin" / "python"
    if stamp.exists() and stamp.read_text() == wanted:
        return interpreter
    shutil.rmtree(directory, ignore_errors=True)
    _run([str(python), "-m", "venv", str(directory)])
    _run([str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requirements])
    stamp.write_text(wanted)
    return interpreter


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise CannotInstall(f"{' '.join(command[:4])} took more than {INSTALL_SECONDS} s") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise CannotInstall("\n".join(line for line in lines[-5:]))


def versions(peer: Peer, interpreter: Path) -> dict[str, str]:
    """Of the distributions that the peer names, as installed. Raises CannotInstall when one isn't there."""
    done = subprocess.run([interpreter, "-c", VERSIONS, *peer.packages], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotInstall(done.stderr.strip().rpartition("\n")[2])
    found: dict[str, str] = json.loads(done.stdout)
    return found
