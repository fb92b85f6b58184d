"""axe on the pages and on <job-progress> in each state finds nothing: in light and dark, on desktop and phone."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Complaints
from tests.browser.control_room import SCREENS, USER, ControlRoom, Work, allow
from tests.browser.element import SHOW_STATES, STORIES
from tests.browser.pages import DeliveriesPage
from tests.browser.running import Site

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}


def audit(page: Page, where: str, *, all_four: bool = False) -> list[str]:
    """What axe finds wrong, a line each, on the page as it is: light on a desktop, dark on a phone; and the other way
    round (``all_four``)."""
    found = []
    size = page.viewport_size
    looks = [("light", size), ("dark", PHONE), *([("dark", size), ("light", PHONE)] if all_four else [])]
    for scheme, viewport in looks:
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


@pytest.mark.long
@pytest.mark.timeout(600)
def test_axe_finds_nothing_in_the_control_room_whatever_its_colours_and_width(
    room: ControlRoom, work: Work, site: Site, complaints: Complaints
) -> None:
    """Every screen, lists and pages of jobs in every state, questions, the report of a run, and what is refused."""
    complaints.allow("40[345]")
    work.kill("dead", "worse", error="OSError: torn", topic="t")
    work.put("cancelled")
    work.store.run(work.store.cancel(work.channel, "cancelled", "no more"))
    work.put("succeeded")
    work.succeed(*work.take(1), keep=5)
    work.put("running", topic="t")
    work.take(1)
    work.put("ready")
    work.put("scheduled", delay=3_600_000)
    room.open("channels/")
    expect(room.row(f"channel-{work.channel}")).to_be_visible()
    states = ("dead", "cancelled", "succeeded", "running", "ready", "scheduled")
    found = []
    for path in (
        *SCREENS, f"channels/{work.channel}/", "dead/", "list/?state=nonsense", "list/?state=dead&page=1:a",
        f"list/?channel={work.channel}&state=ready&text=nothing",
        *(f"list/?channel={work.channel}&state={state}" for state in states),
        *(f"job/{work.channel}/{state}/" for state in states),
    ):  # fmt: skip
        room.page.goto(f"{room.origin}/jobs/{path}")
        expect(room.page.locator("#live, #still")).not_to_be_empty()
        found += audit(room.page, path, all_four=True)

    room.open(f"job/{work.channel}/dead/")
    room.page.get_by_role("button", name="Purge").click()
    expect(room.dialog).to_be_visible()
    found += audit(room.page, "a question", all_four=True)
    room.dialog.get_by_role("button", name="Purge").click()
    room.expect_said("The job was purged.")
    found += audit(room.page, "what was done", all_four=True)
    room.page.get_by_role("button", name="Redrive selected").click()
    expect(room.dialog).to_contain_text("No job was selected")
    found += audit(room.page, "nothing to ask", all_four=True)
    room.page.keyboard.press("Escape")
    room.page.get_by_role("button", name="Redrive all that match").click()
    room.confirm("Redrive 1 dead job", "Redrive 1 dead job")
    expect(room.page.locator("#run-words")).to_contain_text(re.compile("^Done. 1 job was redriven"))
    found += audit(room.page, "a report", all_four=True)

    for path, rights in (("job/work/unknown/", ("view",)), ("act/", ("view",)), ("", ())):
        allow(site, USER, *rights)
        room.page.goto(f"{room.origin}/jobs/{path}")
        expect(room.page.locator("main > p:not([hidden])").first).to_be_visible()
        found += audit(room.page, f"{path} with {rights}", all_four=True)
    assert found == []
