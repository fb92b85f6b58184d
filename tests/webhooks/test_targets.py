"""What is refused before anything is stored, and in which words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from project.webhooks.targets import MAX_PAYLOAD_BYTES, BadInput, check_order, check_payload, check_send_at, check_url


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("https://example.com/hook", "https://example.com/hook"),
        ("  HTTP://Example.COM/Hook?a=1#part ", "http://example.com/Hook?a=1"),
        ("https://example.com:8443", "https://example.com:8443"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("http://8.8.8.8/", "http://8.8.8.8/"),
        ("http://[2606:4700:4700::1111]/", "http://[2606:4700:4700::1111]/"),
        ("http://some_host.internal.example/", "http://some_host.internal.example/"),
        # Only a look-up tells what a name stands for, and that is made when the webhook is sent.
        ("http://localhost:9/", "http://localhost:9/"),
    ],
)
def test_public_urls_are_normalised(text: str, stored: str) -> None:
    assert check_url(text) == stored


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1/", "a loopback address"),
        ("http://127.8.9.10:8000/x", "a loopback address"),
        ("http://10.0.0.1/", "a private or reserved address"),
        ("http://172.16.0.1/", "a private or reserved address"),
        ("http://192.168.1.1/", "a private or reserved address"),
        ("http://100.64.0.1/", "a reserved address"),
        ("http://169.254.169.254/latest/meta-data/", "a link-local (or cloud metadata) address"),
        ("http://0.0.0.0/", "an unspecified address"),
        ("http://255.255.255.255/", "a private or reserved address"),
        ("http://224.0.0.1/", "a multicast address"),
        ("http://[::1]/", "a loopback address"),
        ("http://[::]/", "an unspecified address"),
        ("http://[0:0:0:0:0:0:0:1]/", "a loopback address"),
        ("http://[fe80::1]/", "a link-local (or cloud metadata) address"),
        ("http://[fd00:ec2::254]/", "a private or reserved address"),
        ("http://[fc00::1]/", "a private or reserved address"),
        ("http://[ff02::1]/", "a multicast address"),
        ("http://[::ffff:127.0.0.1]/", "a loopback address"),
        ("http://[::ffff:7f00:1]/", "a loopback address"),
        ("http://[::ffff:10.0.0.1]/", "a private or reserved address"),
        ("http://[64:ff9b::7f00:1]/", "address; deliveries go to public addresses only"),
        ("http://[2002:7f00:1::]/", "address; deliveries go to public addresses only"),
        ("http://2130706433/", "an unusual spelling of an IP address"),
        ("http://0x7f000001/", "an unusual spelling of an IP address"),
        ("http://0x7f.0.0.1/", "an unusual spelling of an IP address"),
        ("http://017700000001/", "an unusual spelling of an IP address"),
        ("http://127.1/", "an unusual spelling of an IP address"),
        ("http://127.0.1/", "an unusual spelling of an IP address"),
        ("http://127.0.0.1./", "an unusual spelling of an IP address"),
        ("http://2852039166/", "an unusual spelling of an IP address"),
        ("http://0/", "an unusual spelling of an IP address"),
        ("http://0177.0.0.1/", "not a valid URL"),
        ("http://127.0.0.01/", "not a valid URL"),
        ("http://256.1.1.1/", "not a valid URL"),
        ("http://[::1%25eth0]/", "a loopback address"),
        ("http://[2606:4700:4700::1111%25eth0]/", "address; deliveries go to public addresses only"),
        ("http://[::127.0.0.1]/", "address; deliveries go to public addresses only"),
        ("http://[2001:0:7f00:1::]/", "a private or reserved address"),
        ("http://①②⑦.0.0.1/", "not a valid URL"),
        ("http://127。0。0。1/", ""),
        ("http://127%2e0%2e0%2e1/", "not a valid host name"),
        ("http://exa mple.com/", "no spaces"),
        ("http://exam\nple.com/", "no spaces"),
        ("http:\\\\127.0.0.1/", "no spaces, backslashes"),
        ("http://user:secret@example.com/", "a user name or password in the URL"),
        ("http://example.com@127.0.0.1/", "a user name or password in the URL"),
        ("http://example.com:0/", "the port must be"),
        ("http://example.com:99999/", ""),
        ("http://-bad-.example/", "not a valid host name"),
        ("http://a..b/", "not a valid host name"),
        ("http:///path", "starts with https://"),
        ("https://", "starts with https://"),
        ("ftp://example.com/", "starts with https://"),
        ("file:///etc/passwd", "starts with https://"),
        ("gopher://127.0.0.1:6379/_PING", "starts with https://"),
        ("example.com", "starts with https://"),
        ("not a url", "no spaces"),
        ("", "enter the URL"),
        ("https://example.com/" + "x" * 2000, "at most 2000 characters"),
        ("https://exa\ud800mple.com/", ""),
    ],
)
def test_other_urls_are_refused_with_a_sentence(url: str, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_url(url)
    assert list(refused.value.fields) == ["url"]
    assert words in refused.value.fields["url"]


def test_only_the_receivers_own_origin_is_let_through_and_only_with_debug(settings: Any) -> None:
    settings.WEBHOOK_RECEIVER_ORIGIN = "http://127.0.0.1:8000"
    settings.DEBUG = True
    assert check_url("http://127.0.0.1:8000/receivers/succeeds/") == "http://127.0.0.1:8000/receivers/succeeds/"
    for other in (
        "http://127.0.0.1:8001/",
        "http://127.0.0.1/",
        "https://127.0.0.1:8000/",
        "http://127.0.0.2:8000/",
        "http://user@127.0.0.1:8000/",
    ):
        with pytest.raises(BadInput):
            check_url(other)
    settings.DEBUG = False
    with pytest.raises(BadInput):
        check_url("http://127.0.0.1:8000/receivers/succeeds/")


@pytest.mark.parametrize("text", ["{}", "[1, 2.5, null]", '"text"', ' {"a": "ü \\ud800"} ', "0"])
def test_json_payloads_are_kept_as_they_were_entered(text: str) -> None:
    assert check_payload(text) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON: Expecting value at line 1, column 1"),
        ("{'a': 1}", "not valid JSON"),
        ('{"a": 1,}', "not valid JSON"),
        ("NaN", "JSON has no NaN"),
        ("[-Infinity]", "JSON has no -Infinity"),
        ('"\x00"', "not valid JSON"),
        ('"\ud800"', "half of a surrogate pair"),
        ("1" * 5000, "not valid JSON"),
        ("[" * 30_000 + "]" * 30_000, "nested too deeply"),
        ('"' + "x" * MAX_PAYLOAD_BYTES + '"', "at most 65536 bytes (64 KiB), got 65538"),
        ('"' + "ü" * (MAX_PAYLOAD_BYTES // 2) + '"', "at most 65536 bytes (64 KiB), got 65538"),
    ],
)
def test_other_payloads_are_refused_with_a_sentence(text: str, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_payload(text)
    assert words in refused.value.fields["payload"]


def test_the_largest_payload_passes() -> None:
    text = '"' + "x" * (MAX_PAYLOAD_BYTES - 2) + '"'
    assert check_payload(text) == text


def test_send_at_is_utc_and_a_time_that_has_passed_is_now() -> None:
    assert check_send_at(None) is None
    assert check_send_at("") is None
    assert check_send_at("2020-01-01T00:00:00Z") is None
    soon = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    there = soon.astimezone(tz=None).isoformat()
    assert check_send_at(there) == soon
    assert check_send_at(there).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tomorrow", "expected a time such as"),
        ("2030-01-31T12:00:00", "needs its offset from UTC"),
        ("9999-12-31T23:59:59-12:00", "expected a time"),
        ("2999-01-01T00:00:00+00:00", "at most 366 days ahead"),
    ],
)
def test_other_times_are_refused(text: str, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_send_at(text)
    assert words in refused.value.fields["send_at"]


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(BadInput) as refused:
        check_order("nonsense", "{", "soon")
    assert set(refused.value.fields) == {"url", "payload", "send_at"}
