"""Secrets stay out of pages."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "[redacted]"
_SECRET = re.compile(r"(?i)passw|secret|token|api_?key|authorization|cookie|credential|private")


def redacted(value: Any) -> Any:
    """Nested data of the same shape, without the values of what is named like a secret."""
    if isinstance(value, dict):
        return {
            name: HIDDEN if isinstance(name, str) and _SECRET.search(name) else redacted(item)
            for name, item in value.items()
        }
    return [redacted(item) for item in value] if isinstance(value, list | tuple) else value


def redacted_text(text: str) -> str:
    return text
