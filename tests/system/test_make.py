"""The commands of the Makefile on a fresh machine, and `make run` in a terminal."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.processes import ROOT
from tests.system.site import descendants, environment, get, none_alive

pytestmark = pytest.mark.system

GIT, MAKE = str(shutil.which("git")), str(shutil.which("make"))
#: The interpreter that the environment of these tests was made with.
PYTHON = f"{sys.base_prefix}/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
CTRL_C = b"\x03"
#: From a fresh clone to a page that answers, and the same once everything is installed.
FIRST_RUN_SECONDS, SECOND_RUN_SECONDS = 120, 10
SCRIPTS = ROOT / "project" / "development"

#: Stands in for an interpreter: environments are made and packages are installed in name only, and written down.
INTERPRETER = """#!/bin/sh
case "$1 $2" in
    "-c import ensurepip, venv") test -e "$MACHINE/has-venv" ;;
    "-m venv") echo "venv $4" >>"$MACHINE/done"; mkdir -p "$4/bin"; cp --remove-destination "$0" "$4/bin/python" ;;
    "-m pip") echo "pip install" >>"$MACHINE/done"; test ! -e "$MACHINE/offline" ;;
    "-m pytest") shift 2; echo "pytest $*" >>"$MACHINE/done" ;;
    *) exec "$REAL_PYTHON" "$@" ;;
esac
"""
APT_GET = """#!/bin/sh
echo "apt-get $*" >>"$MACHINE/done"
case "$*" in
    *install*-venv) touch "$MACHINE/has-venv" ;;
    *install*chromium) test -e "$MACHINE/no-chromium" || cp "$MACHINE/bin/id" "$MACHINE/bin/chromium" ;;
