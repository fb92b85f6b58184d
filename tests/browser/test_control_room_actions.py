"""What people do in the control room, each action in a real browser: asked, done, told; and what is refused there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import Complaints
from tests.browser.control_room import USER, ControlRoom, Work, allow
from tests.browser.running import Site, wait_until
from tests.browser.test_accessibility import audit

pytestmark = pytest.mark.browser

HOUR = 3_600_000
#: The page of a run as the server sends it: which of its buttons is to be seen is the script's work.
AS_SENT = """() => {
    const copy = document.documentElement.cloneNode(true);
    copy.querySelector("[data-stop]").hidden = true;
    copy.querySelector("#run-form .primary").hidden = false;
    return copy.outerHTML;
}"""


def logged(site: Site) -> str:
    """What the admin's log says was done last."""
    [(words,)] = site.query("SELECT change_message FROM django_admin_log ORDER BY id DESC LIMIT 1")
    return str(words)


# One job


def test_a_job_that_waits_is_retried_now(room: ControlRoom, work: Work, site: Site) -> None:
    work.put("a", delay=HOUR)
    room.open(f"job/{work.channel}/a/")
    badge = room.page.locator(".job-name .badge")
    expect(badge).to_have_text("scheduled")
    room.page.get_by_role("button", name="Retry now").click()
    room.expect_said("The job was made ready at once.")
    expect(badge).to_have_text("ready")
    expect(room.page.locator(".job-actions button")).to_have_text(["Cancel"])
    assert work.counts() == (0, 0, 1)
    assert logged(site) == "retry: The job was made ready at once."


def test_a_job_is_purged_and_its_list_is_shown(room: ControlRoom, work: Work, site: Site) -> None:
    work.kill("a", "b")
    room.open(f"job/{work.channel}/a/")
    room.page.get_by_role("button", name="Purge").click()
    room.confirm("Purge this dead job for good?", "Purge")
    room.expect_said("The job was purged.")
    assert audit(room.page, "what was done") == []
    expect(room.page).to_have_url(re.compile(f"list/.*channel={work.channel}"))
    expect(room.page.locator("tbody tr")).to_have_count(1)
    assert logged(site) == "purge: The job was purged."


@pytest.mark.long
def test_a_job_as_big_as_can_be_is_shown_cut_and_had_whole(room: ControlRoom, work: Work) -> None:
    """64 KiB of JSON and a traceback of 1 MiB, with what would like to run or to turn the text around."""
    evil = "<img src=x onerror='window.ran=1'><script>window.ran = 1</script>\u202egnp.exe\x1b[31m "
    message = {"type": "work.do", "note": evil, "rest": ""}
    message["rest"] = "x" * (65_536 - len(json.dumps(message, ensure_ascii=False).encode()))
    trace = "builtins.OSError\n" + evil * 20_000
    work.kill("a", payload=msgspec.msgpack.encode(message), trace=trace[:1_048_576], error=evil)
    room.open(f"job/{work.channel}/a/")
    expect(room.page.locator("pre.code").first).to_contain_text("⟨U+202E⟩gnp.exe\\u001b[31m")
    expect(room.page.locator("pre.code").last).to_contain_text("⟨U+202E⟩gnp.exe⟨U+001B⟩[31m")
    expect(room.page.locator("main")).to_contain_text("The first 16,000 of 65,5")
    expect(room.page.locator("main")).to_contain_text(re.compile("The last 16,000 of 1,048,5"))
    assert len(room.page.content()) < 150_000
    assert room.page.evaluate("window.ran") is None
    assert audit(room.page, "a big job") == []
    room.page.set_viewport_size({"width": 390, "height": 844})
    assert room.page.evaluate("document.documentElement.scrollWidth") == 390
    for link, whole in ((0, json.dumps(message, ensure_ascii=False, indent=2)), (1, trace[:1_048_576])):
        with room.page.expect_download() as download:
            room.page.get_by_role("link", name="Download").nth(link).click()
        assert Path(download.value.path()).read_text() == whole


