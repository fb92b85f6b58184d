"""What is wrong with this server, these settings and these workers, in plain words, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from channels.exceptions import InvalidChannelLayerError
from django.core.exceptions import ImproperlyConfigured
from redis.exceptions import RedisError

from ..conf import get_settings
from ..exceptions import RetryingError
from ..layers import get_layer
from . import schedules as of_schedules
from . import settings as of_settings
from . import work as of_work
from .address import hide_secrets, secrets_of, unencrypted
from .findings import Finding, Severity
from .server import examine_server

__all__ = ["Finding", "Severity", "diagnose"]


def diagnose(channels: Sequence[str] = (), *, using: str = "default") -> list[Finding]:
    """Examine settings, server and workers; the most severe finding first. Raises nothing for what it finds.

    ``channels``: to be looked at beside those that the project names. Passwords are never in a finding.
    """
    try:
        get_settings()
        layer = get_layer(using)
    except (ImproperlyConfigured, InvalidChannelLayerError, ImportError, TypeError, ValueError) as error:
        found = list(of_settings.checks())
        return found or [
            Finding(Severity.PROBLEM, "layer", str(error), "Set CHANNEL_LAYERS as docs/settings.md has it.")
        ]
    host = layer.store.connections.host
    parts: list[Callable[[], Iterable[Finding]]] = [
        of_settings.checks,
        of_settings.lease,
        of_settings.timeouts,
        lambda: unencrypted(host),
        lambda: examine_server(layer.store),
        lambda: of_work.examine_channels(channels, using),
        lambda: of_schedules.examine_schedules(using),
    ]
    found = []
    for part in parts:
        try:
            found += part()
        except (RedisError, RetryingError, OSError) as error:
            # What comes after the server would only say the same again.
            found.append(_unreachable(error))
            break
    secrets = secrets_of(host)
    hidden = [
        replace(item, text=hide_secrets(item.text, secrets), advice=hide_secrets(item.advice, secrets))
        for item in found
    ]
    return sorted(hidden, key=lambda item: list(Severity).index(item.severity))


def _unreachable(error: Exception) -> Finding:
    text = str(error).rstrip(".")
    if any(word in text for word in ("NOAUTH", "WRONGPASS", "invalid username-password", "Authentication required")):
        advice = "Put the user and password of the server into the layer's hosts (or store)."
    elif "NOPERM" in text or "no permissions" in text.lower():
        advice = (
            "Let the user run scripts (+eval +evalsha), INFO, TIME and BLPOP, and the scripts' own commands, "
            "on keys and pub/sub channels that begin with retrying:."
        )
    else:
        advice = "Start the server, or correct its address in the layer's hosts (or store)."
    return Finding(Severity.PROBLEM, "server", f"The job store can't be used: {text}.", advice)
