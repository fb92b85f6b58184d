"""`manage.py deliver` as a person or a script runs it: a process of its own, its output and its exit code."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from project.webhooks.models import CHANNEL, Delivery, Endpoint
from project.webhooks.watch import NO_WORKER, Story, waiting_for
from retrying import jobs
from tests.conftest import wait_for
from tests.processes import ROOT, RunWorker

from .conftest import ThreadedReceiver, site_environment

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(threaded_receiver: ThreadedReceiver, redis_url: str, tmp_path: Path) -> dict[str, str]:
    return {**os.environ, **site_environment(threaded_receiver.origin), "VAR_DIR": str(tmp_path)}


@pytest.fixture
def run(transactional_db: None, environment: dict[str, str]) -> Run:
    def deliver(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), "deliver", *args],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    return deliver


@pytest.fixture
def worker(run: Run, environment: dict[str, str], tmp_path: Path) -> Iterator[RunWorker]:
    with RunWorker("project.settings", CHANNEL, log=tmp_path / "worker.log", env=environment) as running:
        yield running.ready()


@pytest.mark.usefixtures("worker")
def test_delivered_is_0_and_the_story_is_told_in_lines(run: Run, threaded_receiver: ThreadedReceiver) -> None:
    threaded_receiver.statuses = [503, 200]
    done = run(threaded_receiver.origin, "--watch", "--payload", '{"a": 1}')
    assert (done.returncode, done.stderr) == (0, "")
    lines = [
        re.sub(r"\b[0-9a-f]{32}\b|on \S+$|\(\d+ ms\)|\d\d:\d\d:\d\d", "*", line) for line in done.stdout.splitlines()
    ]
    assert lines[0] == f"delivery * to {threaded_receiver.origin}"
    told = [line for line in lines if "is due at" not in line]
    assert told[1:] == [
        "attempt 1 started *",
        "attempt 1 failed: 503 Service Unavailable *",
        "attempt 2 started *",
        "attempt 2 delivered: 200 *",
        "delivered after 2 attempt(s)",
    ]
    assert threaded_receiver.bodies == [b'{"a": 1}'] * 2


@pytest.mark.usefixtures("worker")
def test_dead_is_1_and_json_is_one_object(run: Run, threaded_receiver: ThreadedReceiver) -> None:
    threaded_receiver.statuses = [404]
    done = run(threaded_receiver.origin, "--watch", "--json")
    assert done.returncode == 1
    shown = json.loads(done.stdout)
    assert (shown["state"], shown["reason"]) == ("failed", "404 Not Found: trying again would not help")
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["gave_up"]


@pytest.mark.parametrize(
    ("args", "field"),
    [
        (("http://0x7f.1/",), "url"),
        (("https://example.com/", "--payload", "{"), "payload"),
    ],
)
def test_bad_input_is_2_and_stores_nothing(run: Run, args: tuple[str, ...], field: str) -> None:
    done = run(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{field}: ")
    assert "Traceback" not in done.stderr
    machine = run(*args, "--json")
    assert machine.returncode == 2
    assert list(json.loads(machine.stdout)["fields"]) == [field]
    assert not Delivery.objects.exists()


def test_without_watching_it_is_accepted_at_once(run: Run, threaded_receiver: ThreadedReceiver) -> None:
    done = run(threaded_receiver.origin, "--user", "zoe")
    delivery = Delivery.objects.get()
    assert (done.returncode, done.stdout) == (0, f"delivery {delivery.pk} to {threaded_receiver.origin}\n")
    assert delivery.owner.username == "zoe"
    assert jobs.get(CHANNEL, delivery.job_id) is not None


def test_ctrl_c_says_that_it_goes_on(transactional_db: None, environment: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "output"
    command = [sys.executable, str(ROOT / "manage.py"), "deliver", environment["WEBHOOK_RECEIVER_ORIGIN"], "--watch"]
    with output.open("w") as out, subprocess.Popen(command, env=environment, stdout=out, stderr=out) as process:
        wait_for(lambda: NO_WORKER in output.read_text(), "it says that no worker is there")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    delivery = Delivery.objects.get()
    assert output.read_text().splitlines()[-1] == f"The delivery goes on under the id {delivery.pk}."
    assert delivery.state == Delivery.State.PENDING
    assert jobs.get(CHANNEL, delivery.job_id) is not None


@pytest.mark.usefixtures("worker")
def test_on_a_terminal_it_is_live(environment: dict[str, str], threaded_receiver: ThreadedReceiver) -> None:
    threaded_receiver.statuses = [503, 200]
    controller, terminal = pty.openpty()
    command = [sys.executable, str(ROOT / "manage.py"), "deliver", threaded_receiver.origin, "--watch"]
    env = environment | {"TERM": "xterm-256color", "DELIVERIES_BACKOFF_SECONDS": "1"}
    with subprocess.Popen(command, env=env, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        try:
            while chunk := os.read(controller, 4096):
                shown += chunk
        except OSError:
            pass  # the other end is closed
        os.close(controller)
        assert process.wait(20) == 0
    text = shown.decode()
    assert "delivered after 2 attempt(s)" in text
    assert "\x1b[" in text, "colours and a spinner"
    assert "\x1b[?25h" in text, "the cursor is back"


def test_the_countdown_is_never_negative() -> None:
    due = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
    delivery: dict[str, Any] = {
        "job": {"state": "scheduled", "due_at": due.isoformat(), "retries": 2, "max_retries": 8}
    }
    assert waiting_for(delivery, due - timedelta(seconds=9)) == "retry 2 of 8 in 9 s"
    assert waiting_for(delivery, due) == "due, waiting for a worker"
    assert waiting_for(delivery, due + timedelta(hours=1)) == "due, waiting for a worker"
    assert waiting_for({"job": None}, due) == "waiting for the job store"


def test_each_piece_of_news_is_told_once() -> None:
    story = Story()
    attempt = {"generation": 1, "number": 1, "worker": "w", "ended_at": None, "outcome": "running", "duration_ms": None}
    delivery: dict[str, Any] = {"attempts": [attempt], "job": None, "state": "pending"}
    assert list(story.news(delivery)) == ["attempt 1 started on w"]
    assert list(story.news(delivery)) == []


def test_the_endpoint_command_shows_the_secret_and_enables(user: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Endpoint.objects.create(owner=user, url="https://example.com/", enabled=False, disabled_reason="410 Gone")
    call_command("endpoint", "https://example.com/", "--user", "ann")
    shown = capsys.readouterr().out
    assert "disabled: 410 Gone" in shown
    assert Endpoint.objects.get().secret in shown
    call_command("endpoint", "https://example.com/", "--user", "ann", "--enable")
    assert "state:  enabled" in capsys.readouterr().out
    assert Endpoint.objects.get().enabled
