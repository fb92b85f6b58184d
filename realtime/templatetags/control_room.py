"""How the control room writes numbers, times, and text that came from elsewhere."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

NOTHING = "\N{EN DASH}"
#: What the switch in the bar remembers.
THEME_COOKIE = "control-room-theme"
THEMES = ("light", "dark")
#: Shown as they are: line breaks and tabs of tracebacks and JSON.
_KEPT = frozenset("\n\t")


@register.simple_tag(takes_context=True)
def theme(context: template.Context) -> str:
    """The attribute of <html> that says which colours this browser wants, unless those of its system."""
    wanted = context["request"].COOKIES.get(THEME_COOKIE, "")
    return format_html(' data-theme="{}"', wanted) if wanted in THEMES else ""


@register.filter
def count(value: float | None) -> str:
    """``12345`` -> ``12,345``."""
    return NOTHING if value is None else f"{value:,.0f}"


@register.filter
def rate(value: float | None) -> str:
    """A number a second, with as many digits as help: ``0``, ``0.02``, ``3.4``, ``1,200``."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    if value < 0.1:
        return f"{value:.2f}" if value >= 0.01 else "<0.01"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


@register.filter
def percent(value: float | None) -> str:
    """``0.031`` -> ``3.1 %``."""
    if value is None:
        return NOTHING
    return f"{value * 100:.1f} %" if 0 < value < 0.1 else f"{value * 100:.0f} %"


@register.filter
def seconds(value: float | None) -> str:
    """A span: ``4 ms``, ``0.4 s``, ``12 s``, ``3 min 20 s``, ``5 h 2 min``, ``3 d 4 h``."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0 s"
    if value < 0.1:
        return f"{value * 1000:.0f} ms" if value >= 0.001 else "<1 ms"
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    for size, name, below, under in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size:,} {name}" + (f" {rest} {under}" if rest else "")
    return f"{whole} s"


@register.filter
def share(value: float, of: float) -> int:
    """In percent, 0..100."""
    return min(100, round(100 * value / of)) if of else 0


@register.filter
def isotime(value: datetime | None) -> str:
    """ISO 8601, in UTC."""
    return "" if value is None else value.astimezone(UTC).isoformat(timespec="milliseconds")


@register.filter
def ago(value: datetime | None) -> SafeString | str:
    """A time: exact here, relative once the page's script has seen it, exact again in its title."""
    if value is None:
        return NOTHING
    exact = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return format_html('<time class="ago" datetime="{}">{}</time>', isotime(value), exact)


@register.filter
def visible(value: object) -> str:
    """Text with what can't be seen, or turns the text around it, written out: ``U+202E``."""
    return "".join(f"⟨U+{ord(character):04X}⟩" if _unseen(character) else character for character in str(value))


def _unseen(character: str) -> bool:
    return character not in _KEPT and unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
