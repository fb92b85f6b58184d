"""Polling a feed: the 100 most starred repositories, as code hosts give them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
from django.db import transaction
from django.utils import timezone

from .models import Repository

PER_PAGE = 100
#: Of one request, from connecting to the last byte.
TIMEOUT_SECONDS = 20.0
MAX_BYTES = 5 * 2**20


class FeedUnavailable(Exception):
    """The feed did not answer as it should. ``retry_after``: seconds that it asked to wait, None: it didn't say."""

    def __init__(self, problem: str, retry_after: float | None = None) -> None:
        super().__init__(problem)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    name: str
    stars: int
    language: str
    description: str
    url: str


async def fetch(url: str) -> list[Entry]:
    """The feed's entries, the first first. Raises FeedUnavailable."""
    params: dict[str, str | int] = {"q": "stars:>1", "sort": "stars", "order": "desc", "per_page": PER_PAGE}
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
            answer = await client.get(url, params=params, headers={"Accept": "application/json"})
    except httpx.HTTPError as error:
        raise FeedUnavailable(f"no answer: {error!r}") from error
    if answer.status_code != 200:
        raise FeedUnavailable(f"it answered {answer.status_code}", _retry_after(answer))
    if len(answer.content) > MAX_BYTES:
        raise FeedUnavailable(f"it sent {len(answer.content)} bytes, more than {MAX_BYTES}")
    try:
        return [_entry(item) for item in answer.json()["items"]][:PER_PAGE]
    except (ValueError, KeyError, TypeError) as error:
        raise FeedUnavailable(f"it sent something else than a list of repositories: {error!r}") from error


def store(entries: list[Entry]) -> int:
    """Make the table what the feed says; doing it twice changes nothing. Returns how many entries there are."""
    now = timezone.now()
    rows = {
        entry.name: Repository(
            name=entry.name, rank=rank, stars=entry.stars, language=entry.language,
            description=entry.description, url=entry.url, seen_at=now,
        )
        for rank, entry in enumerate(entries, 1)
    }  # fmt: skip
    fields = ["rank", "stars", "language", "description", "url", "seen_at"]
    with transaction.atomic():
        Repository.objects.bulk_create(
            rows.values(), update_conflicts=True, unique_fields=["name"], update_fields=fields
        )
        Repository.objects.exclude(pk__in=rows).delete()
    return len(rows)


def _entry(item: dict[str, Any]) -> Entry:
    return Entry(
        name=str(item["full_name"])[:200],
        stars=int(item["stargazers_count"]),
        language=str(item.get("language") or "")[:50],
        description=str(item.get("description") or "")[:1000],
        url=str(item["html_url"])[:500] if str(item["html_url"]).startswith("https://") else "",
    )


def _retry_after(answer: httpx.Response) -> float | None:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None
