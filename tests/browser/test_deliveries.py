"""What becomes of a delivery, as its timeline tells it: retries and why, what a person can do, lost workers."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Complaints
from tests.browser.pages import DeliveriesPage
from tests.browser.running import LEASE_SECONDS, Site, wait_until

pytestmark = pytest.mark.browser

RESCUED_MS = (LEASE_SECONDS + 40) * 1000


def test_fails_twice_ends_delivered_with_three_attempts_on_the_timeline(page: DeliveriesPage) -> None:
    delivery_id = page.deliver("/receivers/fails/2/")
    page.expect_state("Delivered")
    expect(page.attempts).to_have_count(3)
    for index, retry in ((0, 1), (1, 2)):
        why = re.compile(rf"^503 Service Unavailable: next attempt \d\d:\d\d:\d\d, retry {retry} of 8\.")
        expect(page.attempts.nth(index).locator(".why").first).to_have_text(why)
    expect(page.attempts.nth(2).locator(".why").first).to_contain_text("delivered")
    page.attempts.nth(0).get_by_text("Request and response").click()
    expect(page.attempts.nth(0).locator("[data-part=request]")).to_contain_text(f"webhook-id: {delivery_id}")
    expect(page.attempts.nth(0).locator("[data-part=response]")).to_contain_text("HTTP 503")
    assert [attempt["outcome"] for attempt in page.json(delivery_id)["attempts"]] == ["failed", "failed", "delivered"]


def test_retry_after_is_told_counted_down_and_skipped_by_retry_now(page: DeliveriesPage) -> None:
    delivery_id = page.deliver("/receivers/busy/40/")
    why = page.attempts.first.locator(".why").first
    story = r"^429 Too Many Requests, Retry-After 40 s: next attempt \d\d:\d\d:\d\d, retry 1 of 8\."
    expect(why).to_have_text(re.compile(story))
    expect(page.headline).to_have_text(re.compile(r"^Retry 1 of 8: next attempt in \d+ s$"))
    expect(page.row(delivery_id)).to_contain_text(re.compile(r"retry 1 of 8, next attempt in \d+ s"))
    expect(page.button("Redeliver")).to_be_disabled()
    due = datetime.fromisoformat(page.json(delivery_id)["job"]["due_at"])

    page.button("Retry now").click()
    page.expect_state("Delivered")
    assert datetime.fromisoformat(page.json(delivery_id)["finished_at"]) < due
    expect(page.button("Retry now")).to_be_disabled()


@pytest.mark.long
def test_a_countdown_at_zero_says_what_it_waits_for(new_page: Callable[..., DeliveriesPage], site: Site) -> None:
    page = new_page()
    site.stop_workers()
    page.open()
    notice = page.page.locator("#notice-worker")
    expect(notice).to_be_visible()
    expect(notice).to_contain_text("No worker is consuming deliveries: start python manage.py runworker deliveries")

    page.send_in(8)
    page.deliver()
    expect(page.headline).to_have_text(re.compile(r"^Accepted: starts in [1-9] s$"))
    expect(page.headline).to_have_text(re.compile("due, waiting for a worker"))
    site.ensure_one_worker()
    page.expect_state("Delivered")
    expect(notice).to_be_hidden()


def test_a_scheduled_delivery_is_cancelled_and_redelivered_once(
    new_page: Callable[..., DeliveriesPage], page: DeliveriesPage, site: Site
) -> None:
    page.send_in(3600)
    delivery_id = page.deliver()
    page.expect_state("Scheduled")
    expect(page.timeline.first).to_contain_text("To be sent at")
    page.button("Cancel").click()
    page.expect_state("Cancelled")

    other_tab = new_page()
    other_tab.open(f"/deliveries/{delivery_id}/")
    other_tab.expect_state("Cancelled")
    site.stop_workers()  # or it may be delivered, and a second redelivery be in order, before the other tab clicks
    page.button("Redeliver").dblclick()
    other_tab.button("Redeliver").click(force=True, no_wait_after=True)
    site.ensure_one_worker()
    for tab in (page, other_tab):
        tab.expect_state("Delivered")
        expect(tab.timeline.filter(has_text="Redelivered")).to_have_count(1)
    delivery = page.json(delivery_id)
    assert (delivery["generation"], len(delivery["attempts"])) == (2, 1)


def test_cancelling_stops_an_attempt_under_way(page: DeliveriesPage) -> None:
    page.deliver("/receivers/hangs/")
    page.expect_state("Running")
    expect(page.attempts.first).to_contain_text(re.compile(r"waiting for the answer\. for \d+ s"))
    page.button("Cancel").click()
    page.expect_state("Cancelled")
    expect(page.attempts.first).to_contain_text("Stopped")


def test_a_killed_worker_is_lost_and_another_one_rescues(page: DeliveriesPage, site: Site) -> None:
    delivery_id = page.deliver("/receivers/hangs/")
    page.expect_state("Running")
    first = page.json(delivery_id)["attempts"][0]["worker"]
    page.attempts.first.get_by_role("button", name="Kill this worker").click()
    expect(page.attempts.first).to_contain_text("Worker killed")
    wait_until(lambda: not any(worker.runs for worker in site.workers), "the killed worker has ended")
    site.ensure_one_worker()

    rescued = page.attempts.first
    expect(rescued).to_contain_text("Lost: ", timeout=RESCUED_MS)
    expect(rescued).to_contain_text(re.compile(r"Rescued by worker \S+:\d+, \d\d:\d\d:\d\d"), timeout=RESCUED_MS)
    expect(page.attempts).to_have_count(2)
    second = page.json(delivery_id)["attempts"][1]["worker"]
    assert first != second
    expect(rescued).to_contain_text(":".join(second.split(":")[:2]))
    page.button("Cancel").click()
    page.expect_state("Cancelled")


def test_the_page_reconnects_and_catches_up(page: DeliveriesPage, site: Site, complaints: Complaints) -> None:
    complaints.allow(r"WebSocket connection to .* failed|Failed to load resource: net::ERR")
    delivery_id = page.deliver("/receivers/busy/10/")
    page.expect_state("Retrying")

    def meanwhile() -> None:
        expect(page.socket).to_have_text(re.compile(r"reconnecting (in \d+ s|now)"))
        query = "SELECT COUNT(*) FROM webhooks_attempt WHERE delivery_id = ? AND number = 2"
        wait_until(lambda: site.query(query, delivery_id)[0][0], "the second attempt has begun behind the page's back")

    site.restart_web(meanwhile=meanwhile)
    expect(page.socket).to_have_text(re.compile("live, caught up with [1-9][0-9]* events?"), timeout=30_000)
    page.expect_state("Delivered")
    expect(page.attempts).to_have_count(2)


def test_without_the_store_a_delivery_is_kept_and_goes_out_when_it_is_back(page: DeliveriesPage, site: Site) -> None:
    site.valkey.stop()
    try:
        page.deliver()
        expect(page.page.locator("#compose-said")).to_have_text("Kept; it goes out when the store is back.")
        page.expect_state("Kept")
        expect(page.page.locator("#notice-store")).to_be_visible()
    finally:
        site.valkey.start()
    page.expect_state("Delivered")
    expect(page.page.locator("#notice-store")).to_be_hidden()


def test_another_tab_shows_it_live_and_data_is_never_markup(
    new_page: Callable[..., DeliveriesPage], page: DeliveriesPage
) -> None:
    other_tab = new_page()
    other_tab.open()
    markup = '{"note": "<img src=x onerror=alert(1)>"}'
    page.payload.fill(markup)
    delivery_id = page.deliver()
    expect(other_tab.row(delivery_id).locator(".badge")).to_have_text("Delivered")
    other_tab.row(delivery_id).get_by_role("link").click()
    other_tab.attempts.first.get_by_text("Request and response").click()
    expect(other_tab.attempts.first.locator("[data-part=request]")).to_contain_text(markup)
    assert other_tab.page.locator("main img").count() == 0
