"""What the doctor says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is; the worst first."""

    PROBLEM = "problem"
    """Jobs can get lost, or don't run."""
    WARNING = "warning"
    """It works, and should be changed or looked at."""
    NOTE = "note"
    """Good to know."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found: ``topic`` says where (layer, settings, server, channel), ``advice`` what to do."""

    severity: Severity
    topic: str
    text: str
    advice: str = ""
