"""Bar charts as SVG, written by hand: a chart of a dozen bars needs no library, and opens everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LABELS, VALUES, BAR, GAP, TOP = 860, 210, 90, 18, 7, 58
FONT = 'font-family="system-ui, sans-serif" font-size="13" fill="#1c2329"'
#: By what a bar stands for. Dark enough on white, and told apart without colours by their order in the legend.
COLOURS = {"ours": "#1f6f54", "survives": "#4878a8", "loses": "#b0b7bf", "floor": "#e3c98f"}
MEANINGS = {
    "ours": "this package",
    "survives": "brings every job back after kill -9, at some settings",
    "loses": "loses or strands jobs on kill -9",
    "floor": "no queue: the floor",
}


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    value: float
    #: Half the range over the median: drawn as a whisker.
    spread: float
    kind: str


def bars(title: str, unit: str, data: Sequence[Bar], *, cut: float = 0.0) -> str:
    """One chart. What is longer than `cut` (0: nothing) ends there, with a gap to say so."""
    height = TOP + len(data) * (BAR + GAP) + 44
    room = WIDTH - LABELS - VALUES
    longest = max((bar.value for bar in data), default=1.0) or 1.0
    if cut:
        longest = min(longest, cut)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" {FONT}>',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="26" font-size="16" font-weight="600">{escape(title)}</text>',
        f'<text x="16" y="45" fill="#5a646e">{escape(unit)}</text>',
    ]
    for number, bar in enumerate(data):
        parts.extend(_bar(bar, TOP + number * (BAR + GAP), room / longest, longest))
    parts.extend(_legend([bar.kind for bar in data], height - 18))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(bar: Bar, y: int, scale: float, longest: float) -> list[str]:
    end = LABELS + min(bar.value, longest) * scale
    middle = y + BAR / 2
    weight = ' font-weight="600"' if bar.kind == "ours" else ""
    is_cut = bar.value > longest
    parts = [
        f'<text x="{LABELS - 8}" y="{middle + 4.5:.1f}" text-anchor="end"{weight}>{escape(bar.label)}</text>',
        f'<rect x="{LABELS}" y="{y}" width="{max(1.0, end - LABELS):.1f}" height="{BAR}" fill="{COLOURS[bar.kind]}"/>',
        f'<text x="{end + 8:.1f}" y="{middle + 4.5:.1f}"{weight}>{_number(bar.value)}</text>',
    ]
    if is_cut:  # a gap near its end
        parts.append(f'<path d="M{end - 26:.1f} {y + BAR}l8 -{BAR}h6l-8 {BAR}z" fill="#ffffff"/>')
    elif bar.spread:
        left, right = (LABELS + bar.value * (1 + sign * bar.spread) * scale for sign in (-1, 1))
        parts.append(f'<path d="M{left:.1f} {middle}H{right:.1f}" stroke="#1c2329" stroke-width="1.2"/>')
    return parts


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _legend(kinds: Sequence[str], y: int) -> list[str]:
    parts, x = [], 16
    for kind in (kind for kind in COLOURS if kind in kinds):
        text = MEANINGS[kind]
        parts.append(f'<rect x="{x}" y="{y - 10}" width="11" height="11" fill="{COLOURS[kind]}"/>')
        parts.append(f'<text x="{x + 16}" y="{y}" font-size="11.5" fill="#5a646e">{escape(text)}</text>')
        x += 34 + round(len(text) * 5.9)
    return parts
