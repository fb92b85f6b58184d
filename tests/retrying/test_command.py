"""`manage.py retrying`: what it prints for people and for machines, and its exit statuses."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command, load_command_class

from retrying import State, enqueue, jobs, stats
from retrying.conf import get_settings
from retrying.layers import get_layer
from retrying.store import Store
from retrying.store.calls import Burial, Lease
from tests.conftest import wait_for
from tests.processes import ROOT

CHANNEL = "deliveries"


@pytest.fixture(autouse=True)
def _own_settings(_quick: None) -> Iterator[None]:
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture
def layer_store(redis_url: str) -> Store:
    return get_layer().store


def run(*words: str) -> str:
    out = io.StringIO()
    call_command("retrying", *words, stdout=out)
    return out.getvalue()


def run_json(*words: str) -> Any:
    return json.loads(run(*words, "--json"))


def refused(*words: str) -> str:
    with pytest.raises(CommandError) as error:
        run(*words)
    return str(error.value)


def process(*words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """The command as a person runs it."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "manage.py", "retrying", *words],
        cwd=ROOT, env={**os.environ, **env}, input=stdin, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def put(count: int, prefix: str = "j", **options: Any) -> list[str]:
    return [enqueue(CHANNEL, {"type": "work.do"}, job_id=f"{prefix}{n}", **options).id for n in range(count)]


def bury(store: Store, count: int, error: str = "ValueError: no") -> list[str]:
    ids = put(count, "dead")
    for job in store.run(store.claim(CHANNEL, "host:1:a", "x", wanted=count)).jobs:
        store.run(store.bury(CHANNEL, [Burial(Lease(job.id, "x"), "no attempts left", error, 5)]))
    return ids


def state(job: str) -> State | None:
    found = jobs.get(CHANNEL, job)
    return None if found is None else found.state


# Looking


def test_stats_of_the_channels_that_the_project_names(layer_store: Store) -> None:
    put(2)
    put(1, "later", delay=60)
    jobs.pause(CHANNEL)
    rows = {row["channel"]: row for row in run_json("stats")}
    assert rows.keys() == jobs.named_channels()
    row = rows[CHANNEL]
    assert (row.pop("oldest_seconds")) >= 0
    assert row.pop("in_per_second") > 0
    assert row == {
        "channel": CHANNEL, "scheduled": 1, "ready": 2, "running": 0, "dead": 0, "finished": 0, "succeeded": 0,
            "workers": 0,
        "paused": True, "out_per_second": 0, "failure_rate": None, "wait_p95_seconds": None, "drain_seconds": None,
    }  # fmt: skip
    head, line, sentence = run("stats", CHANNEL).splitlines()
    assert sentence.startswith("Healthy: no worker, ")
    assert head.split()[:3] == ["channel", "scheduled", "ready"]
    assert line.split()[:3] == [CHANNEL, "1", "2"]
    assert line.split()[-1] == "yes"
    assert head.index("ready") == line.index("2")
    assert [row["channel"] for row in run_json("stats", "a", "b")] == ["a", "b"]


def test_jobs_lists_dead_letters_with_their_reasons(layer_store: Store) -> None:
    assert run("jobs", CHANNEL) == f"no dead jobs in {CHANNEL}\n"
    bury(layer_store, 3)
    lines = run("jobs", CHANNEL).splitlines()
    assert len(lines) == 4
    assert lines[1].split()[0] == "dead2"
    assert "no attempts left" in lines[1]
    found = run_json("jobs", CHANNEL, "--state", "dead")
    assert [job["id"] for job in found["jobs"]] == ["dead2", "dead1", "dead0"]
    assert found["jobs"][0]["finished_at"].endswith("+00:00")
    assert found["cursor"] is None


def test_jobs_goes_on_where_a_page_ended(layer_store: Store) -> None:
    put(5)
    first = run_json("jobs", CHANNEL, "--state", "ready", "--limit", "3")
    assert [job["id"] for job in first["jobs"]] == ["j4", "j3", "j2"]
    assert f"--cursor {first['cursor']}" in run("jobs", CHANNEL, "--state", "ready", "--limit", "3")
    second = run_json("jobs", CHANNEL, "--state", "ready", "--cursor", first["cursor"])
    assert [job["id"] for job in second["jobs"]] == ["j1", "j0"]
    assert "cursor takes" in refused("jobs", CHANNEL, "--cursor", "x")


