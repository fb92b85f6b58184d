"""The control room's frame and its overview, channels, workers and schedules: live, paused, polling, by keyboard."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import Complaints
from tests.browser.control_room import SCREENS, USER, ControlRoom, allow
from tests.browser.running import Site, wait_until
from tests.browser.test_accessibility import audit

pytestmark = pytest.mark.browser

SOCKET = re.compile("/ws/control-room/")


class Elsewhere:
    """A channel that nobody consumes, of one test."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.channel = f"elsewhere.{secrets.token_hex(4)}"

    def send(self, count: int = 1) -> None:
        code = f"import retrying\nfor _ in range({count}): retrying.enqueue({self.channel!r}, {{'type': 'go'}})"
        self.site.manage("shell", "-v", "0", "-c", code)


@pytest.fixture
def elsewhere(site: Site) -> Elsewhere:
    found = Elsewhere(site)
    found.send()
    return found


@pytest.mark.parametrize("path", SCREENS)
def test_every_screen_is_live_and_fits_a_phone(room: ControlRoom, path: str) -> None:
    room.open(path)
    expect(room.headline).to_contain_text(re.compile("Healthy|worker|channel|job"))
    expect(room.page.locator("h1")).to_be_visible()
    room.page.set_viewport_size({"width": 390, "height": 844})
    assert room.page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("path", SCREENS)
def test_axe_finds_nothing(room: ControlRoom, path: str) -> None:
    room.open(path)
    assert audit(room.page, f"/jobs/{path}") == []


def test_a_question_has_no_violation_in_its_dialog(room: ControlRoom) -> None:
    room.open("channels/")
    room.page.get_by_role("button", name="Pause stories").click()
    expect(room.dialog).to_be_visible()
    found = audit(room.page, "dialog")
    room.dialog.get_by_role("link", name="Back").click()
    expect(room.dialog).to_be_hidden()
    assert found == []


def test_the_overview_changes_by_itself(room: ControlRoom, elsewhere: Elsewhere) -> None:
    room.open()
    ready = room.cell(elsewhere.channel, "Ready")
    expect(ready).to_have_text("1")
    link = room.row(f"channel-{elsewhere.channel}").get_by_role("link", name=elsewhere.channel)
    link.focus()
    elsewhere.send(2)
    expect(ready).to_have_text("3")
    expect(link).to_be_focused()  # patched, not drawn anew
    expect(room.page.locator(".plot canvas")).to_have_count(3)


PATCH = """async steps => {
    const { patch } = await import("/static/control_room/patch.js");
    const box = document.createElement("div");
    document.querySelector("main").append(box);
    box.innerHTML = steps[0];
    const one = box.querySelector('[data-key="1"]');
    box.querySelector("input")?.focus();
    const input = box.querySelector("input");
    if (input) input.checked = true;
    const details = box.querySelector("details");
    if (details) details.open = true;
    for (const html of steps.slice(1)) patch(box, html);
    return {
        html: box.innerHTML,
        kept: one === box.querySelector('[data-key="1"]'),
        focused: input !== null && document.activeElement === input,
        checked: input?.checked ?? null,
        open: details?.open ?? null,
    };
}"""

ROW = '<li data-key="{0}"><b>{0}</b></li>'
ROWS = [ROW.format(number) for number in range(5)]


@pytest.mark.parametrize(
    "steps",
    [
        ["".join(ROWS[:3]), "".join(ROWS)],
        ["".join(ROWS), "".join(ROWS[1:3])],
        ["".join(ROWS), "".join(reversed(ROWS))],
        [ROWS[1] + "text", "<p>head</p>" + ROWS[2] + "other" + ROWS[1], ROWS[1]],
        [ROWS[1], '<li data-key="1" class="new">changed<!-- a comment --></li>'],
        ["<p>a</p>" + ROWS[1], ROWS[0] + "<p>b</p>" + ROWS[1] + "<p>c</p>"],
    ],
)
def test_patching_ends_on_what_was_sent_and_keeps_what_stays(room: ControlRoom, steps: list[str]) -> None:
    room.open()
    found = room.page.evaluate(PATCH, steps)
    assert found["html"] == steps[-1]
    assert found["kept"]


def test_patching_leaves_what_a_person_did(room: ControlRoom) -> None:
    room.open()
    row = '<li data-key="1"><input type="checkbox" aria-label="1"><details><summary>more</summary>{}</details></li>'
    steps = [row.format("a"), ROWS[0] + row.format("b"), row.format("c") + ROWS[0]]
    found = room.page.evaluate(PATCH, steps)
    assert (found["focused"], found["checked"], found["open"]) == (True, True, True)
    assert "c</details>" in found["html"]


def test_a_paused_page_stands_still_and_then_catches_up(room: ControlRoom, elsewhere: Elsewhere) -> None:
    room.open()
    ready = room.cell(elsewhere.channel, "Ready")
    expect(ready).to_have_text("1")
    room.pause.click()
    expect(room.link).to_have_text("paused")
    elsewhere.send()
    other = ControlRoom(room.page.context.new_page(), room.origin)
    other.open()
    expect(other.cell(elsewhere.channel, "Ready")).to_have_text("2")
    expect(ready).to_have_text("1")
    room.page.get_by_role("button", name="Resume", exact=True).click()
    expect(ready).to_have_text("2")


