"""<job-progress>: what it says in each state, how much it reads aloud, and the socket that its elements share."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, WebSocket, expect

from tests.browser.element import SHOW_STATES, STORIES
from tests.browser.pages import DeliveriesPage, StoryPage
from tests.browser.running import Site, wait_until

pytestmark = pytest.mark.browser

SAID = {
    "scheduled": r"Scheduled\s*starts in \d+ d \d+ h",
    "ready": r"Waiting for a worker",
    "running": r"Reading\s*40 %",
    "waiting": r"Failed, and will be tried again.*try 2 of 6 · starts in \d+ d \d+ h · OSError: torn",
    "succeeded": r"Done\s*100 %",
    "dead": r"Failed\s*after 1 try · gave up · OSError: torn",
    "cancelled": r"Cancelled\s*by its owner",
    "expired": r"Expired\s*nobody began it in time",
}

#: Counts what the element's bar and its live region become.
COUNT_CHANGES = """() => {
    const root = document.getElementById("progress").shadowRoot;
    window.changes = { bar: 0, aloud: 0 };
    const count = (selector, name, options) =>
        new MutationObserver(() => (window.changes[name] += 1)).observe(root.querySelector(selector), options);
    count("[role=progressbar]", "bar", { attributes: true, attributeFilter: ["aria-valuenow"] });
    count("[role=status]", "aloud", { childList: true });
}"""

TWO_ELEMENTS = """topic => {
    for (const _ of [1, 2]) {
        const element = document.createElement("job-progress");
        for (const [name, value] of Object.entries({ url: "/ws/stories/", topic })) element.setAttribute(name, value);
        element.className = "added";
        document.querySelector("main").append(element);
    }
}"""


def test_it_says_how_the_job_stands(page: DeliveriesPage, site: Site) -> None:
    page.page.goto(f"{site.origin}/streaming/")
    page.page.evaluate(SHOW_STATES, STORIES)
    assert SAID.keys() == STORIES.keys()
    for state, said in SAID.items():
        expect(page.page.locator(f"#states job-progress[state={state}]")).to_have_text(re.compile(said))
        expect(page.page.get_by_role("progressbar", name=f"How far {state} is")).to_have_count(1)


@pytest.mark.long
def test_it_is_not_chatty_and_its_elements_share_a_socket(page: DeliveriesPage, site: Site) -> None:
    story = StoryPage(page.page, site.origin)
    sockets = watch_sockets(page.page)
    story.open()
    topic = page.page.locator("body").get_attribute("data-topic")
    page.page.evaluate(TWO_ELEMENTS, topic)
    page.page.evaluate(COUNT_CHANGES)
    story.tell()
    story.expect_whole()
    expect(page.page.locator("job-progress.added[state=succeeded]")).to_have_count(2)
    changes = page.page.evaluate("window.changes")
    assert changes["bar"] >= 5
    assert changes["aloud"] <= 3  # waiting, running, done

    assert len(sockets) == 2  # the page's own, and one for the two elements
    page.page.evaluate("document.querySelector('job-progress.added').remove()")
    assert not sockets[1].is_closed()
    page.page.evaluate("document.querySelector('job-progress.added').remove()")
    wait_until(lambda: page.page.evaluate("1") and sockets[1].is_closed(), "the last element closes their socket")
    assert not sockets[0].is_closed()


def watch_sockets(page: Page) -> list[WebSocket]:
    sockets: list[WebSocket] = []
    page.on("websocket", lambda socket: sockets.append(socket))  # noqa: PLW0108 - a built-in method is not taken
    return sockets
