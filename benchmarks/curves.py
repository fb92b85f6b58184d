"""Line charts as SVG, written by hand like the bars of `plots`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from .plots import FONT

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 340, 70, 200, 62, 46
#: In the order of the lines; told apart without colours by the words at their ends.
COLOURS = ("#1f6f54", "#4878a8", "#b0662c", "#6b5b95")
GREY = "#5a646e"


def curves(title: str, across: str, unit: str, data: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """A line for each name of `data` through its points, from left to right. Across on a logarithmic scale."""
    points = [point for line in data.values() for point in line]
    least, most = math.log10(min(x for x, _ in points)), math.log10(max(x for x, _ in points))
    ticks = _ticks(max(y for _, y in points))

    def place(x: float, y: float) -> tuple[float, float]:
        share = (math.log10(x) - least) / ((most - least) or 1)
        return LEFT + share * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / ticks[-1] * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" {FONT}>',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="16" y="26" font-size="16" font-weight="600">{escape(title)}</text>',
        f'<text x="16" y="45" fill="{GREY}">{escape(unit)}</text>',
        f'<text x="{LEFT}" y="{HEIGHT - 8}" fill="{GREY}">{escape(across)}</text>',
    ]
    for tick in ticks:
        y = place(10**least, tick)[1]
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#e3e6e9"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4.5:.1f}" text-anchor="end" fill="{GREY}">{tick:g}</text>')
    for x in sorted({x for x, _ in points}):
        left = place(x, 0)[0]
        parts.append(
            f'<text x="{left:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="{GREY}">{short(x)}</text>'
        )
    for number, (name, line) in enumerate(data.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [place(x, y) for x, y in line]
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.extend(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places)
        # Names stand apart, in the order of the lines: ends of lines may be close to each other.
        y = TOP + 12 + number * 22
        parts.append(f'<rect x="{WIDTH - RIGHT + 18}" y="{y - 10}" width="11" height="11" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 36}" y="{y}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def short(value: float) -> str:
    """1000 -> 1k, 3000000 -> 3M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _ticks(most: float) -> list[float]:
    """Some round numbers from 0 on, the last of them not below `most`."""
    step = 10 ** math.floor(math.log10(most or 1))
    step = next(step * factor for factor in (0.2, 0.5, 1, 2, 5) if most / (step * factor) <= 5)
    return [step * number for number in range(math.ceil(most / step) + 1)]
