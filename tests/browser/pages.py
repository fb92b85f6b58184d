"""The page as a person uses it: what the tests click and read."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Locator, Page, expect

from project.streaming.story import STORY

URL_OF_A_DELIVERY = re.compile(r"/deliveries/([0-9a-f]{32})/$")
FINISH_MS = 40_000

JOBS_OF_A_TOPIC = """async topic => {
    const { connect } = await import("/static/realtime/client.js");
    const socket = connect("/ws/stories/");
    const jobs = new Set();
    await new Promise(done => {
        let end = 0;
        socket.subscribe(topic, {
            subscribed: info => (end = info.offset) || done(),
            event: ({ job, offset }) => jobs.add(job) && offset >= end && done(),
        });
    });
    socket.close();
    return [...jobs];
}"""


class DeliveriesPage:
    """The page of one signed-in person in one tab."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin
        self.url = page.get_by_label("Endpoint URL")
        self.payload = page.get_by_label("JSON payload")
        self.send_at = page.get_by_label("Send at")
        self.deliver_button = page.get_by_role("button", name="Deliver", exact=True)
        self.socket = page.locator("#socket")
        self.rows = page.locator("#rows > li")
        self.badge = page.locator("#detail-body .detail-head .badge")
        self.headline = page.locator("#detail-body .headline")
        self.timeline = page.locator("#detail-body .timeline > li")
        self.attempts = page.locator("#detail-body .timeline > li.attempt")

    def open(self, path: str = "/") -> None:
        self.page.goto(self.origin + path)
        expect(self.socket).to_have_attribute("data-state", "live")
        expect(self.url).not_to_have_value("")  # the first status has filled in the example

    def button(self, name: str) -> Locator:
        return self.page.locator("#detail-body").get_by_role("button", name=name, exact=True)

    def deliver(self, receiver: str = "/receivers/succeeds/") -> str:
        """Send to one of the site's receivers; returns the delivery's id once it is open."""
        self.url.fill(self.origin + receiver)
        before = self.page.url
        self.deliver_button.click()
        expect(self.page).to_have_url(URL_OF_A_DELIVERY)
        self.page.wait_for_function("before => location.href !== before", arg=before)
        return self.opened_id

    def send_in(self, seconds: float) -> None:
        """Fill in "send at": a time from now, as the browser's zone has it."""
        local = self.page.evaluate(
            """seconds => { const at = new Date(Date.now() + seconds * 1000);
                return new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, 19); }""",
            seconds,
        )
        self.send_at.fill(local)

    @property
    def opened_id(self) -> str:
        found = URL_OF_A_DELIVERY.search(self.page.url)
        assert found, f"no delivery is open at {self.page.url}"
        return found[1]

    def row(self, delivery_id: str) -> Locator:
        return self.rows.filter(has=self.page.locator(f'a[href="/deliveries/{delivery_id}/"]'))

    def expect_state(self, word: str, milliseconds: float = FINISH_MS) -> None:
        expect(self.badge).to_have_text(word, timeout=milliseconds)

    def json(self, delivery_id: str) -> dict[str, Any]:
        """The delivery as the site has it."""
        answer: dict[str, Any] = self.page.request.get(f"{self.origin}/api/deliveries/{delivery_id}/").json()
        return answer


class StoryPage:
    """The streaming page of one signed-in person in one tab."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin
        self.tell_button = page.get_by_role("button", name="Tell the story")
        self.stumble = page.get_by_label("Let the first attempt fail half-way")
        self.said = page.locator("#said")
        self.socket = page.locator("#socket")
        self.progress = page.locator("#progress")
        self.bar = page.get_by_role("progressbar", name="How much of the story is told")
        self.over = page.locator("#over")
        self.story = page.locator("#story")

    def open(self) -> None:
        self.page.goto(f"{self.origin}/streaming/")
        expect(self.socket).to_have_attribute("data-state", "live")

    def tell(self, *, stumble: bool = False) -> None:
        """Ask for a story, and wait until its first words are there."""
        self.stumble.set_checked(stumble)
        self.tell_button.click()
        self.expect_words(5)

    def expect_words(self, count: int) -> None:
        """At least so many words of the story are on the page."""
        wanted = " ".join(STORY.split()[:count])
        expect(self.story).to_contain_text(wanted, timeout=FINISH_MS)

    def expect_whole(self) -> None:
        """It ends as it should: all of the story, once."""
        expect(self.progress).to_have_attribute("state", "succeeded", timeout=2 * FINISH_MS)
        assert (self.story.text_content() or "").split() == STORY.split()
        expect(self.bar).to_have_attribute("aria-valuenow", "100")

    def jobs(self) -> list[str]:
        """The ids of this user's stories, as their topic has them."""
        found: list[str] = self.page.evaluate(JOBS_OF_A_TOPIC, self.page.locator("body").get_attribute("data-topic"))
        return found