esac
"""


class Machine:
    """A machine that has only the programs put into ``bin``, and says what was done on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bin = directory / "bin"
        self.bin.mkdir()
        for name in ("cat", "cp", "mkdir", "sh", "test", "touch", "chmod"):
            (self.bin / name).symlink_to(str(shutil.which(name)))
        self.user(1000)
        (directory / "requirements.txt").write_text("django\n")

    def program(self, name: str, text: str) -> Path:
        file = self.bin / name
        file.write_text(text)
        file.chmod(0o755)
        return file

    def user(self, number: int) -> None:
        self.program("id", f"#!/bin/sh\necho {number}\n")

    def run(self, script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", str(SCRIPTS / script), *arguments],
            cwd=self.directory,
            env={"PATH": str(self.bin), "MACHINE": str(self.directory), "REAL_PYTHON": sys.executable, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def done(self) -> list[str]:
        """What was done since the last time it was asked."""
        log = self.directory / "done"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_a_python_there_is_one_line(machine: Machine) -> None:
    ended = machine.run("environment.sh", ".venv")
    expected = "no Python >= 3.11 found: install one, or name it, for example: make PYTHON=/path/to/python3.11"
    assert (ended.returncode, ended.stderr.splitlines(), ended.stdout) == (1, [expected], "")


def test_a_python_that_does_not_run_or_is_too_old_is_named(machine: Machine) -> None:
    old = machine.program("python3.10", "#!/bin/sh\nexit 1\n")
    ended = machine.run("environment.sh", ".venv", PYTHON=str(old))
    assert (ended.returncode, ended.stderr) == (1, f"PYTHON={old} is not a Python >= 3.11 that runs\n")


def test_packages_are_installed_once_and_again_when_they_change(machine: Machine) -> None:
    machine.program("python3", INTERPRETER)
    (machine.directory / "has-venv").touch()

    first = machine.run("environment.sh", ".venv")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("Installing the packages of requirements.txt into .venv (")
    assert machine.done() == ["venv .venv", "pip install"]

    second = machine.run("environment.sh", ".venv")
    assert (second.returncode, second.stdout, second.stderr, machine.done()) == (0, "", "", [])

    (machine.directory / "requirements.txt").write_text("django\nchannels\n")
    machine.run("environment.sh", ".venv")
    assert machine.done() == ["pip install"]


def test_an_installation_that_was_cut_short_is_done_again(machine: Machine) -> None:
    machine.program("python3", INTERPRETER)
    (machine.directory / "has-venv").touch()
    offline = machine.directory / "offline"
    offline.touch()
    failed = machine.run("environment.sh", ".venv")
    assert failed.returncode == 1
    assert failed.stderr == "pip could not install requirements.txt into .venv; what it said is above\n"
    offline.unlink()
    assert machine.run("environment.sh", ".venv").returncode == 0
    assert machine.done()[-1] == "pip install"


def test_an_environment_whose_python_was_removed_is_made_anew(machine: Machine) -> None:
    machine.program("python3", INTERPRETER)
    (machine.directory / "has-venv").touch()
    machine.run("environment.sh", ".venv")
    python = machine.directory / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    machine.done()
    assert machine.run("environment.sh", ".venv").returncode == 0
    assert machine.done() == ["venv .venv", "pip install"]


def test_without_venv_a_user_is_told_the_line_to_type(machine: Machine) -> None:
    machine.program("python3", INTERPRETER)
    machine.program("apt-get", APT_GET)
    ended = machine.run("environment.sh", ".venv")
    package = f"python3.{sys.version_info[1]}-venv"
    expected = (
        f"python3 can't make a virtual environment; type: sudo apt-get install {package} (or name another by PYTHON=)"
    )
    assert (ended.returncode, ended.stderr.splitlines()) == (1, [expected])
    assert machine.done() == []


def test_without_venv_root_on_debian_gets_it(machine: Machine) -> None:
    machine.program("python3", INTERPRETER)
    machine.program("apt-get", APT_GET)
    machine.user(0)
    ended = machine.run("environment.sh", ".venv")
    assert ended.returncode == 0, ended.stderr
    package = f"python3.{sys.version_info[1]}-venv"
    assert machine.done() == ["apt-get -qq update", f"apt-get -qq install -y {package}", "venv .venv", "pip install"]


def test_without_a_browser_all_other_tests_run_and_then_it_fails(machine: Machine) -> None:
    python = machine.program("python3", INTERPRETER)
    ended = machine.run("test.sh", str(python), "-x")
    assert ended.returncode == 1
    assert machine.done() == ["pytest --ignore=tests/browser -x"]
    assert ended.stderr.splitlines()[-1] == (
        "All other tests passed, but the browser tests did not run; type: sudo apt-get install chromium"
    )


@pytest.mark.parametrize(("installs", "status"), [(True, 0), (False, 1)])
def test_root_on_debian_gets_the_browser(machine: Machine, installs: bool, status: int) -> None:
    python = machine.program("python3", INTERPRETER)
    machine.program("apt-get", APT_GET)
    machine.user(0)
    if not installs:
        (machine.directory / "no-chromium").touch()
    ended = machine.run("test.sh", str(python))
    assert ended.returncode == status
    pytest_ = "pytest" if installs else "pytest --ignore=tests/browser"
    tests = [f"{pytest_} -n 4 -m not long and not alone", f"{pytest_} -m alone and not long"]
    assert machine.done() == ["apt-get -qq update", "apt-get -qq install -y chromium", *tests]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """An environment that `make` finds complete, and that is this one."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    python = venv / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    requirements = (ROOT / "requirements.txt").read_text()
    (venv / "made-of").write_text(f"{sys.base_prefix} {sys.version}\n{requirements}")
    return venv


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files that a fresh clone of this checkout, as it is now, would have."""
    clone = tmp_path / "clone"
    listed = subprocess.run(
        [GIT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    return clone


class Terminal:
    """`make run` in a terminal of its own, in a fresh clone."""

    def __init__(self, clone: Path, number: int) -> None:
        self.log = clone.with_name(f"make-{number}.log")
        command = [MAKE, "--no-print-directory", "run", "PORT=0", f"PYTHON={PYTHON}"]
        started = time.monotonic()
        with self.log.open("wb") as output:
            self._terminal = subprocess.Popen(
                [sys.executable, "-c", f"import pty, sys; sys.exit(pty.spawn({command!r}) >> 8)"],
                cwd=clone, env=environment(clone / "var"), stdin=subprocess.PIPE, stdout=output,
            )  # fmt: skip
        try:
            origin = wait_for(self._ready, f"make run is ready; its log is {self.log}", timeout=FIRST_RUN_SECONDS)
            assert get(origin, "/healthz")[0] == 200
        except BaseException:
            self.end()
            raise
        self.seconds = time.monotonic() - started
        self.processes = descendants(self._terminal.pid)

    def type(self, keys: bytes) -> None:
        assert self._terminal.stdin is not None
        self._terminal.stdin.write(keys)
        self._terminal.stdin.flush()

    def end(self) -> None:
        """Also when the test failed: leave nothing running."""
        left = descendants(self._terminal.pid)
        self._terminal.kill()
        self._terminal.communicate()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stops(self, *signals: str) -> None:
        """Wait until nothing of it is left; it has said that it stopped in good order, on one of these signals."""
        none_alive(list(self.processes))
        said = self.log.read_text()
        assert any(f"system | {name}: stopping" in said for name in signals)
        assert "crashed" not in said
        assert "stopped; what was not finished goes on at the next start" in said

    def _ready(self) -> str:
        assert self._terminal.poll() is None, self.log.read_text()
        found = re.search(r"page +\| (http://[^/]+)/sign-in/(?s:.*)for a fresh link", self.log.read_text())
        return found[1] if found else ""


@pytest.mark.alone
@pytest.mark.timeout(FIRST_RUN_SECONDS + 60)
def test_make_run_in_a_fresh_clone_in_a_terminal(clone: Path) -> None:
    first = Terminal(clone, 1)
    try:
        # Packages have been downloaded once before: this very interpreter has them.
        assert first.seconds < FIRST_RUN_SECONDS
        assert {"valkey", "sweep", "web", "worker"} <= set(first.processes.values())
        first.type(CTRL_C)
        first.stops("SIGINT")
    finally:
        first.end()

    second = Terminal(clone, 2)
    try:
        assert second.seconds < SECOND_RUN_SECONDS
        # Even when make itself is killed, the supervisor hears of it and stops in good order.
        [make] = [pid for pid, what in second.processes.items() if what.startswith(f"{MAKE} ")]
        os.kill(make, signal.SIGKILL)
        second.stops("SIGTERM", "SIGHUP")  # of make's end, or of its terminal's: whichever is heard first
    finally:
        second.end()


@pytest.mark.long  # where all is run, `make demo` itself is
@pytest.mark.alone
def test_the_demonstration_holds(tmp_path: Path, made: Path) -> None:
    ended = subprocess.run(
        [MAKE, "--no-print-directory", "demo", f"VENV={made}"],
        cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.rstrip().endswith("Nothing was lost.")
    assert ended.stderr == ""
    for promise in (
        "3 attempts: failed, failed, delivered",
        "2 attempts: lost, delivered",
        "rescued by another worker",
    ):
        assert f"yes  {promise}" in ended.stdout


def test_help_names_every_command() -> None:
    said = subprocess.run([MAKE, "-C", str(ROOT)], capture_output=True, text=True, check=True).stdout
    for command in ("run", "demo", "test", "lint", "clean"):
        assert f"make {command} " in said
