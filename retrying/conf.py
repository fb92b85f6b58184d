"""The ``RETRYING`` setting, typed: every name that it may hold, its unit and its default."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver

from .exceptions import InvalidPolicy
from .message import CHANNEL_NAME
from .policy import RetryPolicy
from .store import Limits
from .store.throttle import Rate, Throttle
from .thresholds import Thresholds

#: What a channel's entry may hold beside the names of a policy.
CHANNEL_OPTIONS = {"concurrency", "keep_succeeded", "total_concurrency"}
#: Parts of names whose values are secrets; ``_`` stands for any or no separator.
SECRETS = (
    "password", "passwd", "passphrase", "secret", "token", "authorization", "cookie", "api_key", "private_key",
    "access_key", "credential", "session_id",
)  # fmt: skip
#: Those of them that limit the channel over all workers by rate or by key.
LIMITS = {"rate", "burst", "rate_per_key", "burst_per_key", "concurrency_per_key", "ordered_by_key"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """An entry of ``RETRYING["CHANNELS"]``."""

    policy: RetryPolicy
    #: Jobs that one process runs at a time.
    concurrency: int = 1
    #: Succeeded jobs to keep.
    keep_succeeded: int = 0
    #: Jobs that run at a time over all workers; None = without limit.
    total_concurrency: int | None = None
    #: Rates and limits per key over all workers; None = without.
    throttle: Throttle | None = None
    #: What is an alert.
    alerts: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``RETRYING``. Unknown names and bad values raise ImproperlyConfigured, naming the setting."""

    #: Policy of every job whose channel and handler have none.
    DEFAULT_POLICY: RetryPolicy = field(default_factory=RetryPolicy)
    #: Channel name -> policy names, ``concurrency``, ``keep_succeeded``, limits.
    CHANNELS: Mapping[str, ChannelSettings] = field(default_factory=dict)
    #: Path of a task (``app.tasks.name``, or a pattern: ``app.tasks.report_*``) -> channel; the first match wins.
    #: A path without wildcards also lets a task run that isn't in a ``tasks`` module.
    ROUTES: Mapping[str, str] = field(default_factory=dict)
    #: A worker that is silent for this long loses its jobs.
    LEASE_SECONDS: float = 30.0
    #: Between two looks for leases that ended.
    SWEEP_SECONDS: float = 5.0
    #: Longest wait of an idle worker for the doorbell before it looks by itself.
    POLL_SECONDS: float = 1.0
    #: For this long after its end a job's id is still known.
    DEDUP_SECONDS: float = 300.0
    #: Dead letters, cancelled and expired jobs older than this are purged.
    DEAD_KEEP_DAYS: float = 30.0
    #: Succeeded jobs to keep in each channel; a channel's own ``keep_succeeded`` wins.
    KEEP_SUCCEEDED: int = 0
    #: A job whose workers vanished more often than this becomes a dead letter.
    MAX_RESCUES: int = 3
    #: Running jobs get this long to end when the worker is told to stop.
    SHUTDOWN_TIMEOUT_SECONDS: float = 25.0
    #: A worker process ends after so many jobs, and above so much memory (0: never), for its supervisor to start anew.
    RECYCLE_AFTER_JOBS: int = 0
    RECYCLE_ABOVE_MIB: int = 0
    #: An attempt older than this (and than its own timeout; one without a timeout is exempt) makes its process exit
    #: with 70, after it gave its other jobs back: a sync handler that hangs can't be cancelled.
    HARD_TIMEOUT_SECONDS: float = 3600.0
    #: Events that a topic keeps.
    TOPIC_MAX_EVENTS: int = 1000
    #: A topic without news for this long is forgotten.
    TOPIC_TTL_SECONDS: float = 86400.0
    #: Largest message, serialized.
    MAX_MESSAGE_BYTES: int = 1048576
    #: What has one of these in its name is hidden in logs, pages, traces and error texts; case and ``_`` don't matter.
    #: To add some: ``[*retrying.conf.SECRETS, "iban"]``.
    REDACT_NAMES: tuple[str, ...] = field(default_factory=lambda: SECRETS)
    #: What is an alert, in every channel; a channel's own ``alerts`` wins, name by name.
    ALERTS: Thresholds = field(default_factory=Thresholds)
    #: Who shows it as bearer token may read /metrics; None: signed-in staff only.
    METRICS_TOKEN: str | None = None

    def channel(self, name: str) -> ChannelSettings:
        """What holds for a channel."""
        found = self.CHANNELS.get(name)
        return found or ChannelSettings(
            policy=self.DEFAULT_POLICY, keep_succeeded=self.KEEP_SUCCEEDED, alerts=self.ALERTS
        )

    def route(self, path: str) -> str | None:
        """The channel that ``ROUTES`` sends a task to."""
        return next((channel for pattern, channel in self.ROUTES.items() if fnmatchcase(path, pattern)), None)

    def limits(self) -> Limits:
        """What the store's scripts are told."""
        return Limits(
            lease=self.LEASE_SECONDS,
            sweep=self.SWEEP_SECONDS,
            dedup=self.DEDUP_SECONDS,
            dead_keep=self.DEAD_KEEP_DAYS * 86400,
            max_rescues=self.MAX_RESCUES,
            topic_events=self.TOPIC_MAX_EVENTS,
            topic_ttl=self.TOPIC_TTL_SECONDS,
        )


