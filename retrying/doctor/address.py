"""Where the store is: is the way there encrypted, and which of its words must never be shown?"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from .findings import Finding, Severity

SECRET_NAMES = ("password", "sentinel_password")


def unencrypted(host: Mapping[str, Any]) -> Iterator[Finding]:
    """Plain connections to other machines."""
    remote = [name for name, encrypted in _servers(host) if not encrypted and not _is_local(name)]
    if remote:
        yield Finding(
            Severity.WARNING,
            "server",
            f"Jobs and the password travel to {', '.join(remote)} unencrypted.",
            "Use rediss:// (TLS), or make sure that the network between is private; "
            "symmetric_encryption_keys encrypt the messages themselves.",
        )


def secrets_of(host: Mapping[str, Any]) -> list[str]:
    """Every password in a description of a server, as written and as decoded; the longest first."""
    found = {str(host[name]) for name in SECRET_NAMES if host.get(name)}
    for name, value in host.items():
        if name == "address":
            url = urlsplit(str(value))
            found |= {url.password or ""}
            found |= {text for key, text in parse_qsl(url.query) if key in SECRET_NAMES}
        elif isinstance(value, Mapping):  # sentinel_kwargs
            found |= set(secrets_of(value))
    found |= {unquote(secret) for secret in found}
    return sorted(found - {""}, key=len, reverse=True)


def hide_secrets(text: str, secrets: list[str]) -> str:
    """``text`` with ``***`` in the place of every secret."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _servers(host: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Name and "is encrypted" of every server that a connection is made to."""
    if "master_name" in host:
        for name, _port in host["sentinels"]:
            yield str(name), bool(host.get("ssl"))
    elif "address" in host:
        url = urlsplit(str(host["address"]))
        if url.scheme != "unix":
            yield url.hostname or "localhost", url.scheme == "rediss"
    elif not host.get("path"):
        yield str(host.get("host", "localhost")), bool(host.get("ssl"))


def _is_local(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
