"""What may be sent, and where to: every check that is made before anything is stored.

A name is looked up only when the webhook is sent (delivery.py): what it resolves to may change at any time.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import NoReturn

import httpx
from django.conf import settings

MAX_URL_LENGTH = 2000
MAX_PAYLOAD_BYTES = 64 * 1024
MAX_AHEAD = timedelta(days=366)

_NAT64 = IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
#: A host whose last label is a number is an IPv4 address to the resolver, in whatever spelling (127.1, 0x7f000001).
_ENDS_IN_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)\.?\Z")

Address = IPv4Address | IPv6Address


class BadInput(ValueError):
    """Something that a person entered is not acceptable. ``fields``: name of the field -> what is wrong, in words."""

    def __init__(self, **fields: str) -> None:
        super().__init__("; ".join(f"{name}: {problem}" for name, problem in fields.items()))
        self.fields = fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A checked delivery to make. ``send_at``: aware UTC, None = now."""

    url: str
    payload: str
    send_at: datetime | None


def check_order(url: str, payload: str, send_at: str | None = None) -> Order:
    """The order, if all of it is acceptable. Raises BadInput with a sentence for each field that isn't."""
    problems: dict[str, str] = {}
    checked: dict[str, object] = {}
    for name, check, value in (
        ("url", check_url, url),
        ("payload", check_payload, payload),
        ("send_at", check_send_at, send_at),
    ):
        try:
            checked[name] = check(value)  # type: ignore[operator]
        except BadInput as error:
            problems |= error.fields
    if problems:
        raise BadInput(**problems)
    return Order(**checked)  # type: ignore[arg-type]


def check_url(text: str) -> str:
    """``text`` as a normalised http(s) URL whose host is a name or a public address.

    Raises BadInput. The site's own receivers (``is_own_receiver``) are the one exception.
    """
    text = text.strip()
    if not text:
        _bad_url("enter the URL to deliver to, such as https://example.com/hook")
    if len(text) > MAX_URL_LENGTH:
        _bad_url(f"at most {MAX_URL_LENGTH} characters, got {len(text)}")
    if re.search(r"[\x00-\x20\x7f\\]", text):
        _bad_url("a URL has no spaces, backslashes or control characters")
    if not re.match(r"https?://[^/?#]", text, re.IGNORECASE):
        _bad_url("expected a URL that starts with https:// or http://, such as https://example.com/hook")
    try:
        url = httpx.URL(text)
        url.raw_path.decode("ascii")
    except (httpx.InvalidURL, UnicodeError) as error:
        # Addresses in odd spellings end here too: 0177.0.0.1 is no IPv4 address to httpx.
        _bad_url(f"not a valid URL: {error}")
    if url.userinfo:
        _bad_url("a user name or password in the URL would be shown in lists and logs; leave it out")
    if url.port is not None and not 1 <= url.port <= 65535:
        _bad_url(f"the port must be 1 to 65535, got {url.port}")
    if not is_own_receiver(url):
        _check_host(url.raw_host.decode("ascii"))
    return str(url.copy_with(fragment=None))


def _check_host(host: str) -> None:
    """Raises BadInput unless ``host`` (as httpx gives it: lower case, no brackets) is a name or a public address."""
    try:
        address = ip_address(host)
    except ValueError:
        if _ENDS_IN_NUMBER.search(host):
            _bad_url(f"{host!r} is an unusual spelling of an IP address; write it as four decimal numbers or as a name")
        if len(host) > 253 or not all(map(_LABEL.fullmatch, host.removesuffix(".").split("."))):
            _bad_url(f"{host!r} is not a valid host name")
        return
    if not is_public(address):
        _bad_url(f"{host} is {_kind(address)} address; deliveries go to public addresses only")


def is_public(address: Address) -> bool:
    """True for an address that anybody on the internet may be asked at: the one rule for typed and resolved ones."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(IPv4Address(address.packed[-4:]))
        # 6to4 and Teredo carry an IPv4 address that would be reached by way of a relay.
        if address.scope_id or address.sixtofour or address.teredo or address not in _GLOBAL_UNICAST:
            return False
    return address.is_global and not address.is_multicast and not address.is_unspecified


def _kind(address: Address) -> str:
    address = getattr(address, "ipv4_mapped", None) or address
    for name, phrase in (
        ("is_loopback", "a loopback"),
        ("is_link_local", "a link-local (or cloud metadata)"),
        ("is_unspecified", "an unspecified"),
        ("is_multicast", "a multicast"),
        ("is_private", "a private or reserved"),
    ):
        if getattr(address, name):
            return phrase
    return "a reserved"


def is_own_receiver(url: httpx.URL) -> bool:
    """Whether ``url`` is at the one origin that is let through besides public addresses: the site's own receivers.

    Only with DEBUG and only when WEBHOOK_RECEIVER_ORIGIN is set.
    """
    if not (settings.DEBUG and settings.WEBHOOK_RECEIVER_ORIGIN):
        return False
    return _origin(url) == _origin(httpx.URL(settings.WEBHOOK_RECEIVER_ORIGIN)) and not url.userinfo


def _origin(url: httpx.URL) -> tuple[str, bytes, int | None]:
    return url.scheme, url.raw_host, url.port or {"http": 80, "https": 443}.get(url.scheme)


def check_payload(text: str) -> str:
    """``text`` unchanged: what is signed and sent is what was entered. Raises BadInput unless it is JSON in 64 KiB."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise BadInput(payload="the text holds half of a surrogate pair, which is no character") from None
    if size > MAX_PAYLOAD_BYTES:
        raise BadInput(payload=f"at most {MAX_PAYLOAD_BYTES} bytes (64 KiB), got {size}")
    try:
        json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        problem = f"not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise BadInput(payload=problem) from None
    except ValueError as error:  # a constant, or a number of thousands of digits
        raise BadInput(payload=f"not valid JSON: {error}") from None
    except RecursionError:
        raise BadInput(payload="nested too deeply") from None
    return text


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


def check_send_at(text: str | None) -> datetime | None:
    """When to send, in UTC; a time that has passed means now. Raises BadInput."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise BadInput(send_at="the time needs its offset from UTC, such as 2030-01-31T12:00:00+00:00")
        moment = moment.astimezone(UTC)
    except BadInput:
        raise
    except (ValueError, OverflowError):
        problem = f"expected a time such as 2030-01-31T12:00:00+00:00, got {text[:60]!r}"
        raise BadInput(send_at=problem) from None
    now = datetime.now(UTC)
    if moment > now + MAX_AHEAD:
        raise BadInput(send_at=f"at most {MAX_AHEAD.days} days ahead")
    return moment if moment > now else None


def _bad_url(problem: str) -> NoReturn:
    raise BadInput(url=problem)
