"""Channels that share the slots of a worker: one alone, several in strict order, or several by weight."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .exceptions import RetryingError
from .message import CHANNEL_NAME

if TYPE_CHECKING:
    from .lane import Lane


class BadConsumption(RetryingError, ValueError):
    """What runworker was told to consume can't be read."""


@dataclass(frozen=True, slots=True)
class Consumption:
    """Channels that share slots. ``weights`` None: strictly in order; else one for each channel."""

    channels: tuple[str, ...]
    weights: tuple[int, ...] | None = None

    def __str__(self) -> str:
        if self.weights is None:
            return ",".join(self.channels)
        return " ".join(f"{name}:{weight}" for name, weight in zip(self.channels, self.weights, strict=True))


def parse(words: Sequence[str]) -> list[Consumption]:
    """What runworker's arguments say: ``a`` alone, ``a,b`` strict, ``a:3 b:1`` (all weighted words) one weighted group.

    Raises BadConsumption: a name that isn't a general channel's, a weight out of 1..100, a channel named twice.
    """
    groups: list[Consumption] = []
    weighted: dict[str, int] = {}
    names: list[str] = []
    for word in words:
        if match := re.fullmatch(r"([^:,]+):(\d+)", word):
            weight = int(match[2])
            if not 1 <= weight <= 100:
                raise BadConsumption(f"a weight is a whole number from 1 to 100, got {word!r}")
            weighted[match[1]] = weight
            names.append(match[1])
        else:
            channels = tuple(word.split(","))
            groups.append(Consumption(channels))
            names += channels
    for name in names:
        if not CHANNEL_NAME.fullmatch(name):
            raise BadConsumption(
                f"{name!r} is not the name of a general channel; write: runworker a b (apart), a,b (a first), a:3 b:1"
            )
        if names.count(name) > 1:
            raise BadConsumption(f"channel {name!r} is named twice")
    if weighted:
        groups.append(Consumption(tuple(weighted), tuple(weighted.values())))
    return groups


class Group:
    """Deals out ``size`` slots to its lanes."""

    def __init__(self, size: int, weights: Sequence[int] | None = None) -> None:
        self.size = size
        self.lanes: list[Lane] = []
        self._weights = weights
        self._dealt: dict[Lane, int] = {}

    def allows(self, lane: Lane) -> int:
        """Jobs that ``lane`` may claim now."""
        free = self.size - sum(item.load for item in self.lanes)
        if len(self.lanes) == 1:
            return free
        looking = [item for item in self.lanes if item.intake.looking]
        if self._weights is None:
            return free if looking and looking[0] is lane else 0
        if lane not in looking:
            return 0
        # Each free slot goes to a lane that may have work, by a draw; a lane keeps what it drew until it used it.
        self._dealt = {item: self._dealt.get(item, 0) for item in looking}
        weights = [self._weights[self.lanes.index(item)] for item in looking]
        for _ in range(free - sum(self._dealt.values())):
            self._dealt[random.choices(looking, weights)[0]] += 1
        return min(free, self._dealt[lane])

    def took(self, lane: Lane, count: int) -> None:
        """``lane`` claims ``count`` jobs now."""
        self._dealt[lane] = max(0, self._dealt.get(lane, 0) - count)

    def changed(self) -> None:
        """A slot got free, or a lane ran dry: others may have their turn."""
        if len(self.lanes) > 1:
            for lane in self.lanes:
                lane.wake()
