"""A store of a test's own: the same layers as in the settings, on keys that nobody else has."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from channels.layers import channel_layers
from channels_redis.utils import decode_hosts
from django.conf import ENVIRONMENT_VARIABLE, settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string
from redis.exceptions import RedisError

from ..conf import get_settings
from ..exceptions import StoreUnavailable
from ..joblayer import JobLayer
from ..store.connections import Connections

#: Keys that one request of the clean-up deletes.
BATCH = 500


@dataclass(frozen=True, slots=True)
class JobStore:
    """``url``: the server, "" for that of the settings; ``prefix``: what the layers' own prefix is followed by."""

    url: str
    prefix: str

    def config(self, config: dict[str, Any]) -> dict[str, Any]:
        """A layer's CONFIG, changed to use this store: for settings of processes that a test starts."""
        changed = {**config, "prefix": f"{config.get('prefix', 'asgi')}{self.prefix}"}
        if self.url:
            changed.pop("store", None)
            changed["hosts"] = [self.url]
        return changed


@contextmanager
def isolated(url: str = "") -> Iterator[JobStore]:
    """Let every layer of this package in CHANNEL_LAYERS use an empty store, until the end of the block.

    ``url``: of the server to use; "" takes the settings' own, where nothing but this block's keys is touched.
    Raises ImproperlyConfigured (no settings, no such layer) and StoreUnavailable.
    """
    configs = _configs()
    store = JobStore(url, f"-test-{secrets.token_hex(8)}")
    make: Any = channel_layers._make_backend

    def make_isolated(alias: str) -> Any:
        config = channel_layers.configs[alias].get("CONFIG", {})
        return make(alias, store.config(config) if alias in _configs() else config)

    def on_change(*, setting: str, **_: object) -> None:
        if setting == "RETRYING":  # layers keep what they were told of it
            get_settings.cache_clear()
            _forget_layers()

    _forget_layers()
    channel_layers.make_backend = make_isolated  # type: ignore[method-assign]
    setting_changed.connect(on_change)
    try:
        for config in configs.values():
            _ping(config, url)
        yield store
    finally:
        setting_changed.disconnect(on_change)
        del channel_layers.make_backend
        _forget_layers()
        for config in configs.values():
            _clean(store.config(config))


def _configs() -> dict[str, dict[str, Any]]:
    """CONFIG by alias, of the layers of this package."""
    try:
        layers = getattr(settings, "CHANNEL_LAYERS", {})
    except ImproperlyConfigured as error:
        raise ImproperlyConfigured(
            f"the tests have no Django settings: install pytest-django, or set {ENVIRONMENT_VARIABLE} and call "
            "django.setup() in conftest.py"
        ) from error
    found = {
        alias: layer.get("CONFIG", {})
        for alias, layer in layers.items()
        if issubclass(import_string(layer["BACKEND"]), JobLayer)
    }
    if not found:
        raise ImproperlyConfigured(
            "CHANNEL_LAYERS of the tests' settings has no layer of retrying.layers: there are no jobs to test. "
            f"It has: {', '.join(layer['BACKEND'] for layer in layers.values()) or 'nothing'}"
        )
    return found


def escape(text: str) -> str:
    """``text`` as a pattern of keys that matches only itself."""
    return re.sub(r"([\[\]*?\\])", r"\\\1", text)


def _forget_layers() -> None:
    for layer in channel_layers.backends.values():
        if isinstance(layer, JobLayer):
            layer.store.connections.close()
    channel_layers.backends.clear()


def _ping(config: dict[str, Any], url: str) -> None:
    host = {"address": url} if url else _hosts(config)[0]
    connections = Connections(host)
    try:
        connections.sync().ping()
    except (RedisError, OSError) as error:
        raise StoreUnavailable(
            f"the job store of the tests does not answer: {error}. Start it, or unset REDIS_URL and install "
            "django-channels-retrying[embedded]: each test run then has a server of its own"
        ) from error
    finally:
        connections.close()


def _hosts(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The job store first, then the layer's hosts."""
    store = config.get("store")
    return [*(decode_hosts([store]) if store else ()), *decode_hosts(config.get("hosts"))]


def _clean(config: dict[str, Any]) -> None:
    prefix = escape(config["prefix"])
    for host in _hosts(config):
        connections = Connections(host)
        try:
            client: redis.Redis = connections.sync()
            for pattern in (f"retrying:{prefix}:*", f"{prefix}*"):
                batch: list[Any] = []
                for key in client.scan_iter(match=pattern, count=1000):
                    batch.append(key)
                    if len(batch) == BATCH:
                        client.unlink(*batch)
                        batch.clear()
                if batch:
                    client.unlink(*batch)
        except (RedisError, OSError):
            pass  # the test stopped its server: nothing of it is left, or its keys stay behind
        finally:
            connections.close()
