"""Secrets stay out of what people see."""

from __future__ import annotations

import time
from typing import Any

import pytest

from retrying.conf import problems
from retrying.redact import HIDDEN, redact, redact_text


def test_the_shape_stays() -> None:
    value = {
        "type": "pay",
        "args": [1, 2.5, None, True, "hello"],
        "customer": {"name": "Ann", "Password": "x", "API-Key": "y", "apiKey": 7, "accessToken": ["a", "b"]},
        "cookies": {"session": "z"},
        "has_password": True,
        "token": None,
    }
    assert redact(value) == {
        "type": "pay",
        "args": [1, 2.5, None, True, "hello"],
        "customer": {"name": "Ann", "Password": HIDDEN, "API-Key": HIDDEN, "apiKey": HIDDEN, "accessToken": HIDDEN},
        "cookies": HIDDEN,
        "has_password": True,
        "token": None,
    }
    assert value["customer"]["Password"] == "x"  # type: ignore[index,call-overload]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://ann:pass:word@host:6379/0", "redis://ann:[redacted]@host:6379/0"),
        ("rediss://:pw@host", "rediss://:[redacted]@host"),
        ("see https://host/path:x@y", "see https://host/path:x@y"),
        ("https://host/?a=1&token=abc&b=2", "https://host/?a=1&token=[redacted]&b=2"),
        ("password=hunter2", "password=[redacted]"),
        ("{'db_password': 'hunt\\'er2', 'a': 1}", "{'db_password': [redacted], 'a': 1}"),
        ('{"api_key": "x y", "n": 2}', '{"api_key": [redacted], "n": 2}'),
        ("Authorization: Bearer abc.def-ghi", "Authorization: [redacted]"),
        ("it said Bearer abcdefgh12345", "it said Bearer [redacted]"),
        ("login(user='ann', secret=Secret(1))", "login(user='ann', secret=[redacted]))"),
        ("Set-Cookie: a=1; b=2\nDate: 3", "Set-Cookie: [redacted]\nDate: 3"),
        ("no token here", "no token here"),
        ("if token == other:", "if token == other:"),
        ("unterminated password='abc", "unterminated password=[redacted]"),
        ("password='a\nb'", "password=[redacted]\nb'"),
    ],
)
def test_texts(text: str, shown: str) -> None:
    assert redact_text(text) == shown
    assert redact({"x": [text]}) == {"x": [shown]}
    assert redact_text(shown) == shown


def test_names_are_the_project_s(settings: Any) -> None:
    settings.RETRYING = {**settings.RETRYING, "REDACT_NAMES": ["iban", "birth_day"]}
    assert redact({"IBAN": "DE1", "birthDay": "1", "password": "p"}) == {
        "IBAN": HIDDEN, "birthDay": HIDDEN, "password": "p",
    }  # fmt: skip
    assert redact_text("iban=DE1") == f"iban={HIDDEN}"
    settings.RETRYING = {**settings.RETRYING, "REDACT_NAMES": []}
    assert redact({"password": "p"}) == {"password": "p"}


def test_names_are_checked() -> None:
    for wrong in ("password", [1], [""]):
        assert "REDACT_NAMES" in problems({"REDACT_NAMES": wrong})[0]


@pytest.mark.alone
@pytest.mark.parametrize(
    "piece",
    ["password", "password=", "password='", 'token: "\\', "://a:", "a" * 50, "bearer ", "api-", "key= : =", "\n"],
)
def test_no_text_takes_long(piece: str) -> None:
    text = (piece * 65536)[:65536]
    began = time.perf_counter()
    redact_text(text)
    assert time.perf_counter() - began < 0.5