def test_show_tells_what_is_known(layer_store: Store) -> None:
    bury(layer_store, 1)
    text = run("show", CHANNEL, "dead0")
    assert "state             dead\n" in text
    assert "ValueError: no" in text
    assert run_json("show", CHANNEL, "dead0")["reason"] == "no attempts left"
    assert "no job nobody" in refused("show", CHANNEL, "nobody")


def test_show_tells_all_that_the_page_of_a_job_does(layer_store: Store) -> None:
    message = {"type": "work.do", "order": "A-1", "password": "hunter2", "note": "\x1b[2J\u202e"}
    enqueue(CHANNEL, message, job_id="one", topic="orders")
    error = f"builtins.ValueError\nTraceback\n  line\nValueError: no, token=sesame {chr(27)}[31m"
    (job,) = layer_store.run(layer_store.claim(CHANNEL, "host:1:a", "x", wanted=1)).jobs
    burial = Burial(Lease(job.id, "x"), "no attempts left", "ValueError: no, token=sesame \x1b[31m", 5, trace=error)
    layer_store.run(layer_store.bury(CHANNEL, [burial]))
    found = run_json("show", CHANNEL, "one")
    assert found["arguments"] == {"order": "A-1", "password": "[redacted]", "note": message["note"]}
    (attempt,) = found["attempts"]
    assert (attempt["number"], attempt["worker"], attempt["error"]) == (1, "host:1:a", "builtins.ValueError")
    assert "ValueError: no, token=[redacted]" in attempt["trace"]
    assert [event["event"] for event in found["events"]][-1] == "dead"
    text = run("show", CHANNEL, "one") + run("jobs", CHANNEL)
    assert "A-1" in text
    assert "\n    Traceback\n      line\n" in text
    assert not {"hunter2", "sesame"} & set(re.findall(r"\w+", text))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"\x1b[31m" in text


def test_channel_tells_what_its_page_does(layer_store: Store, settings: Any) -> None:
    settings.RETRYING = {
        **settings.RETRYING, "CHANNELS": {CHANNEL: {"max_retries": 7, "rate": "10/s", "total_concurrency": 3}}
    }  # fmt: skip
    get_settings.cache_clear()
    bury(layer_store, 2)
    found = run_json("channel", CHANNEL, "--minutes", "3")
    assert (found["dead"], found["policy"]["max_retries"], found["total_concurrency"]) == (2, 7, 3)
    assert found["run_p99_seconds"] >= found["run_p50_seconds"] >= 0
    assert [len(found["points"]), found["points"][-1]["dead"] + found["points"][-2]["dead"]] == [3, 2]
    lines = [line.split() for line in run("channel", CHANNEL, "--hours", "2").splitlines()]
    assert ["dead", "2"] in lines
    assert ["failure_rate", "100", "%"] in lines
    assert lines[-3][:3] == ["at", "enqueued", "succeeded"]
    assert "not allowed" in refused("channel", CHANNEL, "--hours", "2", "--minutes", "2")
    assert "from 0 to 720" in refused("channel", CHANNEL, "--hours", "721")


def test_workers_are_listed(layer_store: Store) -> None:
    assert "no live workers" in run("workers")
    assert run_json("workers") == []
    layer_store.run(layer_store.sweep(CHANNEL, "host:7:abc"))
    (worker,) = run_json("workers")
    assert (worker["channel"], worker["id"]) == (CHANNEL, "host:7:abc")
    assert "host:7:abc" in run("workers", CHANNEL)


def test_a_worker_is_quieted_and_woken(layer_store: Store) -> None:
    enqueue(CHANNEL, {"type": "work.do"})
    assert "no live worker host:7:abc" in refused("worker", "quiet", "host:7:abc")
    layer_store.run(layer_store.sweep(CHANNEL, "host:7:abc"))
    assert "begins no more jobs" in run("worker", "quiet", "host:7:abc")
    assert stats.workers()[0].quiet
    assert run_json("worker", "wake", "host:7:abc") == {"worker": "host:7:abc", "told": "wake"}
    assert not stats.workers()[0].quiet
    run("worker", "stop", "host:7:abc", "--noinput")
    assert stats.workers()[0].stopping


# Acting


def test_retry_makes_a_scheduled_job_ready() -> None:
    put(1, "later", delay=60)
    assert run("retry", CHANNEL, "later0") == "later0 is ready\n"
    assert run_json("retry", CHANNEL, "later0") == {"id": "later0", "state": "ready"}
    jobs.cancel(CHANNEL, "later0")
    assert "later0 is cancelled. Only a scheduled job" in refused("retry", CHANNEL, "later0")
    assert "no job nobody" in refused("retry", CHANNEL, "nobody")


