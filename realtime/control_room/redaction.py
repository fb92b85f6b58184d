"""Secrets stay out of pages."""

from __future__ import annotations

from retrying.redact import HIDDEN
from retrying.redact import redact as redacted
from retrying.redact import redact_text as redacted_text

__all__ = ["HIDDEN", "redacted", "redacted_text"]