def problems(raw: object) -> list[str]:
    """What is wrong with a value of the ``RETRYING`` setting, in sentences."""
    try:
        _parse(raw)
    except ImproperlyConfigured as error:
        return str(error).split("\n")
    return []


@cache
def get_settings() -> Settings:
    """The project's settings. Raises ImproperlyConfigured."""
    return _parse(getattr(django_settings, "RETRYING", {}))


def task_channels() -> list[str]:
    """Channels of tasks that the settings name: of each queue in ``TASKS`` with a backend of this package, and in
    ``ROUTES``."""
    found = list(get_settings().ROUTES.values())
    for params in (getattr(django_settings, "TASKS", None) or {}).values():
        if str(params.get("BACKEND", "")).startswith("retrying."):
            found += [f"tasks.{queue}" for queue in params.get("QUEUES", ["default"])]
    return found


@receiver(setting_changed)
def _forget(*, setting: str, **_: object) -> None:
    if setting == "RETRYING":
        get_settings.cache_clear()


def _parse(raw: object) -> Settings:
    if not isinstance(raw, Mapping):
        raise ImproperlyConfigured(f"RETRYING must be a dict, got {type(raw).__name__}")
    found: list[str] = []
    names = {item.name: item for item in fields(Settings)}
    unknown = [name for name in raw if name not in names]
    found += [f"RETRYING has no setting {name!r}; it takes {', '.join(names)}" for name in unknown]
    values: dict[str, Any] = {}
    typed = {"DEFAULT_POLICY", "CHANNELS", "ROUTES", "ALERTS", "METRICS_TOKEN", "REDACT_NAMES"}
    for name in names.keys() & raw.keys() - typed:
        value, default = raw[name], names[name].default
        whole = isinstance(default, int)
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value) or value < 0:
            found.append(f"RETRYING[{name!r}] must be a {'whole ' if whole else ''}number >= 0, got {value!r}")
        elif value == 0 and default is not MISSING and default > 0 and name != "MAX_RESCUES":
            found.append(f"RETRYING[{name!r}] must be more than 0")
        else:
            values[name] = value if whole else float(value)
    default_policy = RetryPolicy()
    try:
        default_policy = RetryPolicy.from_mapping(raw.get("DEFAULT_POLICY", {}))
    except (InvalidPolicy, TypeError) as error:
        found.append(f"RETRYING['DEFAULT_POLICY']: {error}")
    alerts = Thresholds()
    try:
        alerts = Thresholds.parse(raw.get("ALERTS", {}))
    except (ValueError, TypeError) as error:
        found.append(f"RETRYING['ALERTS'] {error}")
    channels: dict[str, ChannelSettings] = {}
    entries = raw.get("CHANNELS", {})
    if not isinstance(entries, Mapping):
        found.append(f"RETRYING['CHANNELS'] must be a dict of channel name -> options, got {entries!r}")
        entries = {}
    for name, options in entries.items():
        try:
            channels[name] = _channel(options, default_policy, values.get("KEEP_SUCCEEDED", 0), alerts)
        except (InvalidPolicy, TypeError) as error:
            found.append(f"RETRYING['CHANNELS'][{name!r}]: {error}")
    routes = raw.get("ROUTES", {})
    found += _route_problems(routes)
    found += _text_problems(raw)
    if found:
        raise ImproperlyConfigured("\n".join(found))
    return Settings(
        DEFAULT_POLICY=default_policy, CHANNELS=channels, ROUTES=routes, ALERTS=alerts,
        METRICS_TOKEN=raw.get("METRICS_TOKEN"), REDACT_NAMES=tuple(raw.get("REDACT_NAMES", SECRETS)), **values,
    )  # fmt: skip