@pytest.mark.long
def test_the_longest_names_fit_a_phone(room: ControlRoom, site: Site, complaints: Complaints) -> None:
    """Also on buttons, which name what they do it to, and in commands to be typed."""
    complaints.allow("404")
    work = Work(site, "w" * 98)
    work.kill("j" * 100, error=f"{'E' * 200}: {'e' * 300}", trace=f"x.{'E' * 200}\n{'t' * 500}", topic="t" * 90)
    work.put("ready", key="k" * 100)
    room.open("channels/")
    expect(room.row(f"channel-{work.channel}")).to_be_visible()
    room.page.set_viewport_size({"width": 390, "height": 844})
    wide = "document.documentElement.scrollWidth"
    listed = f"list/?channel={work.channel}&state="
    for path in (
        "", "channels/", f"channels/{work.channel}/", "dead/", f"job/{work.channel}/{'j' * 100}/",
        f"job/{work.channel}/ready/", f"job/{work.channel}/unknown/", f"{listed}ready", f"{listed}dead",
    ):  # fmt: skip
        room.page.goto(f"{room.origin}/jobs/{path}")
        expect(room.page.locator("main")).to_contain_text(re.compile("w{98}|E{200}"))
        assert room.page.evaluate(wide) == 390, path
    room.page.get_by_role("button", name="Purge all that match").click()
    expect(room.dialog).to_be_visible()
    dialog = room.dialog.evaluate("box => [box.scrollWidth, box.clientWidth]")
    assert dialog[0] == dialog[1]
    room.dialog.get_by_role("button", name="Purge").click()
    expect(room.page.locator("#run-words")).to_contain_text("Done. 1 job was purged.")
    assert room.page.evaluate(wide) == 390
    work.store.connections.close()


# Lists


@pytest.mark.parametrize(
    ("state", "verb", "done", "counts"),
    [
        pytest.param("scheduled", "Retry", "made ready at once", (0, 0, 5), marks=pytest.mark.long),
        pytest.param("ready", "Cancel", "cancelled, or asked to stop", (0, 0, 0), marks=pytest.mark.long),
        ("dead", "Purge", "purged", (0, 0, 0)),
    ],
)
def test_the_selected_and_then_all_that_match(
    room: ControlRoom, work: Work, site: Site, *, state: str, verb: str, done: str, counts: tuple[int, int, int]
) -> None:
    """With a count before, and a report after."""
    ids = [f"j{n}" for n in range(5)]
    if state == "dead":
        work.kill(*ids)
    else:
        work.put(*ids, delay=HOUR if state == "scheduled" else None)
    question = {"Retry": "Retry {} now?", "Cancel": "Cancel {}?", "Purge": "Purge {} for good?"}[verb]
    room.open(f"list/?channel={work.channel}&state={state}")
    room.page.get_by_label("Select j1", exact=True).check()
    room.page.get_by_label("Select j3", exact=True).check()
    room.page.get_by_role("button", name=f"{verb} selected (2)").click()
    room.confirm(question.format(f"2 {state} jobs"), f"{verb} 2 {state} jobs")
    room.expect_said(f"2 jobs were {done}.")
    expect(room.page.locator("tbody tr")).to_have_count(3)

    room.page.get_by_role("button", name=f"{verb} all that match").click()
    room.confirm(question.format(f"3 {state} jobs of “{work.channel}”"), f"{verb} 3 {state} jobs")
    expect(room.page.locator("#run-words")).to_have_text(f"Done. 3 jobs were {done}.")
    assert work.counts() == counts
    assert logged(site) == f"{verb.lower()}, all that match: 3 jobs were {done}."
    room.page.get_by_role("link", name="Back to the list").click()
    expect(room.page.locator("tbody tr")).to_have_count(0)


@pytest.mark.long
def test_a_run_is_stopped_by_keyboard_and_its_report_has_no_violation(room: ControlRoom, work: Work) -> None:
    """What has the focus keeps it from piece to piece, and hands it on; the end is announced."""
    work.kill(*(f"j{n:02}" for n in range(20)))
    room.open(f"list/?channel={work.channel}")
    pieces: list[Route] = []

    def hold(route: Route) -> None:
        pieces.append(route)

    def held(count: int) -> Route:
        wait_until(lambda: room.page.wait_for_timeout(20) or len(pieces) == count, f"piece {count} was asked for")
        return pieces[-1]

    room.page.route("**/jobs/run/", hold)
    room.page.get_by_role("button", name="Purge all that match").click()
    room.confirm(f"Purge 20 dead jobs of “{work.channel}” for good?", "Purge 20 dead jobs")
    words = room.page.locator("#run-words")
    stop, more = (room.page.get_by_role("button", name=name) for name in ("Stop here", "Continue"))
    stop.focus()
    fresh = room.page.evaluate(AS_SENT)
    held(1).fulfill(body=fresh, content_type="text/html")  # a piece that had not come to anything yet
    held(2)
    expect(stop).to_be_focused()
    stop.press("Enter")
    expect(words).to_contain_text("Stopped. What was done is done")
    found = audit(room.page, "run, under way")
    held(2).fulfill(body=fresh, content_type="text/html")
    expect(more).to_be_focused()
    assert work.counts()[0] == 20
    more.press("Enter")
    held(3)
    expect(stop).to_be_focused()
    pieces[2].continue_()
    expect(words).to_have_text("Done. 20 jobs were purged.")
    expect(room.page.locator("#announcer")).to_have_text("Done. 20 jobs were purged.")
    expect(room.page.get_by_role("link", name="Back to the list")).to_be_focused()
    found += audit(room.page, "run, over")
    assert found == []
    assert work.counts()[0] == 0


