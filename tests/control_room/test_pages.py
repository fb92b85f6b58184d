"""Overview, channels, schedules: what they show of a real store, and what their buttons do to it."""

from __future__ import annotations

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

import retrying
from realtime.control_room import screens
from realtime.control_room.series import drawn
from retrying import jobs, schedule, stats

pytestmark = pytest.mark.django_db

PAGES = ("", "channels/", "channels/deliveries/", "workers/", "schedules/")
NASTY = "<script>alert(1)</script>"


def looker(*permissions: str) -> Client:
    """The browser of a member of staff with these permissions."""
    user = User.objects.create_user("looker", is_staff=True)
    for name in permissions:
        user.user_permissions.add(Permission.objects.get(codename=f"{name}_control_room"))
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_shown_and_its_part_can_be_polled(admin: Client, path: str) -> None:
    retrying.enqueue("deliveries", {"type": "deliver"})
    page = admin.get(f"/jobs/{path}")
    assert page.status_code == 200
    found = re.search(r'data-parts="([^"]+)".*?', page.content.decode())
    query = re.search(r'data-query="([^"]*)"', page.content.decode())
    assert found
    assert query
    part = admin.get(f"{found[1]}?{query[1]}").json()
    assert part["html"]
    assert part["problem"] == ""


@pytest.mark.parametrize("path", PAGES)
def test_who_may_only_look_gets_no_button(path: str) -> None:
    retrying.enqueue("deliveries", {"type": "deliver"})
    page = looker("view").get(f"/jobs/{path}").content.decode()
    assert "formaction" not in page


def test_the_overview_counts_what_waits(admin: Client) -> None:
    for _ in range(3):
        retrying.enqueue("deliveries", {"type": "deliver"})
    page = admin.get("/jobs/").content.decode()
    row = page[page.index('data-key="channel-deliveries"') :]
    assert re.search(r'data-label="Ready"><a href="/jobs/list/\?channel=deliveries&amp;state=ready">3</a></td>', row)
    assert "no worker" in row


def test_a_store_without_a_job_has_its_pages_too(admin: Client) -> None:
    assert "Healthy" in admin.get("/jobs/").content.decode()
    assert "No live worker" in admin.get("/jobs/workers/").content.decode()


def test_a_channel_is_paused_when_one_is_sure(admin: Client) -> None:
    asked = admin.post("/jobs/channels/deliveries/pause/", {"next": "/jobs/channels/"})
    assert "Pause deliveries?" in asked.content.decode()
    assert not jobs.is_paused("deliveries")

    done = admin.post("/jobs/channels/deliveries/pause/", {"next": "/jobs/channels/", "sure": "1"})
    assert (done.status_code, done["Location"]) == (303, "/jobs/channels/")
    assert jobs.is_paused("deliveries")
    page = admin.get("/jobs/channels/").content.decode()
    assert "deliveries is paused." in page
    assert "paused" in page[page.index('data-key="channel-deliveries"') :]
    [entry] = LogEntry.objects.all()
    assert (entry.object_id, entry.change_message) == ("deliveries", "deliveries is paused.")


def test_a_change_that_is_none_is_said_and_not_logged(admin: Client) -> None:
    admin.post("/jobs/channels/deliveries/resume/")
    assert "was not paused; nothing was done" in admin.get("/jobs/").content.decode()
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    "path", ["channels/deliveries/pause/", "workers/stop/", "schedules/run/", "schedules/pause/", "workers/quiet/"]
)
def test_changes_are_posted_by_who_may_manage(path: str, admin: Client) -> None:
    assert admin.get(f"/jobs/{path}").status_code == 405
    client = looker("view")
    answer = client.post(f"/jobs/{path}", {"sure": "1", "schedule": "feed", "worker": "x"})
    assert answer.status_code == 403
    assert not jobs.is_paused("deliveries")