def _text_problems(raw: Mapping[str, Any]) -> Iterator[str]:
    token, names = raw.get("METRICS_TOKEN"), raw.get("REDACT_NAMES", SECRETS)
    if token is not None and (not isinstance(token, str) or not token):
        yield f"RETRYING['METRICS_TOKEN'] must be a text, or None, got {type(token).__name__}"
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names):
        yield f"RETRYING['REDACT_NAMES'] must be a list of parts of names, got {names!r}"


def _route_problems(routes: object) -> list[str]:
    if not isinstance(routes, Mapping):
        return [f"RETRYING['ROUTES'] must be a dict of task path or pattern -> channel, got {routes!r}"]
    return [
        f"RETRYING['ROUTES'][{path!r}] must be the name of a channel, got {channel!r}"
        for path, channel in routes.items()
        if not isinstance(path, str) or not isinstance(channel, str) or not CHANNEL_NAME.fullmatch(channel)
    ]


def _channel(options: Mapping[str, Any], default: RetryPolicy, keep: int, alerts: Thresholds) -> ChannelSettings:
    if not isinstance(options, Mapping):
        raise InvalidPolicy(f"a channel takes a dict of options, got {options!r}")
    own = {name: options[name] for name in CHANNEL_OPTIONS & options.keys()}
    for name, least in (("concurrency", 1), ("keep_succeeded", 0), ("total_concurrency", 1)):
        value = own.get(name, least)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidPolicy(f"{name} must be a whole number >= {least}, got {value!r}")
    try:
        alerts = Thresholds.parse(options.get("alerts", {}), base=alerts)
    except (ValueError, TypeError) as error:
        raise InvalidPolicy(f"alerts {error}") from error
    policy = {name: value for name, value in options.items() if name not in CHANNEL_OPTIONS | LIMITS | {"alerts"}}
    return ChannelSettings(
        policy=RetryPolicy.from_mapping(policy, base=default),
        alerts=alerts,
        throttle=_throttle({name: options[name] for name in LIMITS & options.keys()}),
        **{"keep_succeeded": keep, **own},
    )


def _throttle(options: Mapping[str, Any]) -> Throttle | None:
    if not options:
        return None
    rates: dict[str, Rate] = {}
    for name in ("rate", "rate_per_key"):
        burst = name.replace("rate", "burst")
        if name in options:
            try:
                rates[name] = Rate.parse(options[name], options.get(burst), name=name)
            except ValueError as error:
                raise InvalidPolicy(str(error)) from error
        elif burst in options:
            raise InvalidPolicy(f"{burst} needs {name}: it is what may begin at once before the rate holds")
    concurrency, ordered = options.get("concurrency_per_key"), options.get("ordered_by_key", False)
    if "concurrency_per_key" in options and (
        isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1
    ):
        raise InvalidPolicy(f"concurrency_per_key must be a whole number >= 1, got {concurrency!r}")
    if not isinstance(ordered, bool):
        raise InvalidPolicy(f"ordered_by_key must be True or False, got {ordered!r}")
    if ordered and concurrency not in (None, 1):
        raise InvalidPolicy(f"ordered_by_key runs one job of a key at a time, concurrency_per_key says {concurrency}")
    return Throttle(concurrency_per_key=concurrency, ordered_by_key=ordered, **rates)
