"""The HTTP clients that webhooks go out by: kept, because a worker lives long; one pair for each event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import ip_address
from weakref import WeakKeyDictionary

import httpx
from httpx_secure import httpx_ssrf_protection

from .targets import Address, is_own_receiver, is_public

#: A name's checked address is kept this long for new connections.
DNS_SECONDS = 30


class BlockedAddress(Exception):
    """The host's name leads to an address that deliveries don't go to."""

    def __init__(self, host: str, address: str) -> None:
        super().__init__(f"blocked address: {host} leads to {address}, which is not public")


@dataclass(frozen=True, slots=True)
class Clients:
    """``guarded``: all deliveries. ``receivers``: the site's own receivers while developing, and nothing else."""

    guarded: httpx.AsyncClient
    receivers: httpx.AsyncClient


_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Clients] = WeakKeyDictionary()


async def client_for(url: httpx.URL) -> httpx.AsyncClient:
    """The client that may call ``url``. Raises BlockedAddress; httpx.ConnectError when the name is unknown."""
    loop = asyncio.get_running_loop()
    clients = _clients.get(loop)
    if clients is None:
        clients = _clients[loop] = Clients(guarded=_guarded_client(), receivers=_plain_client())
    if is_own_receiver(url):
        return clients.receivers
    await _refuse_private(url)
    return clients.guarded


async def check_redirect(url: httpx.URL, location: str) -> None:
    """Raises BlockedAddress when a redirect, which isn't followed anyway, leads where deliveries don't go.

    A Location that is no URL, or whose name is unknown, leads nowhere.
    """
    with contextlib.suppress(httpx.InvalidURL, httpx.ConnectError, ValueError):
        target = url.join(location)
        if not is_own_receiver(target):
            await _refuse_private(target)


async def close_clients() -> None:
    """Close this event loop's clients and their connections."""
    clients = _clients.pop(asyncio.get_running_loop(), None)
    if clients is not None:
        await clients.guarded.aclose()
        await clients.receivers.aclose()


def _plain_client() -> httpx.AsyncClient:
    return httpx.AsyncClient(
        follow_redirects=False,
        trust_env=False,  # no proxy, no .netrc
        # Reads and writes are held to the total cap of the call (delivery.py).
        timeout=httpx.Timeout(None, connect=10.0, pool=10.0),
        limits=httpx.Limits(max_connections=200, max_keepalive_connections=20, keepalive_expiry=5.0),
        # The client is shared: a cookie that one user's receiver sets must not travel with another user's delivery.
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=())),
    )


def _guarded_client() -> httpx.AsyncClient:
    """Checks the very address that it connects to: a name that answers differently the second time gains nothing."""
    return httpx_ssrf_protection(
        _plain_client(), custom_validator=lambda _host, address, _port: is_public(address), dns_cache_ttl=DNS_SECONDS
    )


async def _refuse_private(url: httpx.URL) -> None:
    """Refuse a name that has any private address, before a single packet goes there.

    The guarded client alone would first open (and close) a TCP connection to find out; whether that works would tell
    which ports are open inside our network. Raises BlockedAddress.
    """
    host = url.raw_host.decode("ascii")
    port = url.port or (443 if url.scheme == "https" else 80)
    for address in await _addresses(host, port):
        if not is_public(address):
            raise BlockedAddress(host, str(address))


async def _addresses(host: str, port: int) -> list[Address]:
    try:
        return [ip_address(host)]
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"the name {host} could not be looked up: {error}") from error
    return [ip_address(entry[4][0]) for entry in found]
