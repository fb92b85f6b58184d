"""System checks. Ids: ``retrying.E...`` stop a deployment, ``retrying.W...`` warn."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import django
from channels.layers import channel_layers
from channels_redis.core import RedisChannelLayer
from channels_redis.utils import decode_hosts
from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Critical, Error, Tags, register
from redis.exceptions import RedisError

from .conf import get_settings, problems
from .store.connections import Connections
from .store.server import Server

if django.VERSION >= (6,):
    import_module("django.tasks")  # registers the check that asks each task backend

CORE = "retrying.layers.RetryingChannelLayer"
BACKENDS = (CORE, "retrying.layers.RetryingPubSubChannelLayer")
#: A blocking pop of channels_redis takes this many seconds; a shorter socket timeout kills every idle consumer.
BLOCKING_POP_SECONDS = RedisChannelLayer.brpop_timeout


@register(Tags.compatibility)
def check_app_order(**_: Any) -> list[CheckMessage]:
    """``retrying`` before ``channels``: whichever comes first has its runworker used."""
    names = [config.name for config in apps.get_app_configs()]
    if "channels" in names and names.index("retrying") > names.index("channels"):
        return [
            Error(
                "INSTALLED_APPS has 'channels' before 'retrying': runworker is then Channels' own, which loses work",
                hint="Put 'retrying' first.",
                id="retrying.E001",
            )
        ]
    return []


@register(Tags.compatibility)
def check_settings(**_: Any) -> list[CheckMessage]:
    """``RETRYING`` holds only what is known."""
    return [
        Error(problem, hint="See retrying/conf.py for every setting.", id="retrying.E002")
        for problem in problems(getattr(settings, "RETRYING", {}))
    ]


@register(Tags.compatibility)
def check_shadowed(**_: Any) -> list[CheckMessage]:
    """A file of the project named like our packages would be imported instead of them."""
    found: list[CheckMessage] = []
    for name in ("retrying", "realtime"):
        if apps.is_installed(name):
            path = Path(apps.get_app_config(name).path)
            if not (path / "py.typed").exists():
                found.append(
                    Error(
                        f"{name!r} is imported from {path}, which isn't this package",
                        hint=f"Rename {path}: it stands before the installed package on sys.path.",
                        id="retrying.E003",
                    )
                )
    return found


def _layers() -> Iterator[tuple[str, dict[str, Any]]]:
    for alias, config in getattr(settings, "CHANNEL_LAYERS", {}).items():
        if config.get("BACKEND") in BACKENDS:
            yield alias, config.get("CONFIG", {})


@register(Tags.compatibility)
def check_layers(**_: Any) -> list[CheckMessage]:
    """Explicit connection settings that are too small, and an expiry that throws work away."""
    found: list[CheckMessage] = []
    for alias, config in _layers():
        where = f"CHANNEL_LAYERS[{alias!r}]['CONFIG']"
        if isinstance(config.get("hosts"), (str, bytes)):
            found.append(Error(f"{where}['hosts'] must be a list, got text", id="retrying.E004"))
            continue
        core = settings.CHANNEL_LAYERS[alias]["BACKEND"] == CORE  # the other one neither blocks nor has keys
        for host in decode_hosts(config.get("hosts")) if core else ():
            timeout = host.get("socket_timeout", BLOCKING_POP_SECONDS + 1)
            if timeout is not None and timeout <= BLOCKING_POP_SECONDS:
                found.append(
                    checks.Warning(
                        f"{where}: a socket_timeout of {timeout} s is not above the blocking pop of "
                        f"{BLOCKING_POP_SECONDS} s: every idle consumer dies of it",
                        hint="Leave socket_timeout out, or set it to 15.",
                        id="retrying.W001",
                    )
                )
            if host.get("max_connections", 100) < 10:
                found.append(
                    checks.Warning(
                        f"{where}: max_connections of {host['max_connections']} is too small",
                        hint="Leave it out, or give at least 10.",
                        id="retrying.W002",
                    )
                )
        if "store" in config:
            try:
                Server.of(decode_hosts([config["store"]])[0])
            except ValueError as error:
                found.append(Error(f"{where}['store']: {error}", hint="See docs/stores.md.", id="retrying.E006"))
        expiry = config.get("expiry")
        if expiry is not None and expiry < 3600:
            found.append(
                checks.Warning(
                    f"{where}: jobs whose first attempt has not begun after {expiry} s (expiry) are not run",
                    hint="Leave expiry out: a job then waits as long as it takes.",
                    id="retrying.W003",
                )
            )
        prefix = config.get("prefix", "asgi")
        if core and (jobs := _begins_keys_of_jobs(prefix)):
            found.append(
                Error(
                    f"{where}: the prefix {prefix!r} begins the keys of jobs too ({jobs}...): flushing the layer would "
                    "delete them",
                    hint="Use another prefix; the default is 'asgi'.",
                    id="retrying.E005",
                )
            )
    return found


@register(Tags.compatibility)
def check_backport(**_: Any) -> list[CheckMessage]:
    """Before Django 6 tasks are those of the ``django-tasks`` package, which must be installed as an app."""
    ours = [
        alias
        for alias, params in (getattr(settings, "TASKS", None) or {}).items()
        if str(params.get("BACKEND", "")).startswith("retrying.")
    ]
    if django.VERSION >= (6,) or not ours or apps.is_installed("django_tasks"):
        return []
    return [
        Error(
            f"TASKS[{ours[0]!r}] needs the django-tasks package on Django {django.get_version()}",
            hint="pip install django-tasks, and put 'django_tasks' into INSTALLED_APPS.",
            id="retrying.E008",
        )
    ]


def _begins_keys_of_jobs(prefix: str) -> str:
    """How keys of jobs of one of the layers begin, when a layer with this prefix would take them for its own."""
    for _, config in _layers():
        keys = f"retrying:{config.get('prefix', 'asgi')}:"
        if keys.startswith(prefix) or prefix.startswith((f"{keys}{{", f"{keys}channels")):
            return keys
    return ""


@register(Tags.compatibility)
def check_poll(**_: Any) -> list[CheckMessage]:
    """An idle wait for work ends before the socket that waits."""
    if problems(getattr(settings, "RETRYING", {})):
        return []  # told by check_settings
    poll = get_settings().POLL_SECONDS
    found: list[CheckMessage] = []
    for alias, config in _layers():
        store = config.get("store")
        try:
            timeout = Connections(decode_hosts([store] if store else config.get("hosts"))[0]).socket_timeout
        except (TypeError, ValueError):
            continue  # told by check_layers, or when the layer is made
        if timeout is not None and poll >= timeout:
            found.append(
                Error(
                    f"RETRYING['POLL_SECONDS'] ({poll:g}) is not below the socket timeout of {timeout:g} s of the job "
                    f"store of CHANNEL_LAYERS[{alias!r}]: every idle wait for work ends in a broken connection",
                    hint="Leave POLL_SECONDS at 1, and socket_timeout out.",
                    id="retrying.E009",
                )
            )
    return found


@register(Tags.security, deploy=True)
def check_eviction(**_: Any) -> list[CheckMessage]:
    """A server that evicts keys deletes jobs. Dials the server, so only under ``check --deploy``."""
    found: list[CheckMessage] = []
    for alias, _config in _layers():
        store = channel_layers[alias].store
        try:
            policy = store.connections.sync().info("memory").get("maxmemory_policy", "noeviction")
        except (RedisError, OSError) as error:
            found.append(
                checks.Warning(
                    f"the job store of CHANNEL_LAYERS[{alias!r}] does not answer: {error}", id="retrying.W004"
                )
            )
            continue
        if policy != "noeviction":
            found.append(
                Critical(
                    f"the job store of CHANNEL_LAYERS[{alias!r}] has maxmemory-policy {policy}: it deletes jobs",
                    hint="Set maxmemory-policy to noeviction, and give caches a server of their own.",
                    id="retrying.C001",
                )
            )
    return found
