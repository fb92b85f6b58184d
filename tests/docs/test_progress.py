"""docs/progress.md, done word by word in a fresh project, until the bar in a real Chromium is full."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest
from playwright.sync_api import expect, sync_playwright

from project.development.valkey import Valkey, free_port
from tests.browser.conftest import FLAGS, find_chromium
from tests.browser.running import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.long]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "progress.md"
BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^`(?P<path>mysite/\S+)`(?P<how>, at its end|, changed|)", re.MULTILINE)
USER, PASSWORD = "reader", "a-long-password-1"
SEE_IT_FAIL = "## See it fail"


class Project:
    """A directory in which a reader follows the page."""

    def __init__(self, directory: Path, redis_url: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.environment = {
            **os.environ,
            "DJANGO_SUPERUSER_EMAIL": "reader@example.com",
            "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
            "DJANGO_SUPERUSER_USERNAME": USER,
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "REDIS_URL": redis_url,
        }
        self.environment.pop("DJANGO_SETTINGS_MODULE", None)
        self.servers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.terminate()
        for server in self.servers:
            server.wait(20)

    def follow(self, text: str) -> None:
        """Do what a part of the page says, block by block."""
        end = 0
        path, how = "", ""
        for block in BLOCK.finditer(text):
            for file in FILE.finditer(text, end, block.start()):
                path, how = file["path"], file["how"]
            end = block.end()
            if block["language"] == "":
                for line in block["text"].splitlines():
                    self.type(line)
            elif block["language"] == "diff":
                self.change(path, block["text"])
            elif how:
                file_ = self.directory / path
                file_.write_text(f"{file_.read_text()}\n{block['text']}")
            else:
                (self.directory / path).parent.mkdir(parents=True, exist_ok=True)
                (self.directory / path).write_text(block["text"])

    def change(self, path: str, diff: str) -> None:
        file = self.directory / path
        before = "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[0] in " -")
        after = "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[0] in " +")
        assert file.read_text().count(before) == 1, f"{path} does not have what the page changes:\n{before}"
        file.write_text(file.read_text().replace(before, after))

    def type(self, line: str) -> None:
        """Run a command; servers stay."""
        program, *arguments = line.split()
        assert program == "python", line
        if "createsuperuser" in arguments:
            arguments.append("--noinput")
        if "runserver" in arguments:
            arguments += ["--noreload", f"127.0.0.1:{self.port}"]
        command = [sys.executable, *arguments]
        if {"runserver", "runworker"} & set(arguments):
            with (self.directory / f"{arguments[1]}.log").open("ab") as log:
                server = subprocess.Popen(command, cwd=self.directory, env=self.environment, stdout=log, stderr=log)
            self.servers.append(server)
        else:
            subprocess.run(command, cwd=self.directory, env=self.environment, check=True, capture_output=True)

    def restart_worker(self) -> None:
        worker = self.servers.pop()
        worker.terminate()
        worker.wait(20)
        self.type("python manage.py runworker reports")

    def listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def logs(self) -> str:
        return "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in self.directory.glob("*.log"))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with ExitStack() as stack:
        valkey = Valkey(tmp_path / "valkey", appendonly=False)
        valkey.start()
        stack.callback(valkey.stop)
        directory = tmp_path / "project"
        directory.mkdir()
        yield stack.enter_context(Project(directory, valkey.url))


def test_five_minutes_to_a_progress_bar(project: Project) -> None:
    first, _, rest = PAGE.read_text().partition(SEE_IT_FAIL)
    project.follow(first)
    wait_until(project.listens, f"runserver listens; {project.logs()}", 60)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        page = browser.new_page()
        try:
            page.goto(f"http://127.0.0.1:{project.port}/report/")
            page.get_by_label("Username").fill(USER)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Log in").click()
            page.get_by_role("button", name="Build the report").click()
            bar = page.get_by_role("progressbar", name="Progress")
            expect(page.locator("job-progress")).to_contain_text(re.compile(r"Page \d+ of 20"), timeout=30_000)
            page.reload()
            expect(bar).to_have_attribute("aria-valuenow", "100", timeout=30_000)
            expect(page.locator("job-progress")).to_contain_text("Done")

            project.follow(rest)
            project.restart_worker()
            page.get_by_role("button", name="Build the report").click()
            expect(page.locator("job-progress")).to_contain_text(
                re.compile(r"try 2 of 6 · starts in \d s · OSError: out of paper"), timeout=30_000
            )
            expect(page.locator("job-progress")).to_contain_text("after 2 tries", timeout=30_000)
            expect(bar).to_have_attribute("aria-valuenow", "100")
        except BaseException:
            print(project.logs())
            raise
        finally:
            browser.close()