def test_where_sockets_are_blocked_the_page_polls_and_says_so(room: ControlRoom, elsewhere: Elsewhere) -> None:
    room.page.route_web_socket(SOCKET, lambda socket: socket.close(code=1011))
    room.open(state="polling")
    expect(room.link).to_contain_text("asks every 3 s")
    ready = room.cell(elsewhere.channel, "Ready")
    elsewhere.send()
    expect(ready).to_have_text("2")


def test_after_the_server_was_away_the_page_catches_up(
    room: ControlRoom, elsewhere: Elsewhere, site: Site, complaints: Complaints
) -> None:
    complaints.allow("WebSocket connection|ERR_CONNECTION|Failed to load resource")
    room.open()
    expect(room.cell(elsewhere.channel, "Ready")).to_have_text("1")
    site.restart_web(meanwhile=elsewhere.send)
    expect(room.link).to_have_attribute("data-state", "live", timeout=30_000)
    expect(room.cell(elsewhere.channel, "Ready")).to_have_text("2")


def test_a_channel_is_paused_and_resumed_by_keyboard(room: ControlRoom, site: Site) -> None:
    room.open("channels/")
    button = room.page.get_by_role("button", name="Pause stories")
    button.focus()
    room.page.keyboard.press("Enter")
    expect(room.dialog.get_by_role("heading", name="Pause stories?")).to_be_visible()
    room.page.keyboard.press("Escape")
    expect(room.dialog).to_be_hidden()
    expect(button).to_be_focused()

    room.page.keyboard.press("Enter")
    expect(room.dialog.get_by_role("button", name="Pause it")).to_be_focused()
    room.page.keyboard.press("Enter")
    room.expect_said("stories is paused.")
    row = room.row("channel-stories")
    expect(row).to_contain_text("paused")
    row.get_by_role("button", name="Resume stories").press("Enter")
    room.expect_said("stories was resumed.")
    [(entry,)] = site.query("SELECT change_message FROM django_admin_log ORDER BY id DESC LIMIT 1")
    assert entry == "stories was resumed."


def test_a_worker_is_quieted_woken_and_stopped(room: ControlRoom, site: Site) -> None:
    room.open("workers/")
    row = room.page.locator("tbody tr").first
    row.get_by_role("button", name="Quiet").click()
    room.expect_said("begins no more jobs")
    expect(row.get_by_text("quiet", exact=True)).to_be_visible()
    row.get_by_role("button", name="Wake").click()
    room.expect_said("begins jobs again")
    expect(row.get_by_text("idle", exact=True)).to_be_visible()
    row.get_by_role("button", name="Stop").click()
    room.confirm("Stop worker", "Stop it")
    room.expect_said("is asked to stop")
    wait_until(lambda: not any(worker.runs for worker in site.workers), "the worker has stopped")
    expect(room.page.get_by_text("No live worker.")).to_be_visible()
    site.ensure_one_worker()


def test_a_schedule_runs_now(room: ControlRoom, site: Site) -> None:
    room.open("schedules/")
    room.page.get_by_role("button", name="Run statistics now").click()
    room.confirm("Run statistics now?", "Run it now")
    room.expect_said("statistics runs now, as job schedule:statistics:")


def test_who_may_only_look_sees_no_button(room: ControlRoom, site: Site) -> None:
    allow(site, USER, "view")
    for path in SCREENS:
        room.open(path)
        expect(room.page.locator("main button[formaction]")).to_have_count(0)


def test_a_page_ends_when_its_reader_may_look_no_longer(room: ControlRoom, site: Site, complaints: Complaints) -> None:
    room.open()
    site.manage(
        "shell",
        "-v",
        "0",
        "-c",
        f"from django.contrib.auth.models import User\nUser.objects.get(username={USER!r}).user_permissions.clear()",
    )
    expect(room.link).to_have_text("ended")
    expect(room.page.get_by_role("alert")).to_contain_text("not allowed")
    expect(room.page.locator("#live")).to_be_empty()


def test_the_switch_of_colours_is_kept(room: ControlRoom) -> None:
    room.open()
    switch = room.page.get_by_role("button", name="Theme")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = room.page.evaluate(ground)
    switch.click()
    switch.click()
    expect(switch).to_have_text("Theme: dark")
    dark = room.page.evaluate(ground)
    assert dark != light
    room.open("channels/")
    assert room.page.evaluate(ground) == dark
    expect(switch).to_have_text("Theme: dark")


def test_without_scripts_everything_can_be_read_and_done(
    new_context: Callable[..., BrowserContext], operator: dict[str, object], site: Site
) -> None:
    allow(site, USER, "manage")
    page = new_context(storage_state=operator, java_script_enabled=False).new_page()
    page.goto(f"{site.origin}/jobs/channels/")
    page.get_by_role("button", name="Pause stories").click()
    expect(page.get_by_role("heading", name="Pause stories?")).to_be_visible()
    page.get_by_role("button", name="Pause it").click()
    expect(page.get_by_text("stories is paused.")).to_be_visible()
    page.get_by_role("button", name="Resume stories").click()
    expect(page.get_by_text("stories was resumed.")).to_be_visible()
