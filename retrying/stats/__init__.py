"""What channels do and did: numbers now, per minute and per hour, workers, alerts, and one sentence on how it goes.

Each function is sync, and async with an ``a`` before its name. See docs/observing.md.
"""

from __future__ import annotations

from ..tally import Histogram, Point, Span, Tally
from .alerts import Alert, Health, aalerts, ahealth, alerts, health
from .channels import ChannelStats, achannel, achannels, channel, channels
from .workers import Worker, aworkers, workers

__all__ = [
    # Channels
    "ChannelStats",
    "Histogram",
    "Point",
    "Span",
    "Tally",
    "achannel",
    "achannels",
    "channel",
    "channels",
    # Workers
    "Worker",
    "aworkers",
    "workers",
    # What is wrong
    "Alert",
    "Health",
    "aalerts",
    "ahealth",
    "alerts",
    "health",
]
