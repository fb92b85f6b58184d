"""Small words of the insights page."""

from __future__ import annotations

from typing import Any

from django import template

from retrying.schedule import Status

register = template.Library()


@register.inclusion_tag("insights/slots.html", takes_context=True)
def slots(context: Any, status: Status | str) -> dict[str, Any]:
    """When a schedule ran and runs, and a button to run it now; nothing while the store is away."""
    return {"status": status or None, "csrf_token": context.get("csrf_token")}


@register.filter
def percent(share: float) -> str:
    return f"{share * 100:.0f} %" if share in (0, 1) or 0.01 <= share <= 0.99 else f"{share * 100:.1f} %"


@register.filter
def seconds(value: float | None) -> str:
    if value is None:
        return "never"
    if value < 60:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"