def test_cancel_asks_a_running_job_to_stop(layer_store: Store) -> None:
    put(2)
    layer_store.run(layer_store.claim(CHANNEL, "host:1:a", "x", wanted=1))
    assert run("cancel", CHANNEL, "j0", "--noinput") == "j0 is asked to stop\n"
    assert run("cancel", CHANNEL, "j1", "--noinput", "--reason", "by mistake") == "j1 is cancelled\n"
    found = jobs.get(CHANNEL, "j1")
    assert found is not None
    assert found.reason == "by mistake"


def test_redrive_one_and_all(layer_store: Store) -> None:
    bury(layer_store, 6)
    assert run("redrive", CHANNEL, "dead0", "--noinput") == "dead0 is ready\n"
    assert run_json("redrive", CHANNEL, "--all", "--limit", "2", "--noinput") == {"redriven": 2, "left": 0}
    assert run("redrive", CHANNEL, "--all", "--rate", "0.5", "--noinput") == "3 jobs were redriven.\n"
    counts = jobs.counts(CHANNEL)
    assert (counts.dead, counts.ready + counts.scheduled) == (0, 6)


def test_all_that_match_are_counted_redriven_and_purged(layer_store: Store) -> None:
    bury(layer_store, 3)
    assert run_json("redrive", CHANNEL, "--all", "--error", "ValueError", "--dry-run") == {"matching": 3}
    assert run("redrive", CHANNEL, "--all", "--key", "none", "--noinput") == "Nothing was done.\n"
    assert run_json("purge", CHANNEL, "--all", "--error", "OSError", "--noinput") == {"purged": 0, "left": 0}
    assert "for --all" in refused("redrive", CHANNEL, "dead0", "--error", "ValueError", "--noinput")
    found = run_json("redrive", CHANNEL, "--all", "--error", "ValueError", "--limit", "2", "--rate", "0.5", "--noinput")
    assert found == {"redriven": 2, "left": 0}
    assert [state(f"dead{n}") for n in range(3)].count(State.DEAD) == 1
    assert run_json("purge", CHANNEL, "--all", "--younger-than", "1h", "--noinput") == {"purged": 1, "left": 0}


def test_purge_one_and_all(layer_store: Store) -> None:
    bury(layer_store, 4)
    put(1)
    assert run("purge", CHANNEL, "dead0", "--noinput") == "dead0 purged\n"
    assert "j0 is ready" in refused("purge", CHANNEL, "j0", "--noinput")
    assert "no job dead0" in refused("purge", CHANNEL, "dead0", "--noinput")
    assert run("purge", CHANNEL, "--all", "--older-than", "1d", "--noinput") == "Nothing was done.\n"
    assert run_json("purge", CHANNEL, "--all", "--noinput") == {"purged": 3, "left": 0}
    assert run_json("purge", CHANNEL, "--all", "--state", "cancelled", "--noinput") == {"purged": 0, "left": 0}


def test_pause_and_resume() -> None:
    assert run("pause", CHANNEL) == f"{CHANNEL} is paused\n"
    assert run("pause", CHANNEL) == f"{CHANNEL} is paused (it was already)\n"
    assert run_json("resume", CHANNEL) == {"paused": False, "changed": True}
    assert run("resume", CHANNEL) == f"{CHANNEL} was not paused\n"


def test_jobs_of_all_channels_are_listed_and_acted_on(layer_store: Store) -> None:
    """As the control room does without a channel in its filter."""
    for channel in ("one", "two"):
        for n in range(3):
            enqueue(channel, {"type": "work.do" if n else "work.other"}, job_id=f"{channel}{n}", delay=60)
    listed = run_json("jobs", "--state", "scheduled")["jobs"]
    assert {(job["channel"], job["id"]) for job in listed} == {(c, f"{c}{n}") for c in ("one", "two") for n in range(3)}
    assert run("jobs", "--state", "scheduled").splitlines()[0].split()[:3] == ["channel", "id", "type"]
    assert run_json("cancel", "--all", "--state", "scheduled", "--type", "work.other", "--dry-run") == {"matching": 2}
    assert run(
        "cancel", "--all", "--state", "scheduled", "--type", "work.other", "--noinput", "--reason", "no more"
    ) == ("2 jobs were cancelled, or asked to stop.\n")
    found = jobs.get("two", "two0")
    assert found is not None
    assert (found.state, found.reason) == (State.CANCELLED, "no more")
    assert run_json("retry", "--all", "--limit", "3", "--noinput") == {"retried": 3, "left": 0}
    assert jobs.counts("one").scheduled + jobs.counts("two").scheduled == 1
    assert run_json("purge", "--all", "--state", "cancelled", "--noinput") == {"purged": 2, "left": 0}


