"""Send one webhook and judge the answer: plain functions that know nothing of queues and rows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx
from httpx_secure import SSRFProtectionError
from standardwebhooks import Webhook

from .clients import BlockedAddress, check_redirect, client_for
from .models import Attempt

Outcome = Attempt.Outcome

#: Bytes of the answer that are kept.
EXCERPT_BYTES = 2 * 1024
#: Bytes of the answer that are read at most: a short rest is read so that the connection can be used again.
READ_BYTES = 64 * 1024
#: Characters of the answer's headers that are kept.
HEADER_CHARACTERS = 8 * 1024
#: The longest wait, in seconds, that a receiver may ask for.
RETRY_AFTER_CAP = 3600.0

#: Client errors that pass: timeout, conflict, too early, too many requests.
PASSING_CLIENT_ERRORS = frozenset({408, 409, 425, 429})

USER_AGENT = "django-channels-retrying-webhooks/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What went out and what came back. Without ``status_code`` there was no answer, and ``error`` says why."""

    request_headers: dict[str, str]
    duration_ms: int
    status_code: int | None = None
    response_headers: dict[str, str] = field(default_factory=dict)
    excerpt: str = ""
    error: str = ""
    #: The address is one that deliveries don't go to; nothing was sent.
    blocked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an exchange means. ``retry_after``: seconds that the receiver asked for, or None."""

    outcome: Outcome
    reason: str = ""
    retry_after: float | None = None
    #: The receiver said that it is gone for good.
    endpoint_gone: bool = False


class DeliveryFailed(Exception):
    """This attempt failed, another may not. ``retry_after``: seconds to wait at least, None = as the policy says."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


async def send(*, url: str, payload: str, webhook_id: str, secret: str, cap_seconds: float) -> Exchange:
    """POST ``payload``, signed after Standard Webhooks, within ``cap_seconds`` altogether. Never raises for what
    the receiver or the network does.
    """
    target = httpx.URL(url)
    headers = signed_headers(payload, webhook_id=webhook_id, secret=secret, now=datetime.now(UTC))
    start = time.monotonic()
    answer: _Answer | None = None
    error, blocked = "", False
    try:
        async with asyncio.timeout(cap_seconds):
            client = await client_for(target)
            request = client.build_request("POST", target, content=payload.encode(), headers=headers)
            headers = dict(request.headers)
            response = await client.send(request, stream=True)
            answer = _Answer(response)
            await answer.read()
            if response.has_redirect_location:
                await check_redirect(target, response.headers["location"])
    except TimeoutError:
        error = f"no complete answer within {cap_seconds:g} s"
    except (SSRFProtectionError, BlockedAddress) as refusal:
        text = str(refusal)
        error, blocked = text if text.startswith("blocked address") else f"blocked address: {text}", True
    except httpx.HTTPError as failure:
        error = _words(failure)
    finally:
        if answer is not None:
            await answer.close()
    return Exchange(
        request_headers=headers,
        duration_ms=round((time.monotonic() - start) * 1000),
        status_code=answer.status_code if answer else None,
        response_headers=answer.headers if answer else {},
        excerpt=answer.excerpt if answer else "",
        error=error[:1000],
        blocked=blocked,
    )


def signed_headers(payload: str, *, webhook_id: str, secret: str, now: datetime) -> dict[str, str]:
    """Headers of Standard Webhooks for ``payload``; ``now`` is aware UTC (the library takes any other for UTC)."""
    if now.utcoffset() is None or now.utcoffset():
        raise ValueError(f"expected an aware time in UTC, got {now!r}")
    return {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "Accept": "*/*",
        "Accept-Encoding": "identity",  # what is kept of the answer is meant to be read
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(webhook_id, now, payload),
    }


class _Answer:
    """A response that is read up to a limit, whatever its Content-Length says; half of one is better than none."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._kept = b""
        self.status_code = response.status_code
        self.headers: dict[str, str] = {}
        room = HEADER_CHARACTERS
        for name, value in response.headers.items():
            room -= len(name) + len(value)
            if room < 0:
                break
            self.headers[name] = value

    async def read(self) -> None:
        count = 0
        async for chunk in self._response.aiter_raw():
            count += len(chunk)
            self._kept += chunk[: EXCERPT_BYTES - len(self._kept)]
            if count >= READ_BYTES:
                return

    @property
    def excerpt(self) -> str:
        encoding = self._response.headers.get("content-encoding", "identity")
        if self._kept and encoding != "identity":
            return f"(answered in the encoding {encoding[:40]}, not shown)"
        text = self._kept.decode("utf-8", "replace")
        return text.replace("\x00", "\ufffd")  # PostgreSQL stores no NUL

    async def close(self) -> None:
        with contextlib.suppress(httpx.HTTPError):  # the connection is dropped; what was read is kept
            await self._response.aclose()


def judge(exchange: Exchange, now: datetime) -> Verdict:
    """2xx: delivered. 410: the endpoint is gone. 408/409/425/429, 5xx and no answer: try again. Else: give up.

    An answer counts by its status, also when the rest of it didn't arrive. ``now``: aware, for Retry-After dates.
    """
    code = exchange.status_code
    if exchange.blocked:
        return Verdict(outcome=Outcome.BLOCKED, reason=exchange.error)
    if code is None:
        return Verdict(outcome=Outcome.FAILED, reason=exchange.error)
    if 200 <= code < 300:
        return Verdict(outcome=Outcome.DELIVERED)
    said = _phrase(code)
    if code == HTTPStatus.GONE:
        return Verdict(outcome=Outcome.GAVE_UP, reason=f"{said}: the receiver wants no more", endpoint_gone=True)
    if code in PASSING_CLIENT_ERRORS or code >= 500:
        wait = None
        if code in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
            wait = parse_retry_after(exchange.response_headers.get("retry-after", ""), now)
        reason = said if wait is None else f"{said}, Retry-After {wait:g} s"
        return Verdict(outcome=Outcome.FAILED, reason=reason, retry_after=wait)
    if 300 <= code < 400:
        where = exchange.response_headers.get("location", "")[:200]
        return Verdict(
            outcome=Outcome.GAVE_UP, reason=f"{said}: redirects are not followed{f' (to {where})' if where else ''}"
        )
    return Verdict(outcome=Outcome.GAVE_UP, reason=f"{said}: trying again would not help")


def parse_retry_after(text: str, now: datetime) -> float | None:
    """Seconds to wait after a Retry-After header (seconds or an HTTP date), at most RETRY_AFTER_CAP.

    None when it says nothing usable, or nothing longer than now.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        wait = float(text[:12])
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        wait = (moment - now).total_seconds()
    return min(wait, RETRY_AFTER_CAP) if wait > 0 else None


def _phrase(code: int) -> str:
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return str(code)


def _words(failure: httpx.HTTPError) -> str:
    """What a person can do something with: httpx leaves some of its errors without a word."""
    return f"{type(failure).__name__}: {failure}" if str(failure) else type(failure).__name__
