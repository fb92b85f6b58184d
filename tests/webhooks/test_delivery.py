"""One webhook over real sockets, and what its answer means."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from project.webhooks import clients
from project.webhooks.delivery import (
    EXCERPT_BYTES,
    HEADER_CHARACTERS,
    RETRY_AFTER_CAP,
    Exchange,
    Outcome,
    judge,
    parse_retry_after,
    send,
    signed_headers,
)
from project.webhooks.models import new_secret

SECRET = new_secret()
NOW = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)


async def deliver(url: str, payload: str = '{"a": "ü"}', seconds: float = 5) -> Exchange:
    return await send(url=url, payload=payload, webhook_id="abc", secret=SECRET, cap_seconds=seconds)


# The request


async def test_the_receiver_can_verify_what_it_got(let_through: Any) -> None:
    exchange = await deliver(let_through.origin + "/hook?x=1")
    assert (exchange.status_code, exchange.excerpt, exchange.error) == (200, "ok", "")
    [request] = let_through.requests
    assert request.line == "POST /hook?x=1 HTTP/1.1"
    assert request.body == '{"a": "ü"}'.encode()
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == "abc"
    assert Webhook(SECRET).verify(request.body, request.headers) == {"a": "ü"}
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(b'{"a": "x"}', request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(request.body, request.headers)
    # What is recorded is what was sent, and the secret is nowhere in it.
    assert exchange.request_headers["webhook-signature"] == request.headers["webhook-signature"]
    assert SECRET.removeprefix("whsec_") not in json.dumps(exchange.request_headers)


def test_the_time_that_is_signed_is_utc() -> None:
    headers = signed_headers("{}", webhook_id="abc", secret=SECRET, now=datetime.now(UTC))
    Webhook(SECRET).verify("{}", headers)
    for wrong in (datetime.now(timezone(timedelta(hours=2))), datetime.now()):  # noqa: DTZ005 - naive on purpose
        with pytest.raises(ValueError, match="aware time in UTC"):
            signed_headers("{}", webhook_id="abc", secret=SECRET, now=wrong)


async def test_no_proxy_and_no_credentials_from_the_environment(
    let_through: Any, monkeypatch: Any, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    exchange = await deliver(let_through.origin)
    assert exchange.status_code == 200
    assert "authorization" not in let_through.requests[0].headers


async def test_a_cookie_of_one_receiver_does_not_travel_with_the_next_delivery(let_through: Any) -> None:
    let_through.answer("200 OK", {"Set-Cookie": "session=of-somebody; Path=/"})
    await deliver(let_through.origin)
    await deliver(let_through.origin)
    assert [request.headers.get("cookie") for request in let_through.requests] == [None, None]


async def test_connections_are_kept(let_through: Any) -> None:
    for _ in range(3):
        await deliver(let_through.origin)
    assert (len(let_through.requests), let_through.connections) == (3, 1)


# The answer


async def test_a_redirect_is_not_followed(let_through: Any) -> None:
    let_through.answer("307 Temporary Redirect", {"Location": f"{let_through.origin}/elsewhere"})
    exchange = await deliver(let_through.origin)
    assert len(let_through.requests) == 1
    verdict = judge(exchange, NOW)
    assert verdict.outcome == Outcome.GAVE_UP
    assert verdict.reason.startswith("307 Temporary Redirect: redirects are not followed (to http://127.0.0.1:")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "2130706433"])
async def test_a_redirect_to_a_private_address_is_blocked(let_through: Any, host: str) -> None:
    async def hear(reader: Any, writer: Any) -> None:
        called.append(1)
        writer.close()

    called: list[int] = []
    async with await asyncio.start_server(hear, "127.0.0.1", 0) as inside:
        port = inside.sockets[0].getsockname()[1]
        let_through.answer("302 Found", {"Location": f"http://{host}:{port}/secrets"})
        verdict = judge(await deliver(let_through.origin), NOW)
    assert verdict.outcome == Outcome.BLOCKED
    assert verdict.reason.startswith("blocked address: ")
    assert not called


async def test_two_kibibytes_of_the_answer_are_kept(let_through: Any) -> None:
    let_through.answer("500 Internal Server Error", body=b"x" * 10_000)
    exchange = await deliver(let_through.origin)
    assert exchange.excerpt == "x" * EXCERPT_BYTES


async def test_an_endless_answer_is_left_behind(let_through: Any) -> None:
    let_through.answers = [b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (8 * 1024 * 1024)]
    exchange = await deliver(let_through.origin)
    assert (exchange.status_code, len(exchange.excerpt)) == (200, EXCERPT_BYTES)
    assert judge(exchange, NOW).outcome == Outcome.DELIVERED


async def test_a_compressed_answer_is_not_unpacked(let_through: Any) -> None:
    let_through.answer("200 OK", {"Content-Encoding": "gzip"}, gzip.compress(b"0" * 10_000_000))
    exchange = await deliver(let_through.origin)
    assert exchange.excerpt == "(answered in the encoding gzip, not shown)"
    assert let_through.requests[0].headers["accept-encoding"] == "identity"


async def test_a_binary_answer_becomes_text_that_every_database_stores(let_through: Any) -> None:
    let_through.answer("200 OK", body=b"a\x00\xff\xe2\x82b")
    exchange = await deliver(let_through.origin)
    assert "\x00" not in exchange.excerpt
    exchange.excerpt.encode()


async def test_headers_are_capped(let_through: Any) -> None:
    let_through.answer("200 OK", {f"X-{number}": "y" * 1000 for number in range(20)})
    exchange = await deliver(let_through.origin)
    assert 0 < len("".join(exchange.response_headers.values())) <= HEADER_CHARACTERS


async def test_half_an_answer_counts_by_its_status(let_through: Any) -> None:
    let_through.answers = [b"HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"]
    exchange = await deliver(let_through.origin, seconds=5)
    assert (exchange.status_code, exchange.excerpt) == (503, "abc")
    assert judge(exchange, NOW).reason == "503 Service Unavailable"


async def test_the_whole_call_has_a_time_cap(let_through: Any) -> None:
    let_through.answers = [None]
    exchange = await deliver(let_through.origin, seconds=0.2)
    assert (exchange.status_code, exchange.error) == (None, "no complete answer within 0.2 s")
    assert 190 <= exchange.duration_ms < 2000
    assert judge(exchange, NOW).outcome == Outcome.FAILED


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200"])
async def test_no_proper_answer_is_a_failure_with_words(let_through: Any, answer: bytes) -> None:
    let_through.answers = [answer]
    exchange = await deliver(let_through.origin)
    assert exchange.status_code is None
    assert exchange.error
    assert judge(exchange, NOW).outcome == Outcome.FAILED


async def test_a_refused_connection_is_a_failure_with_words(settings: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        settings.DEBUG = True
        settings.WEBHOOK_RECEIVER_ORIGIN = f"http://127.0.0.1:{closed.getsockname()[1]}"
        exchange = await deliver(settings.WEBHOOK_RECEIVER_ORIGIN)
    assert exchange.error.startswith("ConnectError: ")
    assert judge(exchange, NOW).outcome == Outcome.FAILED
    await clients.close_clients()


# Blocked addresses. The receiver listens on loopback and isn't let through.


def answer_names(monkeypatch: Any, *answers: list[str]) -> list[str]:
    """Make the resolver answer look-ups of receiver.test with these addresses in turn, the last again and again."""
    real = socket.getaddrinfo
    asked: list[str] = []

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name != "receiver.test":
            return real(host, port, *args, **kwargs)
        addresses = answers[min(len(asked), len(answers) - 1)]
        asked.append(name)
        return [found for address in addresses for found in real(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def assert_blocked(exchange: Exchange) -> None:
    assert exchange.blocked
    verdict = judge(exchange, NOW)
    assert verdict.outcome == Outcome.BLOCKED
    assert verdict.reason.startswith("blocked address: ")


async def test_localhost_is_blocked_without_even_a_connection(receiver: Any) -> None:
    assert_blocked(await deliver(receiver.origin.replace("127.0.0.1", "localhost")))
    assert (receiver.connections, receiver.requests) == (0, [])


async def test_a_literal_address_that_got_this_far_is_blocked(receiver: Any) -> None:
    assert_blocked(await deliver(receiver.origin))
    assert (receiver.connections, receiver.requests) == (0, [])


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["169.254.169.254"], ["10.0.0.1"], ["::1"], ["93.184.215.14", "127.0.0.1"]]
)
async def test_a_name_with_any_private_address_is_blocked(
    receiver: Any, monkeypatch: Any, addresses: list[str]
) -> None:
    answer_names(monkeypatch, addresses)
    assert_blocked(await deliver(receiver.origin.replace("127.0.0.1", "receiver.test")))
    assert (receiver.connections, receiver.requests) == (0, [])


async def test_a_name_that_turns_private_after_the_check_gets_no_request(receiver: Any, monkeypatch: Any) -> None:
    asked = answer_names(monkeypatch, ["93.184.215.14"], ["127.0.0.1"])
    assert_blocked(await deliver(receiver.origin.replace("127.0.0.1", "receiver.test")))
    assert len(asked) == 2
    assert receiver.requests == []


async def test_a_public_name_is_not_served_by_the_receivers_client(let_through: Any, monkeypatch: Any) -> None:
    """The client without a guard is used for the exact origin only, not for other names of the same address."""
    answer_names(monkeypatch, ["127.0.0.1"])
    assert_blocked(await deliver(let_through.origin.replace("127.0.0.1", "receiver.test")))
    assert_blocked(await deliver(let_through.origin.replace("127.0.0.1", "localhost")))
    assert let_through.requests == []


async def test_an_unknown_name_is_tried_again(monkeypatch: Any) -> None:
    def unknown(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    exchange = await deliver("http://receiver.test/")
    assert "the name receiver.test could not be looked up" in exchange.error
    assert judge(exchange, NOW).outcome == Outcome.FAILED
    await clients.close_clients()


async def test_each_event_loop_has_clients_of_its_own(let_through: Any) -> None:
    await deliver(let_through.origin)
    await asyncio.to_thread(lambda: asyncio.run(deliver_and_close(let_through.origin)))
    await deliver(let_through.origin)
    assert len(let_through.requests) == 3


async def deliver_and_close(url: str) -> None:
    exchange = await deliver(url)
    await clients.close_clients()
    assert exchange.status_code == 200


# Judging


@pytest.mark.parametrize(
    ("code", "outcome", "reason"),
    [
        (200, Outcome.DELIVERED, ""),
        (201, Outcome.DELIVERED, ""),
        (204, Outcome.DELIVERED, ""),
        (299, Outcome.DELIVERED, ""),
        (301, Outcome.GAVE_UP, "301 Moved Permanently: redirects are not followed"),
        (304, Outcome.GAVE_UP, "304 Not Modified: redirects are not followed"),
        (400, Outcome.GAVE_UP, "400 Bad Request: trying again would not help"),
        (401, Outcome.GAVE_UP, "401 Unauthorized: trying again would not help"),
        (404, Outcome.GAVE_UP, "404 Not Found: trying again would not help"),
        (408, Outcome.FAILED, "408 Request Timeout"),
        (409, Outcome.FAILED, "409 Conflict"),
        (410, Outcome.GAVE_UP, "410 Gone: the receiver wants no more"),
        (425, Outcome.FAILED, "425 Too Early"),
        (429, Outcome.FAILED, "429 Too Many Requests"),
        (499, Outcome.GAVE_UP, "499: trying again would not help"),
        (500, Outcome.FAILED, "500 Internal Server Error"),
        (503, Outcome.FAILED, "503 Service Unavailable"),
        (599, Outcome.FAILED, "599"),
    ],
)
def test_what_a_status_means(code: int, outcome: Outcome, reason: str) -> None:
    verdict = judge(Exchange(request_headers={}, duration_ms=1, status_code=code), NOW)
    assert (verdict.outcome, verdict.reason, verdict.retry_after) == (outcome, reason, None)
    assert verdict.endpoint_gone == (code == 410)


@pytest.mark.parametrize(("code", "honoured"), [(429, True), (503, True), (500, False), (408, False), (404, False)])
def test_retry_after_is_honoured_where_it_is_defined(code: int, honoured: bool) -> None:
    verdict = judge(
        Exchange(request_headers={}, duration_ms=1, status_code=code, response_headers={"retry-after": "30"}), NOW
    )
    assert verdict.retry_after == (30 if honoured else None)
    assert ("Retry-After 30 s" in verdict.reason) == honoured


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        (" 1 ", 1),
        ("0", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("99999", RETRY_AFTER_CAP),
        ("9" * 5000, RETRY_AFTER_CAP),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), None),
        (format_datetime(NOW + timedelta(days=9), usegmt=True), RETRY_AFTER_CAP),
        ("Thursday, 31-Jan-30 12:01:00 GMT", 60),
        ("Thu Jan 31 12:01:00 2030", 60),
        ("Thu, 99 Jan 2030 12:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: Callable[[], float] | float | None) -> None:
    assert parse_retry_after(text, NOW) == seconds
