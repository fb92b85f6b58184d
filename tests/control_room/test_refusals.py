"""Whoever may not, can't: every address of the room that changes something, found in its URLconf, against everybody.

What nobody listed here fails: a new address needs its case, and so does a new button.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest
import redis
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core import signing
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from realtime.control_room import runs, screens, urls
from realtime.control_room.access import Right
from retrying import jobs, schedule
from retrying.layers import get_layer
from tests.control_room.store import CHANNEL, kill, put

pytestmark = pytest.mark.django_db

WORKER = "host:7:abc"
FILTERS = {"filter-channel": CHANNEL, "filter-state": "dead"}
ALL = ("view", "manage", "purge")

#: Pages by the names of their addresses.
PAGES = {
    "overview": "",
    "channels": "channels/",
    "channel": f"channels/{CHANNEL}/",
    "workers": "workers/",
    "schedules": "schedules/",
    "parts": "parts/overview/",
    "series": "series/",
    "jobs": "list/",
    "job": f"job/{CHANNEL}/dead/",
    "job-text": f"job/{CHANNEL}/dead/arguments.txt",
    "dead": "dead/",
}


@dataclass(frozen=True)
class Change:
    """What can be POSTed by who has the ``right``, and does something to the scene below."""

    name: str
    path: str
    right: Right = "manage"
    data: dict[str, str] = field(default_factory=dict)
    #: Of a run: the verb in its signed state.
    run: str = ""

    def sent(self, user: User | None = None) -> dict[str, str]:
        if not self.run:
            return {"sure": "1", **self.data}
        state = asdict(runs.Run(self.run, f"channel={CHANNEL}&state=dead", None, 1))
        return {"run": signing.dumps(state, salt=f"{runs.SALT}.{user.pk if user else None}", compress=True)}


CHANGES = (
    Change("channel-action", f"channels/{CHANNEL}/pause/"),
    Change("channel-action", "channels/paused/resume/"),
    Change("worker-action", "workers/quiet/", data={"worker": WORKER}),
    Change("worker-action", "workers/wake/", data={"worker": WORKER}),
    Change("worker-action", "workers/stop/", data={"worker": WORKER}),
    Change("schedule-action", "schedules/pause/", data={"schedule": "feed"}),
    Change("schedule-action", "schedules/resume/", data={"schedule": "quarters"}),
    Change("schedule-action", "schedules/run/", data={"schedule": "feed"}),
    Change("job-action", f"job/{CHANNEL}/later/retry/"),
    Change("job-action", f"job/{CHANNEL}/later/cancel/"),
    Change("job-action", f"job/{CHANNEL}/dead/redrive/"),
    Change("job-action", f"job/{CHANNEL}/dead/purge/", "purge"),
    Change("act", "act/", data={"do": "redrive selected", "job": f"{CHANNEL}/dead", **FILTERS}),
    Change("act", "act/", "purge", data={"do": "purge selected", "job": f"{CHANNEL}/dead", **FILTERS}),
    Change("run", "run/", run="redrive"),
    Change("run", "run/", "purge", run="purge"),
)
BEGIN = (
    Change("act", "act/", data={"do": "redrive all", **FILTERS}),
    Change("act", "act/", "purge", data={"do": "purge all", **FILTERS}),
)
each_change = pytest.mark.parametrize(
    "change", [*CHANGES, *BEGIN], ids=lambda it: " ".join([it.path, it.data.get("do", it.run)])
)


@pytest.fixture
def held(redis_url: str) -> Iterator[Callable[[], dict[bytes, bytes]]]:
    """All that the store holds, in a scene in which each of the changes changes something."""
    kill("dead")
    put("later", delay=3600)
    put("other", channel="paused")
    jobs.pause("paused")
    store = get_layer().store
    store.run(store.sweep(CHANNEL, WORKER, facts='{"channels": ["work"], "concurrency": 3}'))
    schedule.pause("quarters")
    with redis.Redis.from_url(redis_url) as client:
        yield lambda: {key: client.dump(key) or b"" for key in client.scan_iter(count=1000)}


def addresses(patterns: Sequence[URLPattern | URLResolver]) -> Iterator[str]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern.url_patterns)
        else:
            yield pattern.name or str(pattern.pattern)


def person(*rights: str, staff: bool = True) -> User:
    user = User.objects.create_user(f"user-{User.objects.count()}", is_staff=staff)
    user.user_permissions.set(Permission.objects.filter(codename__in=[f"{right}_control_room" for right in rights]))
    return user


def browser(user: User | None, *, strict: bool = False) -> Client:
    client = Client(enforce_csrf_checks=strict)
    if user is not None:
        client.force_login(user)
    return client


def test_every_address_is_a_page_or_a_change_with_a_case() -> None:
    """An address that is new in the URLconf has to be added above."""
    assert {*addresses(urls.urlpatterns)} == PAGES.keys() | {change.name for change in CHANGES}
    resolver = get_resolver()
    for name, path in [*PAGES.items(), *((change.name, change.path) for change in CHANGES)]:
        assert resolver.resolve(f"/jobs/{path}").url_name == name, path


def test_every_button_of_every_page_has_a_case(held: Any) -> None:
    """Also those whose word is a part of the address."""

    def shown(path: str, **data: str) -> list[str]:
        screens.forget()
        client = browser(person(*ALL))
        answer = client.post(f"/jobs/{path}", data) if data else client.get(f"/jobs/{path}")
        return re.findall(r'(?:formaction|action)="/jobs/([^"]+)" ', answer.content.decode().replace(">", " "))

    found = [address for path in PAGES.values() for address in shown(path)]
    found += shown(f"job/{CHANNEL}/later/") + shown("act/", **BEGIN[0].sent())
    assert jobs.quiet_worker(CHANNEL, WORKER)
    found += shown("workers/")

    def words(paths: Iterable[str]) -> set[str]:
        """Whichever channel it is."""
        return {re.sub("^channels/[^/]+", "channels/*", path) for path in paths}

    assert words(found) - words(PAGES.values()) == words(change.path for change in CHANGES)


@each_change
def test_a_change_is_refused_to_everybody_else(change: Change, held: Callable[[], Any]) -> None:
    before, address = held(), f"/jobs/{change.path}"

    user = person(*ALL)
    stranger = browser(None).post(address, {**change.sent(user), "next": "/jobs/channels/"})
    assert stranger.status_code == 302
    assert stranger["Location"] == "/sign-in/?next=/jobs/channels/", "a page that can be shown after signing in"
    assert browser(user, strict=True).post(address, change.sent(user)).status_code == 403, "without the token"

    others = {right for right in ALL if right != change.right}
    for other in (person(*ALL, staff=False), person(), person("view"), person(*others)):
        answer = browser(other).post(address, change.sent(other))
        assert answer.status_code == 403
        assert "You may not do this" in answer.content.decode()

    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE"):
        answer = browser(user).generic(method, address, QUERY_STRING="sure=1")
        assert (answer.status_code, answer["Allow"]) == (405, "POST")
        assert method == "HEAD" or "Nothing was done." in answer.content.decode()
    assert held() == before
    assert LogEntry.objects.count() == 0


@each_change
def test_it_is_done_for_who_has_just_that_right(change: Change, held: Callable[[], Any]) -> None:
    """Else the refusals above would prove nothing."""
    before, user = held(), person(change.right)
    answer = browser(user).post(f"/jobs/{change.path}", change.sent(user))
    assert answer.status_code in (200, 303)
    assert LogEntry.objects.filter(user=user).count() == 1
    assert (held() != before) is (change not in BEGIN), "the first page of a run has done nothing yet"


@pytest.mark.parametrize("path", PAGES.values())
def test_pages_are_only_read_and_only_by_who_may(path: str, held: Callable[[], Any]) -> None:
    address = f"/jobs/{path}"
    assert browser(None).get(address)["Location"] == f"/sign-in/?next={address}"
    for user in (person(*ALL, staff=False), person()):
        assert browser(user).get(address).status_code == 403
    for right in ALL:
        assert browser(person(right)).get(address).status_code == 200
    before = held()
    for method in ("POST", "PUT", "DELETE"):
        answer = browser(person(*ALL)).generic(method, address)
        assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")
    assert held() == before
