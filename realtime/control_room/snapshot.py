"""What several pages show, read from the store at most once a second by each process, whoever looks."""

from __future__ import annotations

from typing import Any

from retrying import schedule, stats
from retrying.schedule import Status
from retrying.stats import ChannelStats, Health, Worker

from .shared import Shared

SECONDS = 1.0

_shared: Shared[Any] = Shared()


def channels() -> list[ChannelStats]:
    """All channels in use, by name. Raises StoreUnavailable, as all of these do."""
    found: list[ChannelStats] = _shared.get("channels", stats.channels, SECONDS)
    return found


def health() -> Health:
    """How it all stands: the first line of every page, and the alerts."""
    found: Health = _shared.get("health", lambda: stats.health(found=channels()), SECONDS)
    return found


def workers() -> list[Worker]:
    found: list[Worker] = _shared.get("workers", stats.workers, SECONDS)
    return found


def schedules() -> list[Status]:
    found: list[Status] = _shared.get("schedules", schedule.statuses, SECONDS)
    return found


def forget() -> None:
    """Something was changed: read again at the next look."""
    _shared.clear()
