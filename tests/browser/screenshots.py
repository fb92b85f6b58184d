"""`python -m tests.browser.screenshots`: the pictures in docs/images, taken of the real site.

TRAFFIC_MINUTES (45): so long the site has something to do before its control room is taken.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.conftest import FLAGS, find_chromium
from tests.browser.control_room import ControlRoom
from tests.browser.pages import DeliveriesPage, StoryPage
from tests.browser.running import Process, Site, wait_until

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SIZE = {"width": 1440, "height": 900}
#: A receiver that hangs is given up on soon enough to be told about in a picture.
SETTINGS = {
    "DELIVERIES_TIMEOUT_SECONDS": "4",
    "DELIVERIES_BACKOFF_SECONDS": "1",
    "LEASE_SECONDS": "3",
    "STREAMING_BACKOFF_SECONDS": "8",
    "STREAMING_WORD_SECONDS": "0.03",
}
PHONE = {"width": 390, "height": 844}


def main() -> int:
    chromium = find_chromium()
    if chromium is None:
        print("there is no browser to drive; on Debian: apt-get install chromium")
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as directory,
        Site(Path(directory), port=8000, settings=SETTINGS) as site,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        take(browser, site)
        take_story(browser, site)
        minutes = float(os.environ.get("TRAFFIC_MINUTES", "45"))
        traffic = Process("traffic", ["-m", "tests.browser.traffic", site.origin, str(minutes + 5)], site)
        time.sleep(minutes * 60)
        take_control_room(browser, site)
        traffic.end()
        take_jobs(browser, site)
        browser.close()
    return 0


def take(browser: Browser, site: Site) -> None:
    context = browser.new_context(viewport=SIZE, device_scale_factor=1.5)
    context.new_page().goto(site.sign_in_link())
    page = DeliveriesPage(context.pages[0], site.origin)
    page.open()

    page.deliver("/receivers/always-fails/")
    failed = page.opened_id
    page.send_in(5 * 3600)
    page.deliver()
    page.button("Cancel").click()
    page.expect_state("Cancelled")
    page.deliver()
    page.expect_state("Scheduled")
    page.send_at.fill("")
    wait_until(lambda: page.json(failed)["state"] == "failed", "the delivery that always fails has failed", 60)

    killed = page.deliver("/receivers/hangs/")
    expect(page.attempts).to_have_count(2)
    page.attempts.last.get_by_role("button", name="Kill this worker").click()
    wait_until(lambda: not any(worker.runs for worker in site.workers), "the killed worker has ended")
    site.ensure_one_worker()
    page.deliver("/receivers/fails/2/")
    page.expect_state("Delivered")
    told = page.opened_id
    page.deliver("/receivers/busy/")
    page.expect_state("Retrying")
    page.deliver()
    page.expect_state("Delivered")

    page.row(told).get_by_role("link").click()
    page.expect_state("Delivered")
    expect(page.deliver_button).to_be_enabled()
    page.page.screenshot(path=IMAGES / "deliveries.png")

    page.page.emulate_media(color_scheme="dark")
    page.row(killed).get_by_role("link").click()
    expect(page.attempts.nth(1)).to_contain_text("Rescued by worker", timeout=20_000)
    page.page.screenshot(path=IMAGES / "delivery-dark.png")


def take_story(browser: Browser, site: Site) -> None:
    """The story while it waits for its second attempt, and while that is under way; on a desktop and a phone."""
    context = browser.new_context(viewport={"width": 1120, "height": 800}, color_scheme="dark")
    context.new_page().goto(site.sign_in_link())
    page = StoryPage(context.pages[0], site.origin)
    page.open()
    page.tell(stumble=True)
    expect(page.progress).to_have_attribute("state", "waiting", timeout=20_000)
    page.page.screenshot(path=IMAGES / "streaming-dark.png")
    expect(page.over).to_be_visible(timeout=20_000)
    page.expect_words(60)
    page.page.emulate_media(color_scheme="light")
    page.page.screenshot(path=IMAGES / "streaming.png")
    page.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.page.screenshot(path=IMAGES / "streaming-phone.png")
    page.expect_whole()


def take_control_room(browser: Browser, site: Site) -> None:
    context = browser.new_context(viewport=SIZE, device_scale_factor=1.5)
    context.new_page().goto(site.sign_in_link())
    room = ControlRoom(context.pages[0], site.origin)
    for path, name, scheme, size in (
        ("", "control-room", "light", SIZE),
        ("channels/deliveries/", "control-room-channel-dark", "dark", SIZE),
        ("workers/", "control-room-workers", "light", {"width": 1440, "height": 420}),
        ("", "control-room-phone", "light", PHONE),
        ("workers/", "control-room-phone-dark", "dark", PHONE),
    ):
        room.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        room.page.set_viewport_size(size)  # type: ignore[arg-type]
        room.open(path)
        plots = room.page.locator(".plot")
        expect(room.page.locator(".plot canvas")).to_have_count(plots.count())
        room.page.screenshot(path=IMAGES / f"{name}.png")


#: Dead letters of two channels that nobody consumes, put there by the store's own transitions.
LETTERS = """
from tests.control_room.store import kill
refused = "builtins.ConnectionError\\nTraceback (most recent call last):\\n" + "".join(
    f'  File "/srv/shop/{name}.py", line {line}, in {call}\\n    {code}\\n'
    for name, line, call, code in (
        ("mails", 41, "send", "server.connect(host)"), ("smtp", 112, "connect", "self.sock = self._open(timeout)"),
    )
) + "ConnectionError: [Errno 111] Connection refused\\n"
for n in range(37):
    kill(f"mail-{1200 + n}", channel="mails", name="shop.tasks.send_receipt", error="ConnectionError: [Errno 111] Connection refused",
         trace=refused, arguments={"order": f"A-{1200 + n}", "customer": 311 + n, "smtp_password": "x"}, topic="mails", key=f"shop-{n % 3}")
kill("export-7", channel="reports", name="reports.export", error="MemoryError: 2.1 GiB", arguments={"year": 2026})
for n in range(4):
    kill(f"mail-{1300 + n}", channel="mails", name="shop.tasks.send_receipt", error="ValueError: no address", arguments={"order": f"B-{n}"})
"""  # noqa: E501


def take_jobs(browser: Browser, site: Site) -> None:
    """Jobs, one of them, and dead letters by error; the question before all that match are redriven."""
    site.manage("shell", "-v", "0", "-c", LETTERS)
    context = browser.new_context(viewport=SIZE, device_scale_factor=1.5)
    context.new_page().goto(site.sign_in_link())
    room = ControlRoom(context.pages[0], site.origin)
    for path, name, scheme, size in (
        ("list/?channel=mails&error=ConnectionError", "control-room-jobs", "light", SIZE),
        ("job/mails/mail-1236/", "control-room-job-dark", "dark", SIZE),
        ("dead/", "control-room-dead", "light", {"width": 1440, "height": 480}),
        ("list/?channel=mails", "control-room-jobs-phone-dark", "dark", PHONE),
    ):
        room.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        room.page.set_viewport_size(size)  # type: ignore[arg-type]
        room.open(path)
        room.page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    sys.exit(main())
