"""The system checks: what is wrong with a project's settings is said before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis
from channels.layers import channel_layers
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured

from project.development.valkey import Valkey
from retrying import checks
from retrying.conf import get_settings

#: Of our checks; others, of Django 6.1, ask the database.
TAGS = ["compatibility", "security"]


def ids(messages: list[Any]) -> list[str]:
    return [message.id for message in messages]


@pytest.fixture
def layer_config(settings: Any) -> Any:
    """Changes the CONFIG of the layer for the checks (the layer itself stays)."""

    def change(**config: Any) -> None:
        default = settings.CHANNEL_LAYERS["default"]
        settings.CHANNEL_LAYERS = {"default": {**default, "CONFIG": {**default["CONFIG"], **config}}}

    return change


def test_this_site_has_nothing_to_complain_about() -> None:
    assert [message for message in run_checks(tags=TAGS) if str(message.id).startswith("retrying")] == []


def test_app_order(settings: Any) -> None:
    assert checks.check_app_order() == []
    settings.INSTALLED_APPS = ["channels", "retrying"]
    (error,) = checks.check_app_order()
    assert error.id == "retrying.E001"
    assert "'channels' before 'retrying'" in error.msg


BAD_SETTINGS: dict[str, tuple[Any, str]] = {
    "no dict": ([], "RETRYING must be a dict, got list"),
    "unknown name": ({"LEASE": 30}, "RETRYING has no setting 'LEASE'; it takes DEFAULT_POLICY"),
    "text": ({"LEASE_SECONDS": "30"}, r"RETRYING\['LEASE_SECONDS'\] must be a number >= 0, got '30'"),
    "negative": ({"SWEEP_SECONDS": -1}, r"RETRYING\['SWEEP_SECONDS'\] must be a number >= 0, got -1"),
    "NaN": ({"LEASE_SECONDS": float("nan")}, r"RETRYING\['LEASE_SECONDS'\]"),
    "infinite": ({"LEASE_SECONDS": float("inf")}, r"RETRYING\['LEASE_SECONDS'\]"),
    "zero": ({"LEASE_SECONDS": 0}, r"RETRYING\['LEASE_SECONDS'\] must be more than 0"),
    "not whole": ({"MAX_RESCUES": 1.5}, r"RETRYING\['MAX_RESCUES'\] must be a whole number >= 0"),
    "bool": ({"TOPIC_MAX_EVENTS": True}, r"RETRYING\['TOPIC_MAX_EVENTS'\]"),
    "policy": ({"DEFAULT_POLICY": {"max_retries": -1}}, r"RETRYING\['DEFAULT_POLICY'\]: max_retries"),
    "policy's name": ({"DEFAULT_POLICY": {"retries": 1}}, r"RETRYING\['DEFAULT_POLICY'\]: a policy takes"),
    "policy no dict": ({"DEFAULT_POLICY": 5}, r"RETRYING\['DEFAULT_POLICY'\]"),
    "channels no dict": ({"CHANNELS": ["work"]}, r"RETRYING\['CHANNELS'\] must be a dict"),
    "channel no dict": ({"CHANNELS": {"work": 5}}, r"RETRYING\['CHANNELS'\]\['work'\]"),
    "channel's name": ({"CHANNELS": {"work": {"width": 5}}}, r"RETRYING\['CHANNELS'\]\['work'\].*got width"),
    "concurrency": ({"CHANNELS": {"work": {"concurrency": 0}}}, r"'work'\]: concurrency must be a whole number >= 1"),
    "channel's policy": ({"CHANNELS": {"work": {"backoff": -1}}}, r"'work'\]: backoff must be seconds >= 0"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_settings_are_named(settings: Any, case: str) -> None:
    settings.RETRYING, words = BAD_SETTINGS[case]
    (error,) = checks.check_settings()
    assert error.id == "retrying.E002"
    with pytest.raises(ImproperlyConfigured, match=words) as raised:
        get_settings()
    assert str(raised.value) == error.msg


def test_every_problem_is_told_at_once(settings: Any) -> None:
    settings.RETRYING = {"LEASE": 30, "SWEEP_SECONDS": -1, "CHANNELS": {"work": {"concurrency": 0}}}
    assert len(checks.check_settings()) == 3


def test_channel_inherits_the_default_policy(settings: Any) -> None:
    settings.RETRYING = {
        "DEFAULT_POLICY": {"max_retries": 9, "timeout": 5},
        "CHANNELS": {"work": {"timeout": 7, "concurrency": 3, "keep_succeeded": 2}},
        "KEEP_SUCCEEDED": 1,
    }
    work, other = get_settings().channel("work"), get_settings().channel("other")
    assert (work.policy.max_retries, work.policy.timeout, work.concurrency, work.keep_succeeded) == (9, 7, 3, 2)
    assert (other.policy.max_retries, other.policy.timeout, other.concurrency, other.keep_succeeded) == (9, 5, 1, 1)


@pytest.mark.parametrize(("timeout", "found"), [(5, ["retrying.W001"]), (0.5, ["retrying.W001"]), (15, []), (None, [])])
def test_socket_timeout_below_the_blocking_pop(layer_config: Any, timeout: Any, found: list[str]) -> None:
    layer_config(hosts=[{"address": "redis://127.0.0.1:1", "socket_timeout": timeout}])
    assert ids(checks.check_layers()) == found


def test_few_connections(layer_config: Any) -> None:
    layer_config(hosts=[{"address": "redis://127.0.0.1:1", "max_connections": 3}])
    assert ids(checks.check_layers()) == ["retrying.W002"]


@pytest.mark.parametrize(("expiry", "found"), [(60, ["retrying.W003"]), (3599, ["retrying.W003"]), (3600, [])])
def test_expiry_under_an_hour(layer_config: Any, expiry: int, found: list[str]) -> None:
    layer_config(expiry=expiry)
    assert ids(checks.check_layers()) == found


def test_hosts_as_text(layer_config: Any) -> None:
    layer_config(hosts="redis://127.0.0.1:1")
    assert ids(checks.check_layers()) == ["retrying.E004"]


@pytest.mark.parametrize(("prefix", "found"), [("retry", ["retrying.E005"]), ("", ["retrying.E005"]), ("mine", [])])
def test_prefix_of_the_jobs(layer_config: Any, prefix: str, found: list[str]) -> None:
    layer_config(prefix=prefix)
    assert ids(checks.check_layers()) == found


@pytest.mark.parametrize(("prefix", "found"), [("retrying:asgi", ["retrying.E005"]), ("asgi2", []), ("retrying2", [])])
def test_prefix_of_another_layers_jobs(settings: Any, prefix: str, found: list[str]) -> None:
    default = settings.CHANNEL_LAYERS["default"]
    other = {**default, "CONFIG": {**default["CONFIG"], "prefix": prefix}}
    settings.CHANNEL_LAYERS = {"default": default, "other": other}
    assert ids(checks.check_layers()) == found


STORES: dict[str, tuple[dict[str, Any], float, list[str]]] = {
    "default": ({}, 1.0, []),
    "poll too long": ({}, 10.0, ["retrying.E009"]),
    "socket too short": ({"store": {"address": "redis://127.0.0.1:1", "socket_timeout": 0.5}}, 1.0, ["retrying.E009"]),
    "no limit": ({"store": {"address": "redis://127.0.0.1:1", "socket_timeout": None}}, 60.0, []),
    "Sentinel": ({"store": {"master_name": "m", "sentinels": [("127.0.0.1", 1)]}}, 5.0, ["retrying.E009"]),
    "told elsewhere": ({"store": {"adress": "redis://127.0.0.1:1"}}, 60.0, []),
}


@pytest.mark.parametrize("name", STORES)
def test_poll_that_outlasts_its_socket(layer_config: Any, settings: Any, name: str) -> None:
    config, poll, found = STORES[name]
    layer_config(**config)
    settings.RETRYING = {"POLL_SECONDS": poll}
    assert ids(checks.check_poll()) == found


def test_eviction(tmp_path: Path, layer_config: Any) -> None:
    with Valkey(tmp_path) as valkey, redis.Redis.from_url(valkey.url) as server:
        layer_config(hosts=[valkey.url])
        channel_layers.backends.clear()
        assert checks.check_eviction() == []
        server.config_set("maxmemory-policy", "allkeys-lru")
        (critical,) = checks.check_eviction()
        assert critical.id == "retrying.C001"
        assert "allkeys-lru" in critical.msg
        deployment = run_checks(tags=TAGS, include_deployment_checks=True)
        assert "retrying.C001" in ids(deployment)
        assert "retrying.C001" not in ids(run_checks(tags=TAGS)), "without --deploy no server is asked"
    (warning,) = checks.check_eviction()
    assert warning.id == "retrying.W004"