def test_dead_letters_of_all_channels_share_a_rate(layer_store: Store) -> None:
    for channel in ("one", "two"):
        enqueue(channel, {"type": "work.do"}, job_id=channel)
        (job,) = layer_store.run(layer_store.claim(channel, "host:1:a", "x", wanted=1)).jobs
        layer_store.run(layer_store.bury(channel, [Burial(Lease(job.id, "x"), "no attempts left", "", 5)]))
    assert run("redrive", "--all", "--rate", "0.01", "--noinput") == "2 jobs were redriven.\n"
    one, two = (jobs.get(channel, channel) for channel in ("one", "two"))
    assert one is not None
    assert two is not None
    assert two.due_at is not None
    assert 99 < (two.due_at - (one.due_at or two.due_at)).total_seconds() < 101


def test_several_jobs_are_named(layer_store: Store) -> None:
    bury(layer_store, 3)
    put(1)
    assert run("redrive", CHANNEL, "dead0", "dead1", "j0", "--noinput") == (
        "2 jobs were redriven. 1 had moved on and was left alone (1 ready).\n"
    )
    assert run_json("purge", CHANNEL, "dead2", "nobody", "--noinput") == {"purged": 1, "left": 1}
    assert "2 had moved on" in refused("redrive", CHANNEL, "j0", "nobody", "--noinput")


# Asking