# Channels and schedules


def test_a_channel_is_paused_and_resumed_on_its_own_page(room: ControlRoom, work: Work, site: Site) -> None:
    work.put("a", "b")
    room.open("channels/")  # a page is at most a second old: a new channel comes by itself
    room.page.get_by_role("link", name=work.channel).click()
    room.page.get_by_role("button", name="Pause", exact=True).and_(room.page.locator("main button")).click()
    expect(room.dialog).to_contain_text("2 jobs are ready now; running ones end, new ones are stored, none is lost.")
    room.confirm(f"Pause {work.channel}?", "Pause it")
    room.expect_said(f"{work.channel} is paused.")
    expect(room.page.locator("main .badge").first).to_contain_text("paused")
    assert work.take(1) == []
    room.page.locator("main").get_by_role("button", name="Resume").click()
    room.expect_said(f"{work.channel} was resumed.")
    expect(room.page.locator("main").get_by_role("button", name="Pause")).to_be_visible()
    assert len(work.take(1)) == 1
    assert logged(site) == f"{work.channel} was resumed."


def test_a_schedule_is_paused_runs_all_the_same_and_is_resumed(room: ControlRoom, site: Site) -> None:
    room.open("schedules/")
    row = room.row("feed")
    row.get_by_role("button", name="Pause feed").click()
    room.confirm("Pause the schedule feed?", "Pause it")
    room.expect_said("feed is paused.")
    expect(row.locator(".badge").first).to_have_text("paused")
    row.get_by_role("button", name="Run feed now").click()
    room.confirm("Run feed now?", "Run it now")
    room.expect_said("feed runs now, as job schedule:feed:")
    assert "feed runs now" in logged(site)
    row.get_by_role("button", name="Resume feed").click()
    room.expect_said("feed goes on with its next slot.")
    expect(row.get_by_role("button", name="Pause feed")).to_be_visible()
    expect(row.locator(".badge").first).not_to_have_text("paused")
    assert logged(site) == "feed goes on with its next slot."


# Who may


BULK = {"manage": {"Redrive selected", "Redrive all that match"}, "purge": {"Purge selected", "Purge all that match"}}


@pytest.mark.parametrize(
    "rights",
    [
        pytest.param((), id="view"),
        pytest.param(("manage",), id="manage", marks=pytest.mark.long),
        pytest.param(("purge",), id="purge", marks=pytest.mark.long),
    ],
)
def test_every_screen_offers_what_one_may_and_no_more(
    room: ControlRoom, work: Work, site: Site, rights: tuple[str, ...]
) -> None:
    work.kill("dead")
    work.put("later", delay=HOUR)
    room.open("channels/")
    expect(room.row(f"channel-{work.channel}")).to_be_visible()
    allow(site, USER, "view", *rights)
    worker = {"Quiet", "Stop"}
    manage: dict[str, set[str]] = {
        "": set(),
        "dead/": set(),
        f"list/?channel={work.channel}&state=dead": BULK["manage"],
        f"list/?channel={work.channel}&state=scheduled": {
            f"{verb} {what}" for verb in ("Retry", "Cancel") for what in ("selected", "all that match")
        },
        f"job/{work.channel}/dead/": {"Redrive"},
        f"job/{work.channel}/later/": {"Retry now", "Cancel"},
        "channels/": {"Pause"},
        f"channels/{work.channel}/": {"Pause"},
        "workers/": worker,
        "schedules/": {"Run now", "Pause"},
    }
    purge = {f"list/?channel={work.channel}&state=dead": BULK["purge"], f"job/{work.channel}/dead/": {"Purge"}}
    for path, buttons in manage.items():
        wanted = (buttons if "manage" in rights else set()) | (purge.get(path, set()) if "purge" in rights else set())
        room.open(path)
        main = room.page.locator("main")
        if path == "workers/":
            expect(main.locator("tbody tr").first).to_be_visible()
        offered = {
            words.strip() for words in main.locator("button[formaction], form[method=post] button").all_inner_texts()
        }
        assert offered == wanted, path
        ticks = main.locator('input[name="job"]').count()
        assert ticks == (1 if path.startswith("list/") and rights else 0), path


