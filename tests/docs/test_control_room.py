"""docs/control-room.md, "Mount it", done word by word in a fresh project: pages, socket, a line in the admin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_progress import PASSWORD, ROOT, USER, Project

PAGE = ROOT / "docs" / "control-room.md"
LAYER = """
CHANNEL_LAYERS = {
    "default": {"BACKEND": "retrying.layers.RetryingChannelLayer", "CONFIG": {"hosts": [os.environ["REDIS_URL"]]}}
}
"""
LOOK = f"""
import asyncio
from channels.testing import WebsocketCommunicator
from django.test import Client
from mysite.asgi import application

strangers, staff = Client(headers={{"host": "localhost"}}), Client(headers={{"host": "localhost"}})
print(strangers.get("/jobs/", follow=True).redirect_chain)
staff.login(username={USER!r}, password={PASSWORD!r})
for name in ("", "list/", "dead/", "channels/", "workers/", "schedules/"):
    print(staff.get(f"/jobs/{{name}}").status_code)
print("/admin/realtime/controlroom/" in staff.get("/admin/").text)

async def connect():
    cookie = "; ".join(f"{{name}}={{morsel.value}}" for name, morsel in staff.cookies.items())
    headers = [(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"cookie", cookie.encode())]
    socket = WebsocketCommunicator(application, "/ws/control-room/", headers)
    print(await socket.connect())
    await socket.disconnect()

asyncio.run(connect())
"""


@pytest.mark.long
def test_a_fresh_project_that_mounts_it(redis_url: str, tmp_path: Path) -> None:
    project = Project(tmp_path, redis_url)
    project.type("python -m django startproject mysite .")
    settings = tmp_path / "mysite" / "settings.py"
    settings.write_text(f"import os\n{settings.read_text()}{LAYER}")
    mount = PAGE.read_text().split("\n## ")[1]
    assert mount.count("python manage.py runserver") == 1
    project.follow(mount.replace("python manage.py runserver\n", ""))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "manage.py", "shell", "-v", "0", "-c", LOOK],
        cwd=tmp_path, env=project.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    signing_in, *pages, in_admin, socket = done.stdout.splitlines()
    assert signing_in == "[('/admin/login/?next=/jobs/', 302)]"
    assert pages == ["200"] * 6
    assert in_admin == "True"
    assert socket == "(True, None)"
