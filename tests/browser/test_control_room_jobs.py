"""Jobs, dead letters and what is done to them, in a real browser: live, asked in dialogs, followed to the end."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.control_room import USER, ControlRoom, Work, allow
from tests.browser.running import Site
from tests.browser.test_accessibility import audit
from tests.conftest import wait_for
from tests.processes import RunWorker

pytestmark = pytest.mark.browser


def test_axe_finds_nothing_and_a_phone_has_room(room: ControlRoom, work: Work) -> None:
    work.kill("a", "b", error="OSError: <script>alert(1)</script>\u202egnp", topic="t")
    work.put("later", topic="t")
    found = []
    for path in (
        f"list/?channel={work.channel}", "list/?state=nonsense", f"dead/?channel={work.channel}",
        f"job/{work.channel}/a/",
    ):  # fmt: skip
        room.open(path)
        found += audit(room.page, path)
        room.page.set_viewport_size({"width": 390, "height": 844})
        assert room.page.evaluate("document.documentElement.scrollWidth") == 390, path
        room.page.set_viewport_size({"width": 1440, "height": 900})
    assert found == []


def test_a_list_changes_by_itself_and_keeps_what_is_ticked(room: ControlRoom, work: Work) -> None:
    work.kill("a", "b")
    room.open(f"list/?channel={work.channel}")
    rows = room.page.locator("tbody tr")
    expect(rows).to_have_count(2)
    tick = room.page.get_by_label("Select a", exact=True)
    tick.check()
    work.kill("c")
    expect(rows).to_have_count(3)
    expect(tick).to_be_checked()
    expect(room.page.get_by_role("button", name="Purge selected (1)")).to_be_visible()
    room.page.get_by_label("Select all on this page").check()
    expect(room.page.get_by_role("button", name="Purge selected (3)")).to_be_visible()


def test_an_empty_list_offers_nothing_to_do(room: ControlRoom, work: Work) -> None:
    room.open(f"list/?channel={work.channel}")
    purge = room.page.get_by_role("button", name="Purge all that match")
    expect(purge).to_be_hidden()
    work.kill("a")
    expect(purge).to_be_visible()


def test_the_selected_are_purged_after_a_question(room: ControlRoom, work: Work) -> None:
    work.kill("a", "b", "c")
    room.open(f"list/?channel={work.channel}")
    room.page.get_by_label("Select a", exact=True).check()
    room.page.get_by_label("Select b", exact=True).check()
    room.page.get_by_role("button", name="Purge selected").click()
    assert audit(room.page, "dialog") == []
    room.confirm("Purge 2 dead jobs for good?", "Purge 2 dead jobs")
    room.expect_said("2 jobs were purged.")
    expect(room.page.locator("tbody tr")).to_have_count(1)


def test_a_group_leads_to_its_letters_and_one_to_its_page(room: ControlRoom, work: Work) -> None:
    work.kill("a")
    work.kill("b", error="ValueError: no")
    room.open(f"dead/?channel={work.channel}")
    room.page.get_by_role("link", name="OSError", exact=True).click()
    expect(room.page).to_have_url(re.compile("error=OSError"))
    expect(room.page.locator("tbody tr")).to_have_count(1)
    room.page.get_by_role("link", name="work.do").click()
    expect(room.page.get_by_text("Traceback (most recent call last):")).to_be_visible()
    room.page.get_by_role("button", name="Redrive").click()
    room.confirm("Redrive this dead job?", "Redrive")
    room.expect_said("The job was redriven.")
    expect(room.page.locator(".job-name .badge")).to_have_text("ready")


def test_a_job_is_watched_to_its_end_and_its_button_comes_too_late(room: ControlRoom, work: Work) -> None:
    work.put("a", topic="t")
    room.open(f"job/{work.channel}/a/")
    badge = room.page.locator(".job-name .badge")
    expect(badge).to_have_text("ready")
    room.page.get_by_role("button", name="Cancel").click()
    expect(room.dialog).to_be_visible()
    leases = work.take(1)
    work.store.run(
        work.store.emit(
            work.channel, leases[0], [("progress", {"attempt": 1, "fraction": 0.5, "text": "half"})], batch=1
        )
    )
    expect(badge).to_have_text("running")
    expect(room.page.get_by_role("progressbar", name="Progress")).to_have_attribute("value", "0.500")
    work.succeed(*leases)
    room.confirm("Cancel this ready job?", "Cancel")
    room.expect_said("It has just succeeded; nothing was done.")


def test_permissions_leave_out_buttons(room: ControlRoom, work: Work, site: Site) -> None:
    work.kill("a")
    for rights, wanted in ((["view"], []), (["manage"], ["Redrive"]), (["purge"], ["Purge"])):
        allow(site, USER, *rights)
        room.open(f"job/{work.channel}/a/")
        expect(room.page.locator(".job-actions button")).to_have_text(wanted)


def test_without_scripts_all_that_match_are_worked_through(
    new_context: Callable[..., BrowserContext], operator: dict[str, object], site: Site, work: Work
) -> None:
    allow(site, USER, "manage")
    work.kill(*(f"j{n}" for n in range(60)))
    page = new_context(storage_state=operator, java_script_enabled=False).new_page()
    page.goto(f"{site.origin}/jobs/list/?channel={work.channel}")
    page.get_by_role("button", name="Redrive all that match").click()
    page.get_by_role("button", name="Redrive 60 dead jobs").click()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("Done. 60 jobs were redriven.")).to_be_visible()
    assert work.counts() == (0, 0, 60)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_ten_thousand_are_redriven_at_500_a_second_and_watched(
    room: ControlRoom, site: Site, tmp_path: Path, new_context: Callable[..., BrowserContext]
) -> None:
    """A worker of another project on the same store does them: each leaves a line."""
    count, rate = 10_000, 500
    work = Work(site, "work")
    work.kill(*(f"j{n:05}" for n in range(count)))
    effects = tmp_path / "effects"
    environment = {
        "REDIS_URL": site.valkey.url, "EFFECTS": str(effects), "LIMITS": '{"concurrency": 50}', "LEASE_SECONDS": "10"
    }  # fmt: skip
    with RunWorker("tests.plain.limited_settings", "work", log=tmp_path / "log", env=environment) as worker:
        worker.ready()
        room.open("list/?channel=work")
        room.page.get_by_label("Redrive at so many jobs per second").fill(str(rate))
        room.page.get_by_role("button", name="Redrive all that match").click()
        expect(room.dialog).to_contain_text("500 a second: that takes 20 s")
        room.confirm("Redrive 10,000 dead jobs of “work”?", "Redrive 10,000 dead jobs")
        expect(room.page.locator("#run-words")).to_contain_text("Done. 10,000 jobs were redriven.", timeout=60_000)
        scheduled = room.row("work").locator("td").nth(1)
        expect(scheduled).not_to_have_text("0")  # the counts come a moment after the end of the run
        seen = []

        def done() -> int:
            seen.append(int((scheduled.text_content() or "0").replace(",", "")))
            room.page.wait_for_timeout(500)
            return seen[-1] == 0

        wait_for(done, "the page shows that none is left", timeout=120)
        wait_for(lambda: len(effects.read_text().splitlines()) >= count, "all have run", timeout=60)
    assert len(effects.read_text().splitlines()) == count
    different = sorted(set(seen), reverse=True)
    print(f"the page showed {len(different)} different numbers, one each half second: {seen}")
    assert len(different) > 10
    falling = seen[seen.index(max(seen)) :]  # what was shown first may be from the midst of the run
    assert falling == sorted(falling, reverse=True)
    work.store.connections.close()