@pytest.mark.parametrize("path", ["channels/deliveries/explode/", "workers/explode/", "schedules/explode/"])
def test_there_is_no_other_change(admin: Client, path: str) -> None:
    assert admin.post(f"/jobs/{path}").status_code == 404


def test_somewhere_else_is_no_way_back(admin: Client) -> None:
    done = admin.post("/jobs/channels/deliveries/resume/", {"next": "https://elsewhere.example/"})
    assert done["Location"] == "/jobs/"


def test_a_channel_that_is_not_there(admin: Client) -> None:
    assert admin.get("/jobs/channels/nobody.knows/").status_code == 404
    assert admin.get("/jobs/channels/%3Cscript%3E/").status_code == 404
    assert admin.get("/jobs/parts/channel/?channel=nobody.knows").json()["problem"]
    assert admin.get("/jobs/parts/nonsense/").status_code == 404


def test_a_worker_that_is_gone(admin: Client) -> None:
    admin.post("/jobs/workers/stop/", {"worker": NASTY, "sure": "1"})
    assert "That worker is gone; nothing was done." in admin.get("/jobs/workers/").content.decode()


def test_a_schedule_runs_now_and_is_paused(admin: Client) -> None:
    assert "Run feed now?" in admin.post("/jobs/schedules/run/", {"schedule": "feed"}).content.decode()
    admin.post("/jobs/schedules/run/", {"schedule": "feed", "sure": "1"})
    assert jobs.counts("tasks.default").ready == 1
    admin.post("/jobs/schedules/pause/", {"schedule": "feed", "sure": "1"})
    assert [status.name for status in schedule.statuses() if status.paused] == ["feed"]
    admin.post("/jobs/schedules/resume/", {"schedule": "feed"})
    assert not any(status.paused for status in schedule.statuses())
    assert LogEntry.objects.count() == 3


def test_a_name_from_elsewhere_is_shown_as_text(admin: Client) -> None:
    admin.post("/jobs/schedules/run/", {"schedule": NASTY, "sure": "1"})
    page = admin.get("/jobs/schedules/").content.decode()
    assert NASTY not in page
    assert "&lt;script&gt;" in page


def test_questions_keep_what_was_posted_as_text(admin: Client) -> None:
    page = admin.post("/jobs/schedules/pause/", {"schedule": f'"{NASTY}'}).content.decode()
    assert NASTY not in page
    assert 'name="sure" value="1"' in page


@pytest.mark.parametrize("span", ["1h", "24h", "30d"])
def test_series_are_as_long_as_their_times(admin: Client, span: str) -> None:
    retrying.enqueue("deliveries", {"type": "deliver"})
    for channel in ("", "deliveries"):
        found = admin.get("/jobs/series/", {"range": span, "channel": channel}).json()
        assert {len(values) for values in found.values()} == {len(found["at"])}
        assert found["at"] == sorted(found["at"])


def test_series_of_nonsense(admin: Client) -> None:
    assert admin.get("/jobs/series/?range=week").status_code == 404
    assert admin.get("/jobs/series/", {"channel": NASTY}).status_code == 404


def test_a_chart_shows_what_was_sent() -> None:
    for _ in range(6):
        retrying.enqueue("deliveries", {"type": "deliver"})
    found = stats.channels(minutes=3)
    for item in found:  # as if the minute were half over, whatever the clock says
        object.__setattr__(item, "now", item.points[-1].at + (item.now - item.now))
    assert drawn(found)["at"] == [round(point.at.timestamp()) for point in found[0].points[:-1]]
    sent = sum(point.tally.enqueued for item in found for point in item.points)
    assert sent == 6


def test_ten_who_look_are_one_for_the_store(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = stats.channels
    monkeypatch.setattr(stats, "channels", lambda **options: asked.append(1) or real(**options))
    screens.forget()
    for _ in range(10):
        admin.get("/jobs/")
    assert len(asked) <= 2  # a second may end meanwhile
