"""/healthz, /readyz and /metrics, of web processes and of workers; what the command says of health."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from channels.layers import channel_layers
from django.core.management import CommandError, call_command
from django.test import Client
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from project.development.valkey import Valkey
from retrying import enqueue, jobs
from retrying.layers import get_layer
from retrying.management.commands.runworker import _answer_probes
from retrying.probes import Probes
from retrying.store.calls import Burial, Lease
from tests.conftest import wait_for
from tests.processes import RunWorker
from tests.retrying.running import CHANNEL

pytestmark = pytest.mark.urls("retrying.urls")
TOKEN = "let-me-in"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    """Each sample of the text by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found[f"retrying_{name}", frozenset({"channel": CHANNEL, **labels}.items())]


@pytest.fixture
def token(settings: Any) -> None:
    settings.RETRYING = {**settings.RETRYING, "METRICS_TOKEN": TOKEN}


@pytest.fixture
def stopped_store(tmp_path: Path, settings: Any) -> Iterator[None]:
    with Valkey(tmp_path / "valkey") as server:
        settings.CHANNEL_LAYERS = {
            "default": {"BACKEND": "retrying.layers.RetryingChannelLayer", "CONFIG": {"hosts": [server.url]}}
        }
    channel_layers.backends.clear()
    yield
    channel_layers.backends.clear()


