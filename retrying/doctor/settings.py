"""Settings that don't go together."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from django.core.checks import ERROR, WARNING, registry

from ..conf import get_settings
from ..exceptions import RetryingError
from ..hand import FENCE_MARGIN, TICK
from ..jobs import routed
from ..policy import RetryPolicy
from ..renewal import PER_LEASE
from ..routes import ApplicationRoute, project_application
from ..store.connections import SOCKET_TIMEOUT
from .findings import Finding, Severity


def checks() -> Iterator[Finding]:
    """What ``manage.py check`` says about this package."""
    for check in registry.registry.get_checks():
        if check.__module__.startswith("retrying."):
            for message in check(app_configs=None, databases=None):
                severity = Severity.NOTE
                if message.level >= WARNING:
                    severity = Severity.PROBLEM if message.level >= ERROR else Severity.WARNING
                yield Finding(severity, "settings", f"{message.msg} ({message.id}).", message.hint or "")


def lease() -> Iterator[Finding]:
    """Is the lease long enough to be renewed, and to be given up, in time?"""
    settings = get_settings()
    needed = TICK / FENCE_MARGIN
    if needed > settings.LEASE_SECONDS:
        yield Finding(
            Severity.PROBLEM,
            "settings",
            f"LEASE_SECONDS is {settings.LEASE_SECONDS:g}: shorter than its renewals need. Workers renew every "
            f"{settings.LEASE_SECONDS / PER_LEASE:.2f} s and look every {TICK:g} s whether they could: a short stall "
            "makes a second worker run a job that still runs.",
            f"Set it to at least {needed:g}; the default is 30.",
        )
    elif settings.LEASE_SECONDS * (1 - FENCE_MARGIN - 1 / PER_LEASE) < SOCKET_TIMEOUT:
        yield Finding(
            Severity.WARNING,
            "settings",
            f"LEASE_SECONDS is {settings.LEASE_SECONDS:g}: one renewal that hangs for the socket timeout of "
            f"{SOCKET_TIMEOUT:g} s (a network that drops packets) outlasts it, and the job is run again elsewhere.",
            "Raise it (default 30), or give the store's host a shorter socket_timeout.",
        )
    if settings.SWEEP_SECONDS > settings.LEASE_SECONDS:
        yield Finding(
            Severity.WARNING,
            "settings",
            f"SWEEP_SECONDS ({settings.SWEEP_SECONDS:g}) is longer than LEASE_SECONDS ({settings.LEASE_SECONDS:g}): "
            "the jobs of a dead worker wait for the sweep long after their leases ended.",
            "Sweep several times within a lease: the defaults are 5 and 30.",
        )
    if settings.POLL_SECONDS > settings.LEASE_SECONDS:
        yield Finding(
            Severity.WARNING,
            "settings",
            f"POLL_SECONDS ({settings.POLL_SECONDS:g}) is longer than LEASE_SECONDS ({settings.LEASE_SECONDS:g}): when "
            "a doorbell is lost, work waits longer than a dead worker's.",
            "Poll several times within a lease: the defaults are 1 and 30.",
        )


def timeouts() -> Iterator[Finding]:
    """Policies against HARD_TIMEOUT_SECONDS."""
    hard = get_settings().HARD_TIMEOUT_SECONDS
    for name, policy in _policies():
        if policy.timeout is None:
            yield Finding(
                Severity.WARNING,
                "settings",
                f"{name} has no timeout: a hung attempt keeps its slot for ever (HARD_TIMEOUT_SECONDS exempts it).",
                "Give it a timeout, however long.",
            )
        elif policy.timeout > hard:
            yield Finding(
                Severity.NOTE,
                "settings",
                f"{name} allows {policy.timeout:g} s, more than HARD_TIMEOUT_SECONDS ({hard:g}): its own holds.",
            )


def _policies() -> Iterator[tuple[str, RetryPolicy]]:
    """Every policy that the project declares, with words for where."""
    settings = get_settings()
    yield "DEFAULT_POLICY", settings.DEFAULT_POLICY
    for name, channel in settings.CHANNELS.items():
        if channel.policy.timeout != settings.DEFAULT_POLICY.timeout:
            yield f"Channel {name}", channel.policy
    try:
        application = project_application()
        routes = [ApplicationRoute(application, name, settings.channel(name).policy) for name in routed(application)]
    except (RetryingError, Exception):  # told by the look at the channels
        return
    for consumer in dict.fromkeys(route.consumer for route in routes if route.consumer):
        for name, method in inspect.getmembers_static(consumer):
            if isinstance(policy := getattr(method, "retry_policy", None), RetryPolicy):
                yield f"Handler {consumer.__name__}.{name}", policy
