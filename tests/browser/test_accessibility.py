"""axe on the pages and on <job-progress> in each state finds nothing: in light and dark, on desktop and phone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.element import SHOW_STATES, STORIES
from tests.browser.pages import DeliveriesPage
from tests.browser.running import Site

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}


def audit(page: Page, where: str) -> list[str]:
    """What axe finds wrong, a line each, on the page as it is: light on a desktop, dark on a phone."""
    found = []
    size = page.viewport_size
    for scheme, viewport in (("light", size), ("dark", PHONE)):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        page.set_viewport_size(viewport)  # type: ignore[arg-type]
        violations = Axe().run(page).response["violations"]
        here = f"{where}, {scheme}, {viewport and viewport['width']} px"
        found += [
            f"{here}: {violation['id']} {node['target']} {node['failureSummary']}"
            for violation in violations
            for node in violation["nodes"]
        ]
    page.set_viewport_size(size)  # type: ignore[arg-type]
    return found


def test_axe_finds_nothing_on_the_pages(page: DeliveriesPage, site: Site) -> None:
    page.deliver()
    page.expect_state("Delivered")
    expect(page.deliver_button).to_be_enabled()
    found = audit(page.page, "deliveries")

    page.page.goto(f"{site.origin}/streaming/")
    expect(page.socket).to_have_attribute("data-state", "live")
    page.page.get_by_role("button", name="Tell the story").click()
    expect(page.page.locator("job-progress")).to_have_attribute("state", "running")
    found += audit(page.page, "streaming")
    assert found == []


def test_axe_finds_nothing_in_any_state_of_the_element(page: DeliveriesPage, site: Site) -> None:
    page.page.goto(f"{site.origin}/streaming/")
    page.page.evaluate(SHOW_STATES, STORIES)
    for state in STORIES:
        bar = page.page.get_by_role("progressbar", name=f"How far {state} is")
        expect(page.page.locator(f"#states job-progress[state={state}]")).to_be_visible()
        expect(bar).to_have_count(1)
    assert audit(page.page, "job-progress") == []


def test_signing_in_has_no_violation(new_context: Callable[..., BrowserContext], site: Site) -> None:
    page = new_context().new_page()
    page.goto(f"{site.origin}/sign-in/")
    assert audit(page, "sign-in") == []