def test_a_right_that_was_taken_away_is_told_in_the_dialog(
    room: ControlRoom, site: Site, complaints: Complaints
) -> None:
    complaints.allow("403")
    room.open("channels/")
    room.pause.click()  # so that the button stays
    allow(site, USER, "view")
    room.page.get_by_role("button", name="Pause stories").click()
    expect(room.dialog.get_by_role("heading", name="You may not do this")).to_be_visible()
    expect(room.dialog).to_contain_text("You may look, but not change anything.")
    found = audit(room.page, "refused")
    room.dialog.get_by_role("button", name="Close").click()
    expect(room.dialog).to_be_hidden()
    assert found == []


def test_a_right_that_was_taken_away_ends_a_run_in_words(
    room: ControlRoom, work: Work, site: Site, complaints: Complaints
) -> None:
    complaints.allow("403")
    work.kill("a", "b")
    room.open(f"list/?channel={work.channel}")

    def too_late(route: Route) -> None:
        allow(site, USER, "view")
        route.continue_()

    room.page.route("**/jobs/run/", too_late)
    room.page.get_by_role("button", name="Purge all that match").click()
    room.confirm(f"Purge 2 dead jobs of “{work.channel}” for good?", "Purge 2 dead jobs")
    expect(room.page.locator("#run-words")).to_contain_text("You may not delete jobs.")
    assert work.counts()[0] == 2


def test_who_was_signed_out_is_told_in_the_dialog_and_in_a_run(room: ControlRoom, work: Work) -> None:
    work.kill("a", "b")
    room.open(f"list/?channel={work.channel}")
    cookies = room.page.context.cookies()
    room.page.context.clear_cookies(name="sessionid")
    purge = room.page.get_by_role("button", name="Purge all that match")
    purge.click()
    expect(room.dialog.get_by_role("heading")).to_contain_text("you are not signed in any more")
    room.dialog.get_by_role("button", name="Close").click()

    def too_late(route: Route) -> None:
        room.page.context.clear_cookies(name="sessionid")
        route.continue_()

    room.page.context.add_cookies(cookies)  # type: ignore[arg-type]
    room.page.route("**/jobs/run/", too_late)
    purge.click()
    room.confirm(f"Purge 2 dead jobs of “{work.channel}” for good?", "Purge 2 dead jobs")
    expect(room.page.locator("#run-words")).to_contain_text("You are not signed in any more.")
    assert work.counts()[0] == 2


def test_what_there_is_nothing_to_ask_about_is_told_in_the_dialog(room: ControlRoom, work: Work) -> None:
    work.kill("a")
    room.open(f"list/?channel={work.channel}")
    room.page.get_by_role("button", name="Purge selected").click()
    expect(room.dialog.get_by_role("heading")).to_have_text("No job was selected: tick those that are meant.")
    room.page.keyboard.press("Escape")
    expect(room.dialog).to_be_hidden()

    work.put("b")
    room.open(f"job/{work.channel}/b/")
    room.pause.click()
    work.succeed(*work.take(1))
    room.page.get_by_role("button", name="Cancel").click()
    expect(room.dialog.get_by_role("heading")).to_have_text("It has just succeeded; nothing was done.")


# Without scripts


def test_the_question_as_a_page_has_no_violation(room: ControlRoom, work: Work) -> None:
    """What browsers without scripts are given, and reload."""
    work.kill("a")
    room.open(f"list/?channel={work.channel}")
    room.page.evaluate("""() => {
        const form = document.querySelector("#jobs-form");
        const button = form.querySelector('[value="purge all"]');
        const sent = Object.assign(document.createElement("input"), {name: "do", value: button.value});
        form.append(sent);
        form.submit();  // no event: nothing opens a dialog
    }""")
    expect(room.page.get_by_role("heading", name="Purge 1 dead job")).to_be_visible()
    expect(room.dialog).to_be_hidden()
    assert audit(room.page, "question") == []
    room.page.get_by_role("link", name="Back").click()
    expect(room.page).to_have_url(re.compile("list/"))
    assert work.counts()[0] == 1


@pytest.mark.long
def test_pages_that_say_why_there_is_nothing_have_no_violation(
    room: ControlRoom, site: Site, complaints: Complaints
) -> None:
    complaints.allow("40[34]")
    for query in ("state=nonsense", "page=1:a&state=dead"):
        room.open(f"list/?{query}")
        expect(room.page.locator("#live > .notice, #live > .empty")).to_be_visible()
        assert audit(room.page, query) == []
    for path, rights, status in (("job/work/unknown/", ("view",), 404), ("workers/", (), 403)):
        allow(site, USER, *rights)
        answer = room.page.goto(f"{room.origin}/jobs/{path}")
        assert answer is not None
        assert answer.status == status
        assert audit(room.page, path) == []
