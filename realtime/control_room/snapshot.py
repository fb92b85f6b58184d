"""What several pages show, read from the store once a second in each process."""

from __future__ import annotations

from dataclasses import dataclass

from retrying import jobs

from .shared import Shared

SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Headline:
    """The first line of every page: a sentence, and what to do when it is bad news."""

    ok: bool
    sentence: str
    advice: str = ""


_headlines: Shared[Headline] = Shared()


def headline() -> Headline:
    """How it all stands, in words. Raises StoreUnavailable."""
    return _headlines.get("", _headline, SECONDS)


def _headline() -> Headline:
    workers: set[str] = set()
    oldest = 0.0
    for channel in jobs.channels():
        workers |= {worker.id for worker in jobs.workers(channel)}
        oldest = max(oldest, jobs.counts(channel).oldest_seconds)
    return Headline(True, f"Healthy: {len(workers)} workers, oldest job {oldest:.1f} s")


def forget() -> None:
    """Read again at the next look."""
    _headlines.clear()
