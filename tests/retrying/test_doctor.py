"""The doctor against real servers, good and bad, and settings that don't go together."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from channels.layers import channel_layers
from django.core.management import call_command

from project.development.valkey import Valkey
from retrying import enqueue, jobs
from retrying.conf import get_settings
from retrying.doctor import Finding, Severity, diagnose
from retrying.doctor.address import hide_secrets, secrets_of, unencrypted
from retrying.doctor.server import product, vulnerable
from retrying.layers import get_layer
from retrying.store.calls import Burial, Lease
from tests.conftest import wait_for
from tests.processes import ROOT

CHANNEL = "deliveries"


class Site:
    """The settings that a test is about: its server, its ``RETRYING``."""

    def __init__(self, settings: Any) -> None:
        self._settings = settings

    def on(self, url: str, **config: Any) -> None:
        """Use that server, as the layer's first host or by ``config``."""
        layer = {"BACKEND": "retrying.layers.RetryingChannelLayer", "CONFIG": {"hosts": [url], **config}}
        self._settings.CHANNEL_LAYERS = {"default": layer}
        channel_layers.backends.clear()

    def set(self, **names: Any) -> None:
        self._settings.RETRYING = names
        get_settings.cache_clear()
        channel_layers.backends.clear()


@pytest.fixture
def site(settings: Any, _quick: None) -> Iterator[Site]:
    settings.TASKS = {}  # without the site's schedules
    found = Site(settings)
    found.set()
    yield found
    for layer in channel_layers.backends.values():
        if hasattr(layer, "store"):
            layer.store.connections.close()
    get_settings.cache_clear()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A server as it should be: it keeps every write."""
    with Valkey(tmp_path_factory.mktemp("good"), appendonly=True) as server:
        yield server


@pytest.fixture
def admin(good: Valkey) -> Iterator[redis.Redis]:
    """The good server, to spoil it; it is good again afterwards."""
    with redis.Redis.from_url(good.url, decode_responses=True) as client:
        client.flushall()
        names = ("maxmemory", "maxmemory-policy", "appendfsync", "min-replicas-to-write", "requirepass")
        before = {name: client.config_get(name)[name] for name in names}
        yield client
        for name, value in before.items():
            client.config_set(name, value)
        client.flushall()


def found(*words: str, severity: Severity | None = None) -> list[Finding]:
    """Findings whose text has all the words."""
    return [
        item for item in diagnose() if all(word in item.text for word in words) and severity in (None, item.severity)
    ]


def problems() -> list[Finding]:
    return [item for item in diagnose() if item.severity is Severity.PROBLEM]


def doctor(*words: str) -> tuple[int, str]:
    """Exit status and output of the command."""
    out = io.StringIO()
    try:
        call_command("retrying", "doctor", *words, stdout=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


# Servers


def test_a_good_server_is_healthy(site: Site, good: Valkey) -> None:
    site.on(good.url)
    assert [item for item in diagnose() if item.severity is not Severity.NOTE] == []
    status, text = doctor()
    assert status == 0
    assert "The job store answers: Valkey 9." in text
    assert text.endswith("Healthy.\n")
    status, text = doctor("--json")
    assert json.loads(text)["healthy"] is True


def test_a_server_that_evicts(site: Site, good: Valkey, admin: redis.Redis) -> None:
    site.on(good.url)
    admin.config_set("maxmemory-policy", "allkeys-lru")
    (finding,) = problems()
    assert "maxmemory-policy is allkeys-lru" in finding.text
    assert "noeviction" in finding.advice
    status, text = doctor()
    assert status == 1
    assert text.startswith("PROBLEM  maxmemory-policy is allkeys-lru")
    assert text.endswith("1 problem.\n")


def test_a_server_without_persistence(site: Site, tmp_path: Path) -> None:
    with Valkey(tmp_path, appendonly=False) as server:
        site.on(server.url)
        (finding,) = problems()
        assert "keeps nothing on disk" in finding.text
        assert "appendonly yes" in finding.advice
        with redis.Redis.from_url(server.url) as client:
            client.config_set("save", "3600 1")
        assert problems() == []
        assert found("only takes snapshots (save 3600 1)", severity=Severity.WARNING)


def test_what_can_be_lost_in_a_power_cut(site: Site, good: Valkey, admin: redis.Redis) -> None:
    site.on(good.url)
    assert found("everysec", severity=Severity.NOTE)
    admin.config_set("appendfsync", "no")
    assert found("appendfsync is no", severity=Severity.WARNING)
    admin.config_set("appendfsync", "always")
    assert not found("appendfsync")


def test_a_full_server(site: Site, good: Valkey, admin: redis.Redis) -> None:
    site.on(good.url)
    used = admin.info("memory")["used_memory"]
    admin.config_set("maxmemory", int(used * 1.2))
    assert found("of maxmemory", severity=Severity.WARNING)
    admin.config_set("maxmemory", used)
    assert found("of maxmemory", severity=Severity.PROBLEM)


def test_a_replica_and_a_primary_that_needs_none(site: Site, good: Valkey, admin: redis.Redis, tmp_path: Path) -> None:
    with Valkey(tmp_path) as replica, redis.Redis.from_url(replica.url) as client:
        admin.config_set("repl-diskless-sync-delay", 0)
        client.replicaof("127.0.0.1", good.port)
        wait_for(lambda: client.info("replication").get("master_link_status") == "up", "the replica is in step")
        site.on(replica.url)
        assert found("The server is a replica", severity=Severity.PROBLEM)
        site.on(good.url)
        assert found("1 replica and min-replicas-to-write 0", severity=Severity.WARNING)
        admin.config_set("min-replicas-to-write", 1)
        assert not found("min-replicas-to-write")


def test_config_is_denied(site: Site, good: Valkey, admin: redis.Redis) -> None:
    """A user as managed servers give: INFO has to do."""
    admin.execute_command("ACL", "SETUSER", "worker", "on", ">sesame", "~*", "&*", "+@all", "-config")
    try:
        site.on(f"redis://worker:sesame@127.0.0.1:{good.port}/0")
        assert found("CONFIG is denied", severity=Severity.NOTE)
        assert problems() == []
        admin.config_set("maxmemory-policy", "allkeys-lru")
        assert [item.text.split(":")[0] for item in problems()] == ["maxmemory-policy is allkeys-lru"]
        admin.execute_command("ACL", "SETUSER", "worker", "-evalsha", "-eval")
        (finding,) = problems()[-1:]
        assert "can't be used" in finding.text
        assert "+evalsha" in finding.advice
    finally:
        admin.execute_command("ACL", "DELUSER", "worker")


def test_no_server(site: Site) -> None:
    site.on("redis://:sesame@127.0.0.1:1/0")
    (finding,) = problems()
    assert "did not answer" in finding.text or "can't be used" in finding.text
    assert "Start the server" in finding.advice
    assert doctor()[0] == 1


def test_a_wrong_password_is_never_shown(site: Site, good: Valkey, admin: redis.Redis) -> None:
    admin.config_set("requirepass", "right")
    site.on(f"redis://:sesame%21@127.0.0.1:{good.port}/0")
    status, text = doctor()
    admin.config_set("requirepass", "")
    assert status == 1
    assert "password" in text
    assert "sesame" not in text


# Versions


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("Redis", (7, 0, 15), True),
        ("Redis", (7, 2, 10), True),
        ("Redis", (7, 2, 11), False),
        ("Redis", (7, 4, 5), True),
        ("Redis", (8, 0, 4), False),
        ("Redis", (8, 2, 1), True),
        ("Redis", (8, 2, 2), False),
        ("Redis", (8, 4, 0), False),
        ("Valkey", (7, 2, 10), True),
        ("Valkey", (8, 0, 6), False),
        ("Valkey", (8, 1, 3), True),
        ("Valkey", (8, 1, 4), False),
        ("Valkey", (9, 0, 0), False),
    ],
)
def test_versions_with_the_hole_in_scripts(name: str, version: tuple[int, ...], expected: bool) -> None:
    assert vulnerable(name, version) is expected


def test_valkey_is_told_from_redis() -> None:
    assert product({"redis_version": "7.0.15"}) == ("Redis", (7, 0, 15))
    assert product({"server_name": "valkey", "redis_version": "7.2.4", "valkey_version": "8.1.3"}) == (
        "Valkey",
        (8, 1, 3),
    )


# Settings


def test_a_lease_shorter_than_its_renewals(site: Site, good: Valkey) -> None:
    site.on(good.url)
    site.set(LEASE_SECONDS=0.5, SWEEP_SECONDS=0.2, POLL_SECONDS=0.3)
    (finding,) = problems()
    assert "LEASE_SECONDS is 0.5: shorter than its renewals need" in finding.text
    assert "at least 2" in finding.advice
    assert doctor()[0] == 1
    site.set(LEASE_SECONDS=5)
    assert problems() == []
    assert found("LEASE_SECONDS is 5", "socket timeout", severity=Severity.WARNING)


def test_lease_sweep_and_poll_that_do_not_go_together(site: Site, good: Valkey) -> None:
    site.on(good.url)
    site.set(SWEEP_SECONDS=60)
    assert found("SWEEP_SECONDS (60) is longer than LEASE_SECONDS (30)", severity=Severity.WARNING)
    site.set(POLL_SECONDS=10)
    assert found("RETRYING['POLL_SECONDS'] (10)", "socket timeout of 10 s", severity=Severity.PROBLEM)
    site.set(POLL_SECONDS=5, LEASE_SECONDS=4)
    assert found("POLL_SECONDS (5) is longer than LEASE_SECONDS (4)", severity=Severity.WARNING)


def test_timeouts_against_the_hard_one(site: Site, good: Valkey) -> None:
    site.on(good.url)
    site.set(CHANNELS={"deliveries": {"timeout": None}}, DEFAULT_POLICY={"timeout": 7200})
    assert found("Channel deliveries has no timeout", severity=Severity.WARNING)
    assert found("DEFAULT_POLICY allows 7200 s", severity=Severity.NOTE)


def test_settings_that_are_wrong(site: Site) -> None:
    site.set(LEESE_SECONDS=3)
    (finding,) = problems()
    assert "LEESE_SECONDS" in finding.text
    assert doctor()[0] == 1


def test_app_order_and_layer_are_told(site: Site, good: Valkey, settings: Any) -> None:
    site.on(good.url, expiry=60)
    assert found("not run", "retrying.W003", severity=Severity.WARNING)
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    channel_layers.backends.clear()
    (finding,) = problems()
    assert "RetryingChannelLayer" in finding.text


def test_channels_before_retrying_is_told_by_the_command(redis_url: str, tmp_path: Path) -> None:
    """The checks would stop any other command: this one tells what they say."""
    (tmp_path / "wrong_order.py").write_text(
        "from tests.plain.durable_settings import *\nINSTALLED_APPS = ['channels', 'retrying']\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "django", "retrying", "doctor"],
        env={
            **os.environ, "REDIS_URL": redis_url, "DJANGO_SETTINGS_MODULE": "wrong_order", "EFFECTS": "unused",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
        },
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "PROBLEM  INSTALLED_APPS has 'channels' before 'retrying'" in done.stdout


# The way to the server


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ({"address": "redis://10.0.0.7:6379/0"}, "10.0.0.7"),
        ({"address": "redis://user:sesame@redis.example/0"}, "redis.example"),
        ({"host": "redis.example", "port": 6379}, "redis.example"),
        ({"master_name": "m", "sentinels": [("one.example", 26379), ("127.0.0.1", 26379)]}, "one.example"),
        ({"address": "rediss://redis.example/0"}, ""),
        ({"host": "redis.example", "ssl": True}, ""),
        ({"address": "redis://127.0.0.1/0"}, ""),
        ({"address": "redis://localhost/0"}, ""),
        ({"address": "redis://[::1]:6379/0"}, ""),
        ({"address": "unix:///run/redis.sock"}, ""),
    ],
)
def test_plain_connections_to_other_machines(host: dict[str, Any], expected: str) -> None:
    findings = list(unencrypted(host))
    if not expected:
        assert findings == []
    else:
        (finding,) = findings
        assert finding.severity is Severity.WARNING
        assert f"to {expected} unencrypted" in finding.text


def test_passwords_are_hidden_however_they_are_written() -> None:
    host = {
        "address": "redis://u:se%40same@h/0?password=other",
        "password": "third",
        "sentinel_kwargs": {"password": "fourth"},
    }
    secrets = secrets_of(host)
    shown = hide_secrets("se%40same se@same other third fourth u h", secrets)
    assert shown == "*** *** *** *** *** u h"
    assert secrets_of({"address": "redis://127.0.0.1/0"}) == []


# Channels


def test_work_that_nobody_does(site: Site, good: Valkey, admin: redis.Redis) -> None:
    site.on(good.url)
    assert found("No worker, and no work", "deliveries", severity=Severity.NOTE)
    enqueue(CHANNEL, {"type": "work.do"})
    (finding,) = problems()
    assert "deliveries has no worker: 1 jobs are ready" in finding.text
    assert finding.advice.endswith("python manage.py runworker deliveries")
    store = get_layer().store
    store.run(store.sweep(CHANNEL, "host:1:a"))
    assert problems() == []


def test_a_channel_that_is_only_sent_to(site: Site, good: Valkey, admin: redis.Redis) -> None:
    site.on(good.url)
    enqueue("typo", {"type": "work.do"})
    (finding,) = problems()
    assert "typo has 1 job and no worker, and the project doesn't know it" in finding.text
    assert "retrying jobs typo --state ready" in finding.advice
    jobs.cancel("typo", jobs.search("typo", "ready").jobs[0].id)
    assert problems() == [], "nothing waits there any more"


def test_other_channels_can_be_named(site: Site, good: Valkey, admin: redis.Redis) -> None:
    site.on(good.url)
    enqueue("typo", {"type": "work.do"})
    admin.delete(f"{get_layer().store.prefix}:channels")
    assert problems() == []
    assert [item.topic for item in diagnose(["typo"]) if item.severity is Severity.PROBLEM] == ["channel typo"]
    assert doctor("typo")[0] == 1


def test_a_channel_without_a_route(site: Site, good: Valkey) -> None:
    site.on(good.url)
    site.set(CHANNELS={"delivereis": {}})
    assert found("'delivereis'", "no application", severity=Severity.WARNING)


def test_paused_channels_dead_letters_and_backlogs(site: Site, good: Valkey, admin: redis.Redis) -> None:
    site.on(good.url)
    store = get_layer().store
    store.run(store.sweep(CHANNEL, "host:1:a"))
    enqueue(CHANNEL, {"type": "work.do"}, job_id="dead")
    store.run(store.claim(CHANNEL, "host:1:a", "t", wanted=1))
    store.run(store.bury(CHANNEL, [Burial(Lease("dead", "t"), "gave up", "", 0)]))
    assert found("1 dead letters", severity=Severity.WARNING)
    enqueue(CHANNEL, {"type": "work.do"}, job_id="old")
    admin.hincrby(store.keys(CHANNEL).all[0] + "old", "created", -120_000)
    assert found("has a backlog: 1 jobs are ready", severity=Severity.WARNING)
    jobs.pause(CHANNEL)
    assert found("has been paused", "1 jobs wait", severity=Severity.WARNING)
    assert problems() == []
    assert doctor()[0] == 0


def test_the_worst_comes_first(site: Site, good: Valkey, admin: redis.Redis) -> None:
    site.on(good.url)
    admin.config_set("maxmemory-policy", "allkeys-lru")
    jobs.pause(CHANNEL)
    severities = [item.severity for item in diagnose()]
    assert severities == sorted(severities, key=list(Severity).index)
    assert severities[0] is Severity.PROBLEM
