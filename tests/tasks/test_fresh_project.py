"""The built wheel in a fresh environment, a fresh project, the README's own ten lines, one task."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.conftest import wait_for
from tests.processes import ROOT, Process

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

TASKS = """
{imports}
from retrying import retry

runs = 0


@task
@retry(max_retries=2, backoff=0.2)
def greet(name):
    global runs
    runs += 1
    if runs == 1:
        raise ConnectionError("not yet")
    return f"hello {{name}}"
"""

ENQUEUE = "from hello.tasks import greet; print(greet.enqueue('world').id)"
READ = (
    "import sys; from hello.tasks import greet; result = greet.get_result(sys.argv[1]); "
    "print(result.status, result.attempts, len(result.errors), result.is_finished and result.return_value)"
)


#: Of a person's own shell, not of this test run.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO", "PYTHON"))}


def run(*args: object, cwd: Path) -> str:
    """Output of a command that has to succeed."""
    ran = subprocess.run(
        [str(arg) for arg in args], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, f"{args}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in ("retrying", "realtime"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", source / "dist", source, cwd=source
    )
    (found,) = (source / "dist").glob("*.whl")
    return found


def readme_settings() -> str:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (found,) = [block for block in blocks if "RetryingBackend" in block]
    assert len(found.splitlines()) == 10
    return str(found)


@pytest.mark.parametrize("django", ["5.2", "6"] if sys.version_info >= (3, 12) else ["5.2"])
def test_ten_lines_and_one_task(django: str, wheel: Path, tmp_path: Path) -> None:
    backport = django == "5.2"
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv/bin/python"
    extras = "[embedded,django52]" if backport and sys.version_info >= (3, 12) else "[embedded]"
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}{extras}", f"django~={django}.0", cwd=tmp_path)
    run(python, "-m", "django", "startproject", "hello", ".", cwd=tmp_path)

    server = Process([str(python), "-m", "retrying.testing.server", "0"], log=tmp_path / "server.log", env=ENVIRONMENT)
    with server:
        wait_for(lambda: "redis://" in server.text(), f"the server is there: {server.text()}")
        url = server.text().split()[-1]
        lines = readme_settings().replace("redis://127.0.0.1:6379/0", url)
        if backport:
            lines = lines.replace("*INSTALLED_APPS]", '"django_tasks", *INSTALLED_APPS]')
        app = lines.replace('"channels", ', '"channels", "hello", ')
        settings = tmp_path / "hello/settings.py"
        settings.write_text(f"{settings.read_text()}\n{app}")
        imports = "from django_tasks import task" if backport else "from django.tasks import task"
        (tmp_path / "hello/tasks.py").write_text(TASKS.format(imports=imports))
        assert "no issues" in run(python, "manage.py", "check", cwd=tmp_path)

        id = run(python, "manage.py", "shell", "--no-imports", "-c", ENQUEUE, cwd=tmp_path).split()[-1]
        script = f"import os, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'hello.settings'; django.setup(); {READ}"
        assert run(python, "-c", script, id, cwd=tmp_path).split()[0] == "READY"
        worker = Process(
            [str(python), str(tmp_path / "manage.py"), "runworker", "tasks.default"],
            log=tmp_path / "log",
            env=ENVIRONMENT,
        )
        with worker:
            wait_for(lambda: "SUCCESSFUL" in run(python, "-c", script, id, cwd=tmp_path), "the task has succeeded")
            assert run(python, "-c", script, id, cwd=tmp_path).strip() == "SUCCESSFUL 2 1 hello world"
            worker.process.terminate()
            assert worker.process.wait(30) == 0
        with redis.Redis.from_url(url) as client:
            assert [key for key in client.keys("*:job:*") if client.ttl(key) < 0] == []
