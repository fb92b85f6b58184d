"""What keeps secrets out of logs, pages, traces and error texts.

By name: a value is hidden whose key, parameter or variable has one of ``RETRYING["REDACT_NAMES"]`` in its name. And
wherever they stand: passwords in URLs, and what follows ``Bearer`` or ``Basic``.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any

from django.core.signals import setting_changed
from django.dispatch import receiver

from .conf import get_settings

#: What stands where something was.
HIDDEN = "[redacted]"

_URL_PASSWORD = re.compile(r"(?P<before>://[^\s/?#@:\"']{0,200}:)[^\s/?#@\"']{1,1000}@")
_COOKIES = re.compile(r"(?i)(?P<before>cookie[\"']?\s{0,5}:\s{0,5}+)(?!\[redacted\]$)[^\n]+", re.MULTILINE)
_SCHEME = re.compile(r"(?i)\b(?P<before>(?:bearer|basic)\s{1,5})[\w.~+/=-]{8,}")


def redact(value: Any) -> Any:
    """``value``, of whatever JSON can carry, in the same shape, without the secrets in it.

    Everything under a key that names a secret is hidden, but None, True and False, which tell none.
    """
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return {
            name: HIDDEN if _is_secret(name) and not (item is None or isinstance(item, bool)) else redact(item)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redact(item) for item in value]
    return value


def redact_text(text: str) -> str:
    """``text``, of an error, a traceback, a log line, without ``password=...``, ``"token": ...``,
    ``Authorization: Bearer ...`` and the passwords of URLs."""
    if ":" in text or "=" in text:  # else none of the two is there
        text = _named_values().sub(rf"\g<before>{HIDDEN}", text)
        text = _COOKIES.sub(rf"\g<before>{HIDDEN}", text)
        if "://" in text:
            text = _URL_PASSWORD.sub(rf"\g<before>{HIDDEN}@", text)
    return _SCHEME.sub(rf"\g<before>{HIDDEN}", text)


@lru_cache(maxsize=4096)
def _is_secret(name: object) -> bool:
    return isinstance(name, str) and _names().search(name) is not None


@cache
def _names() -> re.Pattern[str]:
    return re.compile(f"(?i){_alternatives()}")


@cache
def _named_values() -> re.Pattern[str]:
    # Bounded and without nested repetition: a text may be 64 KiB that somebody chose.
    value = r"(?:\"(?:[^\"\\\n]|\\.)*+\"?|'(?:[^'\\\n]|\\.)*+'?|(?:(?:bearer|basic|token)\s{1,5})?[^\s,;&)\]}\"']++)"
    between = r"[\w-]{0,40}[\"']?\s{0,5}(?:=(?!=)|:(?!//))\s{0,5}+(?!\[redacted\])"
    return re.compile(rf"(?i)(?P<before>(?:{_alternatives()}){between}){value}")


def _alternatives() -> str:
    # "api_key" is also api-key, apiKey, "api key".
    names = (re.escape(name).replace("_", r"[\s_.-]?") for name in get_settings().REDACT_NAMES)
    return "|".join(names) or "(?!)"


@receiver(setting_changed)
def _forget(*, setting: str, **_: object) -> None:
    if setting == "RETRYING":
        for made in (_is_secret, _names, _named_values):
            made.cache_clear()
