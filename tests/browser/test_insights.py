"""The insights page: what tasks computed shows up by itself, and nothing that they do holds the page up."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.pages import DeliveriesPage
from tests.browser.running import Site
from tests.browser.test_accessibility import audit

pytestmark = pytest.mark.browser
SECONDS_FOR_A_PAGE = 2.0


@pytest.fixture
def insights(new_context: Callable[..., BrowserContext], signed_in: dict[str, object], site: Site) -> Page:
    page = new_context(storage_state=signed_in).new_page()
    page.goto(f"{site.origin}/insights/")
    return page


def run_now(page: Page, name: str) -> None:
    page.get_by_role("button", name=f"Run {name} now").click()
    expect(page).to_have_title("Insights")


def test_what_tasks_compute_shows_up_by_itself(page: DeliveriesPage, insights: Page) -> None:
    page.deliver()
    page.expect_state("Delivered")
    run_now(insights, "statistics")
    statistics = insights.get_by_role("region", name="Deliveries of the last day")
    expect(statistics).to_contain_text("computed by a task in")
    expect(statistics.get_by_role("row").nth(1)).to_contain_text("127.0.0.1")
    run_now(insights, "quarters")
    quarters = insights.get_by_role("region", name="By quarters of an hour")
    expect(quarters).not_to_contain_text("Nothing added up yet")
    run_now(insights, "feed")
    feed = insights.get_by_role("region", name="Top 100 of a code host").first
    expect(feed.get_by_role("row")).to_have_count(101)  # after a 503 with Retry-After


def test_inserts_are_counted_while_they_run(insights: Page) -> None:
    insights.get_by_label("Inserts", exact=True).fill("300")
    insights.get_by_role("button", name="Spread them").click()
    expect(insights.locator("[data-text=batch]")).to_contain_text("300 of 300 inserted")


@pytest.mark.alone
def test_the_page_answers_while_a_report_costs_cpu(insights: Page, site: Site) -> None:
    insights.get_by_role("button", name="Compute it").click()
    words = insights.locator("[data-text=forecast]")
    expect(words).to_have_text("being computed")
    began = time.monotonic()
    answer = insights.request.get(f"{site.origin}/insights/")
    took = time.monotonic() - began
    assert answer.ok
    assert "being computed" in answer.text(), "the report was ready before the page was asked for"
    assert took < SECONDS_FOR_A_PAGE
    expect(insights.get_by_role("region", name="A report that costs CPU").get_by_role("row")).to_have_count(
        4, timeout=60_000
    )


def test_it_fits_and_axe_finds_nothing(insights: Page) -> None:
    for width in (360, 800, 1440):
        insights.set_viewport_size({"width": width, "height": 800})
        assert insights.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), width
    assert audit(insights, "insights") == []


def test_it_works_without_scripts(
    new_context: Callable[..., BrowserContext], signed_in: dict[str, object], site: Site
) -> None:
    page = new_context(storage_state=signed_in, java_script_enabled=False).new_page()
    page.goto(f"{site.origin}/insights/")
    page.get_by_role("link", name="Deliveries").click()
    expect(page).to_have_title("Deliveries")
    page.get_by_role("link", name="Insights").click()
    page.get_by_role("button", name="Run statistics now").click()
    expect(page).to_have_title("Insights")
