"""What the log says: a line for each record, safe to read and to parse, with the job in it."""

from __future__ import annotations

import json
import logging
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from channels.consumer import AsyncConsumer, SyncConsumer

from retrying import State, aenqueue, retry
from retrying.logs import JSONFormatter, KeyValueFormatter, install
from tests.processes import ROOT
from tests.retrying.running import CHANNEL, reached, running

FORMATTERS = [KeyValueFormatter, JSONFormatter]
#: Line breaks, a colour, a mark that turns the direction, DEL, and quotes.
NASTY = 'a\nb\r\x1b[31mc\u202ed\x7fe "f" \u2028 g\u00e9'


class Out:
    """A handler on the root logger, and what it has written."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self.stream = StringIO()
        self.handler = logging.StreamHandler(self.stream)
        self.handler.setFormatter(formatter)

    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    def read(self) -> list[dict[str, Any]]:
        """Of JSON."""
        return [json.loads(line) for line in self.lines()]


@pytest.fixture
def out(request: pytest.FixtureRequest) -> Iterator[Out]:
    made = Out(getattr(request, "param", JSONFormatter)())
    root, ours = logging.getLogger(), logging.getLogger("retrying")
    levels = root.level, ours.level
    root.addHandler(made.handler)
    root.setLevel(logging.INFO)
    yield made
    root.removeHandler(made.handler)
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def record(message: str, **extra: Any) -> logging.LogRecord:
    return logging.getLogger("shop").makeRecord("shop", logging.INFO, "", 0, message, (), None, extra=extra)


@pytest.mark.parametrize("formatter", FORMATTERS)
def test_a_record_is_one_line_that_fools_nobody(formatter: Any) -> None:
    line = formatter().format(record(NASTY))
    assert len(line.splitlines()) == 1
    assert line.isprintable()


def test_what_is_written_can_be_read_again() -> None:
    assert json.loads(JSONFormatter().format(record(NASTY)))["message"] == NASTY
    text = KeyValueFormatter().format(record("it's é = 1", n=1))
    assert text.endswith('logger=shop message="it\'s é = 1"')
    found = dict(item.split("=", 1) for item in shlex.split(text))
    assert (found["level"], found["logger"], found["message"]) == ("INFO", "shop", "it's é = 1")
    assert found["time"].endswith("Z")


def test_secrets_and_extras() -> None:
    told = record("token=abc", order=5, password="p", card={"token": "t", "last": 4})
    assert json.loads(JSONFormatter().format(told)).keys() == {"time", "level", "logger", "message"}
    shown = json.loads(JSONFormatter(extra=["order", "password", "card", "nothing"]).format(told))
    assert {name: shown[name] for name in ("message", "order", "password", "card")} == {
        "message": "token=[redacted]", "order": 5, "password": "[redacted]", "card": {"token": "[redacted]", "last": 4},
    }  # fmt: skip
    assert 'card="{' in KeyValueFormatter(extra=["card"]).format(told)


@pytest.mark.parametrize("formatter", FORMATTERS)
def test_a_traceback(formatter: Any) -> None:
    told = record("oh")
    try:
        raise ValueError("at redis://user:hunter2@host")
    except ValueError:
        told.exc_info = sys.exc_info()
    line = formatter().format(told)
    assert "ValueError: at redis://user:[redacted]@host" in line
    assert len(line.splitlines()) == 1


class Async(AsyncConsumer):
    async def work_do(self, message: dict[str, Any]) -> None:
        logging.getLogger("shop").info("hello")

    @retry(max_retries=1, backoff=0.01)
    async def work_fail(self, message: dict[str, Any]) -> None:
        raise ValueError(f"no\n{message['argument']}=s3cret")


class Sync(SyncConsumer):
    def work_do(self, message: dict[str, Any]) -> None:
        logging.getLogger("shop").info("hello")


@pytest.mark.parametrize("consumer", [Async, Sync])
async def test_what_a_handler_logs_carries_its_job(consumer: Any, out: Out) -> None:
    async with running(consumer):
        await aenqueue(CHANNEL, {"type": "work.do"}, job_id="a")
        await reached("a", State.SUCCEEDED)
    (hello,) = [line for line in out.read() if line.get("message") == "hello"]
    assert (hello["job"], hello["channel"], hello["attempt"]) == ("a", CHANNEL, 1)
    assert not [line for line in out.read() if line["logger"] == "retrying.jobs"], "success is told at DEBUG"


async def test_one_record_for_each_transition(out: Out) -> None:
    logging.getLogger("retrying").setLevel(logging.DEBUG)
    out.handler.addFilter(logging.Filter("retrying.jobs"))
    async with running(Async):
        await aenqueue(CHANNEL, {"type": "work.do"}, job_id="a")
        await reached("a", State.SUCCEEDED)
        await aenqueue(CHANNEL, {"type": "work.fail", "argument": "token"}, job_id="b")
        await reached("b", State.DEAD)
    told = out.read()
    assert [(line["event"], line["job"], line["attempt"]) for line in told] == [
        ("started", "a", 1), ("succeeded", "a", 1),
        ("started", "b", 1), ("retrying", "b", 1), ("started", "b", 2), ("dead", "b", 2),
    ]  # fmt: skip
    retrying, dead = told[3], told[5]
    assert (retrying["channel"], retrying["retry"], retrying["max_retries"]) == (CHANNEL, 1, 1)
    assert retrying["delay"] >= 0.01
    assert dead["error"] == "ValueError: no\ntoken=[redacted]"
    assert (dead["level"], dead["reason"]) == ("ERROR", "no attempts left")
    assert not [line for line in told if "message" in line]


def test_what_runworker_prints_where_the_root_logger_has_no_handler(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    for name in ("retrying", "django.tasks", "django.request", "djangular"):
        caplog.set_level(logging.INFO, name)  # and back afterwards
    install()
    for name in ("retrying.worker", "django.tasks", "django.request", "djangular"):
        logging.getLogger(name).info("%s chats", name)
        logging.getLogger(name).warning("%s warns", name)
    printed = [line.split(": ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert printed == [
        "retrying.worker chats", "retrying.worker warns", "django.tasks warns", "django.request warns",
        "djangular chats", "djangular warns",
    ]  # fmt: skip


def test_what_runworker_prints_hides_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    install()
    try:
        raise ValueError("token=sesame at redis://me:sesame@host/0")
    except ValueError:
        logging.getLogger("django.tasks").exception("password=sesame")
    printed = capsys.readouterr().err
    assert printed.count("[redacted]") >= 3
    assert "sesame" not in printed.replace('raise ValueError("token=sesame at redis://me:sesame@host/0")', "")


def test_the_logging_of_the_docs_says_each_thing_once_and_without_secrets() -> None:
    """Beside Django's own configuration, which prints what Django says to a console of its own with DEBUG."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/observing.md").read_text(), re.DOTALL)
    (block,) = [block for block in blocks if "KeyValueFormatter" in block]
    code = f"""{block}
import logging, django
from django.conf import settings
settings.configure(DEBUG=True, LOGGING=LOGGING)
django.setup()
try:
    raise ValueError("token=sesame")
except ValueError:
    logging.getLogger("django.tasks").exception("failed")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, timeout=60
    )
    (line,) = done.stderr.splitlines()
    assert "logger=django.tasks message=failed" in line
    assert "ValueError: token=[redacted]" in line