@pytest.fixture
def silent_store(settings: Any) -> Iterator[None]:
    """It takes connections and never answers: stopped, or behind a firewall that swallows what is sent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        settings.CHANNEL_LAYERS = {
            "default": {"BACKEND": "retrying.layers.RetryingChannelLayer", "CONFIG": {"hosts": [address]}}
        }
        channel_layers.backends.clear()
        yield
    channel_layers.backends.clear()


# Web


def test_metrics_tell_what_the_store_knows(client: Client, token: None) -> None:
    for id in "abcd":
        enqueue(CHANNEL, {"type": "x"}, job_id=id)
    enqueue(CHANNEL, {"type": "x"}, job_id="later", delay=3600)
    store = get_layer().store
    store.run(store.claim(CHANNEL, "w", "T", wanted=3))
    store.run(store.claim(CHANNEL, "w", "T2", wanted=0, succeeded=[Lease("a", "T")]))
    store.run(store.bury(CHANNEL, [Burial(Lease("b", "T"), "r", "e", 5)]))
    response = client.get("/metrics", headers=BEARER)
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain; version=")
    found = samples(response.content.decode())
    assert found["retrying_store_up", frozenset()] == 1
    states = {state: value(found, "jobs", state=state) for state in ("scheduled", "ready", "running", "dead")}
    assert states == {"scheduled": 1, "ready": 1, "running": 1, "dead": 1}
    assert value(found, "backlog_jobs") == 1
    assert value(found, "workers") == 0
    assert 0 < value(found, "oldest_job_seconds") < 60
    assert value(found, "enqueued_jobs_total") == 5
    assert value(found, "ended_jobs_total", outcome="succeeded") == 1
    assert value(found, "ended_jobs_total", outcome="dead") == 1
    assert value(found, "ended_attempts_total", outcome="failed") == 1
    assert value(found, "wait_seconds_count") == value(found, "wait_seconds_bucket", le="+Inf") == 3
    assert value(found, "run_seconds_count") == 2
    bounds = [float(dict(labels)["le"]) for name, labels in found if name == "retrying_run_seconds_bucket"]
    assert len(bounds) == 24 * len({dict(labels)["channel"] for name, labels in found if name == "retrying_workers"})


def test_metrics_come_in_the_newer_format_too(client: Client, token: None) -> None:
    enqueue(CHANNEL, {"type": "x"})
    accept = "application/openmetrics-text; version=1.0.0"
    response = client.get("/metrics", headers={**BEARER, "Accept": accept})
    assert response["Content-Type"].startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(response.content.decode())}
    assert {"retrying_backlog_jobs", "retrying_enqueued_jobs", "retrying_wait_seconds"} <= names


def test_an_alert_is_a_metric(client: Client, settings: Any) -> None:
    settings.RETRYING = {**settings.RETRYING, "METRICS_TOKEN": TOKEN, "ALERTS": {"backlog": 0.5}}
    enqueue(CHANNEL, {"type": "x"})
    found = samples(client.get("/metrics", headers=BEARER).content.decode())
    assert value(found, "alerts", kind="backlog") == 1


def test_without_the_store_metrics_say_that_it_is_down(client: Client, token: None, stopped_store: None) -> None:
    response = client.get("/metrics", headers=BEARER)
    assert samples(response.content.decode()) == {("retrying_store_up", frozenset()): 0}


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer None", f"Bearer {TOKEN}x", TOKEN, f"Basic {TOKEN}"])
@pytest.mark.parametrize("setting", [None, TOKEN])
def test_metrics_are_closed(client: Client, settings: Any, header: str, setting: str | None) -> None:
    settings.RETRYING = {**settings.RETRYING, "METRICS_TOKEN": setting}
    response = client.get("/metrics", headers={"Authorization": header})
    assert response.status_code == 403
    assert b"retrying_" not in response.content
    assert client.post("/metrics", headers=BEARER).status_code in (403, 405)


@pytest.mark.django_db
@pytest.mark.urls("project.urls")
def test_metrics_are_open_to_staff(client: Client, django_user_model: Any) -> None:
    user = django_user_model.objects.create_user("ann")
    client.force_login(user)
    assert client.get("/metrics").status_code == 403
    user.is_staff = True
    user.save()
    assert client.get("/metrics").status_code == 200


def test_probes_of_web_processes(client: Client) -> None:
    assert client.get("/healthz").json() == {"ok": True, "process": "ok"}
    response = client.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"ok": True, "store": "ok"})


def test_readiness_depends_on_the_store_and_liveness_does_not(client: Client, stopped_store: None) -> None:
    assert client.get("/healthz").status_code == 200
    response = client.get("/readyz")
    assert (response.status_code, response.json()["store"]) == (503, "not reachable (StoreUnavailable)")


@pytest.mark.alone
@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/readyz", 503), ("/metrics", 200)])
def test_a_store_that_never_answers_holds_up_no_probe(
    client: Client, token: None, silent_store: None, path: str, status: int
) -> None:
    """Of a WSGI server as well: the test client calls the views as that does. Prometheus waits for 10 s."""
    began = time.monotonic()
    response = client.get(path, headers=BEARER)
    assert time.monotonic() - began < 8
    assert response.status_code == status
    if path == "/metrics":
        assert samples(response.content.decode()) == {("retrying_store_up", frozenset()): 0}


# Workers


def fetch(port: int, path: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_probes_look_at_every_heartbeat(tmp_path: Path) -> None:
    files = [tmp_path / "beat.1", tmp_path / "beat.2"]
    with Probes("127.0.0.1", 0, files) as probes:
        assert fetch(probes.port, "/healthz")[0] == 200, "they are starting"
        status, body = fetch(probes.port, "/readyz")
        words = "2 of 2 worker processes don't consume all of their channels"
        assert (status, json.loads(body)["worker"]) == (503, words)
        for file in files:
            file.touch()
            file.with_name(f"{file.name}.ready").touch()
        assert fetch(probes.port, "/readyz")[0] == 200
        old = time.time() - 60
        os.utime(files[0], (old, old))
        status, body = fetch(probes.port, "/healthz")
        assert status == 503
        assert "an event loop has been stuck for 60 s" in body
        os.utime(f"{files[1]}.ready", (old, old))
        assert fetch(probes.port, "/readyz")[0] == 503, "what a killed process left behind"
        assert fetch(probes.port, "/other")[0] == 404


def test_beyond_this_machine_metrics_need_the_token(tmp_path: Path, token: None) -> None:
    with Probes("0.0.0.0", 0, [tmp_path / "beat"]) as everywhere:
        assert fetch(everywhere.port, "/metrics")[0] == 403
        assert fetch(everywhere.port, "/metrics", **BEARER)[0] == 200
    with Probes("127.0.0.1", 0, [tmp_path / "beat"]) as here:
        assert fetch(here.port, "/metrics")[0] == 200


def curl(port: int, *options: str) -> str:
    """/metrics, fetched by the program."""
    program = shutil.which("curl")
    assert program, "there is no curl; on Debian: apt-get install curl"
    command = [program, "--silent", "--show-error", "--fail", "--noproxy", "*", *options]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/metrics"], capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout


def wrong(families: Iterable[Metric]) -> list[str]:
    """What `promtool check metrics` would speak up about, and what makes too many series."""
    found, seen = [], set()
    for family in families:
        name, samples_ = family.name, family.samples
        if not family.documentation or family.type == "unknown" or not name.startswith("retrying_"):
            found.append(f"{name} has no help, no type or another prefix")
        for sample in samples_:
            series = (sample.name, frozenset(sample.labels.items()))
            if series in seen:
                found.append(f"{series} comes twice")
            seen.add(series)
            if sample.labels.keys() - {"channel", "state", "outcome", "kind", "le"}:
                found.append(f"{series} has another label")
            if not 0 <= sample.value < float("inf"):
                found.append(f"{series} is {sample.value}")
            if sample.name.endswith("_total") is not (family.type == "counter"):
                found.append(f"{sample.name} is a {family.type}")
        if family.type == "histogram":
            for channel in {sample.labels["channel"] for sample in samples_}:
                of = [sample for sample in samples_ if sample.labels["channel"] == channel]
                buckets = [(float(s.labels["le"]), s.value) for s in of if s.name.endswith("_bucket")]
                (count,) = [s.value for s in of if s.name.endswith("_count")]
                cumulative = [number for _, number in buckets]
                if (
                    buckets != sorted(buckets)
                    or cumulative != sorted(cumulative)
                    or buckets[-1] != (float("inf"), count)
                ):
                    found.append(f"{name} of {channel} does not add up: {buckets}, {count} in all")
    return found


def test_curl_fetches_metrics_that_the_parsers_take(tmp_path: Path) -> None:
    """In both formats, with every kind of metric in it and nothing that a linter would find."""
    for id in "abc":
        enqueue(CHANNEL, {"type": "x"}, job_id=id)
    store = get_layer().store
    store.run(store.claim(CHANNEL, "w", "T", wanted=2))
    store.run(store.claim(CHANNEL, "w", "T2", wanted=0, succeeded=[Lease("a", "T")]))
    with Probes("127.0.0.1", 0, [tmp_path / "beat"]) as probes:
        plain = curl(probes.port)
        newer = curl(probes.port, "--header", "Accept: application/openmetrics-text; version=1.0.0")
    assert newer.endswith("# EOF\n")
    assert value(samples(plain), "wait_seconds_count") == 2
    for families in (list(parse(plain)), list(parse_openmetrics(newer))):
        assert {family.type for family in families} == {"gauge", "counter", "histogram"}
        assert len(families) >= 14
        assert wrong(families) == []


@contextmanager
def worker(log: Path, *args: str, env: dict[str, str] | None = None) -> Iterator[tuple[RunWorker, int]]:
    with Probes("127.0.0.1", 0, []) as unused:
        port = unused.port
    options = ["--health-port", str(port), *args]
    with RunWorker("tests.plain.durable_settings", CHANNEL, *options, log=log, env=env) as process:
        yield process, port
        process.signal(signal.SIGTERM)
        process.ended()


def answers(process: RunWorker, port: int, path: str, status: int) -> bool:
    assert process.process.poll() is None, process.text()
    try:
        return fetch(port, path)[0] == status
    except OSError:  # it is still starting
        return False


def workers(port: int) -> float:
    return value(samples(fetch(port, "/metrics")[1]), "workers")


def test_a_supervisor_answers_for_its_workers(tmp_path: Path) -> None:
    with Valkey(tmp_path / "valkey") as server:
        env = {"REDIS_URL": server.url, "SWEEP_SECONDS": "5"}
        with worker(tmp_path / "worker.log", "--processes", "2", env=env) as (process, port):
            wait_for(lambda: answers(process, port, "/readyz", 200), "both are ready")
            assert fetch(port, "/healthz")[0] == 200
            assert workers(port) == 2, "told once, not by each process"


def test_a_worker_without_its_store_is_alive_and_not_ready(tmp_path: Path) -> None:
    with (
        Valkey(tmp_path / "valkey") as server,
        worker(tmp_path / "worker.log", env={"REDIS_URL": server.url}) as (process, port),
    ):
        wait_for(lambda: answers(process, port, "/readyz", 200), "it is ready")
        wait_for(lambda: workers(port) == 1, "the store has heard of it")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            wait_for(lambda: answers(process, port, "/readyz", 503), "it notices")
            assert fetch(port, "/healthz")[0] == 200, "a restart would not bring the store back"
        finally:
            os.kill(server.pid, signal.SIGCONT)
        wait_for(lambda: answers(process, port, "/readyz", 200), "it is back")


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with Probes("127.0.0.1", 0, []) as taken:
        options = {
            "health_host": "127.0.0.1", "health_port": taken.port, "heartbeat_file": tmp_path / "beat",
            "processes": None, "layer": "default",
        }  # fmt: skip
        with pytest.raises(CommandError, match=f"--health-port: 127.0.0.1:{taken.port} can't be had"):
            _answer_probes(options)


# The command


def say(*args: str) -> tuple[int, str]:
    out = io.StringIO()
    try:
        call_command("retrying", *args, stdout=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


def test_health_of_a_store_without_trouble() -> None:
    status, text = say("health")
    assert (status, text) == (0, "Healthy: no worker, no job waits\n")
    status, text = say("health", "--json")
    assert (status, json.loads(text)["healthy"]) == (0, True)


def test_health_says_the_worst_and_what_to_do(settings: Any) -> None:
    settings.RETRYING = {**settings.RETRYING, "ALERTS": {"backlog": 0.5, "no_worker_seconds": 0.001}}
    enqueue(CHANNEL, {"type": "x"}, job_id="a")
    wait_for(lambda: jobs.counts(CHANNEL).oldest_seconds > 0.001, "it waits")
    status, text = say("health")
    assert status == 1
    first, advice, *others = text.splitlines()
    assert first.startswith(f"{CHANNEL} has 1 job and no worker, the oldest waits for 0.")
    assert first.endswith("(and 1 more alert)")
    assert advice == f"-> python manage.py runworker {CHANNEL}"
    assert others[0] == f"{CHANNEL} has a backlog of 1 job"
    status, text = say("health", "--json")
    assert status == 1
    assert [alert["kind"] for alert in json.loads(text)["alerts"]] == ["no_worker", "backlog"]
    assert first in say("stats")[1] or "no worker, the oldest waits" in say("stats")[1]


def test_health_without_the_store(stopped_store: None) -> None:
    status, text = say("health")
    assert status == 1
    assert text.startswith("the job store did not answer")


@pytest.mark.alone
def test_health_of_a_store_that_never_answers(silent_store: None) -> None:
    began = time.monotonic()
    status, text = say("health", "--json")
    assert time.monotonic() - began < 8
    assert (status, json.loads(text)["sentence"]) == (1, "the job store did not answer within 5 s")