@pytest.mark.parametrize("words", [("cancel", "j0"), ("purge", "--all"), ("redrive", "--all")])
@pytest.mark.parametrize("answer", ["n\n", "", "\n"])
def test_destructive_commands_ask(words: tuple[str, ...], answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(1)
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    with pytest.raises(CommandError, match="Nothing was done") as error:
        run(words[0], CHANNEL, *words[1:])
    assert error.value.returncode == 3
    assert state("j0") == State.READY


def test_yes_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    put(1)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    run("cancel", CHANNEL, "j0")
    assert state("j0") == State.CANCELLED


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "required"),
        (("nonsense",), "invalid choice"),
        (("stats", "a!b"), "general|named by"),
        (("redrive", CHANNEL), "required"),
        (("redrive", CHANNEL, "j0", "--all"), "not allowed"),
        (("redrive", CHANNEL, "--all", "--rate", "0"), "above 0"),
        (("purge", CHANNEL, "--all", "--older-than", "soon"), "90s"),
        (("purge", CHANNEL, "--all", "--older-than", "9" * 30 + "d"), "longer than"),
        (("purge", CHANNEL, "--all", "--state", "running"), "invalid choice"),
        (("cancel", CHANNEL, "--all"), "takes --state scheduled, ready, running"),
        (("redrive", CHANNEL, "j0", "--limit", "3"), "for --all"),
        (("purge",), "a channel and ids of its jobs, or --all"),
        (("jobs", CHANNEL, "--limit", "-3"), "whole number|expected one"),
    ],
)
def test_wrong_arguments_are_told(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        run(*words)


# As a process


def test_exit_statuses_and_one_line_errors(redis_url: str) -> None:
    put(1)
    done = process("show", CHANNEL, "j0", "--json", REDIS_URL=redis_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["state"] == "ready"

    gone = process("show", CHANNEL, "nobody", REDIS_URL=redis_url)
    assert gone.returncode == 1
    assert gone.stderr.startswith("CommandError: deliveries has no job nobody")
    assert len(gone.stderr.splitlines()) == 1

    down = process("stats", REDIS_URL="redis://:sesame@127.0.0.1:1/0")
    assert down.returncode == 1
    assert len(down.stderr.splitlines()) == 1
    assert "did not answer" in down.stderr
    assert "sesame" not in down.stderr + down.stdout

    assert process("purge", CHANNEL, "--all", stdin="no\n", REDIS_URL=redis_url).returncode == 3
    assert process("purge", REDIS_URL=redis_url).returncode == 2
    help_ = process("--help", REDIS_URL=redis_url)
    assert help_.returncode == 0
    assert "exit status" in help_.stdout


def test_a_paused_worker_takes_nothing_until_resumed(redis_url: str, tmp_path: Any, effects: Any) -> None:
    """The whole way: a real worker, paused and resumed by the command."""
    from tests.processes import RunWorker

    env = {"REDIS_URL": redis_url, "EFFECTS": str(effects.path)}
    assert run("pause", "work")
    for n in range(3):
        enqueue("work", {"type": "work.do", "n": n})
    with RunWorker("tests.plain.durable_settings", "work", log=tmp_path / "worker.log", env=env) as worker:
        wait_for(lambda: jobs.workers("work"), "the worker is listed")
        worker.ready()
        assert jobs.counts("work").ready == 3
        assert effects.lines() == []
        run("resume", "work")
        wait_for(lambda: len(effects.lines()) == 3, "all three jobs ran")


# The handbook


def test_every_command_in_the_docs_is_one() -> None:
    commands = re.findall(r"^python manage\.py retrying (.+)$", (ROOT / "docs/operating.md").read_text(), re.MULTILINE)
    assert len(commands) > 10
    parser = load_command_class("retrying", "retrying").create_parser("manage.py", "retrying")
    actions = {parser.parse_args(shlex.split(command)).action for command in commands}
    assert actions == {
        "doctor", "stats", "jobs", "show", "redrive", "purge", "workers", "worker", "pause", "resume", "retry",
        "cancel", "health", "errors", "channel",
    }  # fmt: skip


#: Every subcommand, with what it takes.
EVERY = {
    "stats": [], "jobs": [CHANNEL], "show": [CHANNEL, "dead0"], "retry": [CHANNEL, "later0"],
    "cancel": [CHANNEL, "later0", "--noinput"], "redrive": [CHANNEL, "dead0", "--noinput"],
    "purge": [CHANNEL, "dead0", "--noinput"],
    "pause": [CHANNEL], "resume": [CHANNEL], "workers": [], "schedule": [], "doctor": [], "health": [],
    "errors": [],
    "worker": ["quiet", "host:7:abc"], "channel": [CHANNEL],
}  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_every_command_prints_json(name: str, layer_store: Store) -> None:
    enqueue(CHANNEL, {"type": "work.do"}, job_id="later0", delay=60)
    enqueue(CHANNEL, {"type": "work.do"}, job_id="dead0")
    layer_store.run(layer_store.claim(CHANNEL, "w", "T", wanted=1))
    layer_store.run(layer_store.bury(CHANNEL, [Burial(Lease("dead0", "T"), "no attempts left", "", 5)]))
    layer_store.run(layer_store.sweep(CHANNEL, "host:7:abc"))
    out = io.StringIO()
    with contextlib.suppress(SystemExit):  # doctor's status: it has something to say
        call_command("retrying", name, *EVERY[name], "--json", stdout=out)
    assert isinstance(json.loads(out.getvalue()), (dict, list))


def test_every_command_is_listed_here() -> None:
    done = process("--help")
    assert set(re.findall(r"^    ([a-z]+) +[A-Z]", done.stdout, re.MULTILINE)) == EVERY.keys()


def test_jobs_are_narrowed_down(layer_store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    bury(layer_store, 2, error="OSError: torn")
    enqueue(CHANNEL, {"type": "work.other", "order": "A-1"}, job_id="one", key="customer-7")
    enqueue(CHANNEL, {"type": "work.do", "order": "B-2", "password": "hunter2"}, job_id="two")

    def ids(*arguments: str) -> list[str]:
        call_command("retrying", "jobs", CHANNEL, "--json", *arguments)
        return [job["id"] for job in json.loads(capsys.readouterr().out)["jobs"]]

    assert len(ids("--error", "OSError")) == 2
    assert ids("--error", "ValueError") == []
    assert ids("--state", "ready", "--type", "work.other") == ["one"]
    assert ids("--state", "ready", "--key", "customer-7") == ["one"]
    assert ids("--state", "ready", "--text", "b-2") == ["two"]
    assert ids("--state", "ready", "--text", "hunter2") == [], "what is hidden can't be guessed"
    table = run("jobs", CHANNEL, "--state", "ready", "--type", "work.do")
    assert '{"order": "B-2", "password": "[redacted]"}' in table
    assert ids("--state", "ready", "--older-than", "1h") == []
    assert ids("--state", "ready", "--younger-than", "1h") == ["two", "one"]


def test_dead_letters_are_counted_by_error(layer_store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    bury(layer_store, 3, error="OSError: torn")
    call_command("retrying", "errors", CHANNEL, "--json")
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["channel"], row["error"], row["dead"]) == (CHANNEL, "OSError", 3)
