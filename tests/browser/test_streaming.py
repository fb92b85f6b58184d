"""A story streamed into the page: whatever happens in the middle of it, the page ends on the whole of it, once."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, Error, expect

from tests.browser.conftest import Complaints
from tests.browser.pages import StoryPage
from tests.browser.running import LEASE_SECONDS, Site, wait_until
from tests.faults.proxy import Proxy

pytestmark = pytest.mark.browser

RESCUED_MS = (LEASE_SECONDS + 40) * 1000
LOST_SOCKET = r"WebSocket connection to .* failed|Failed to load resource: net::ERR"

NewStoryPage = Callable[..., StoryPage]


@pytest.fixture
def new_story_page(
    new_context: Callable[..., BrowserContext], site: Site, request: pytest.FixtureRequest
) -> NewStoryPage:
    """Makes tabs of somebody who is new in each test, each in a window of its own (`like`: beside that one)."""
    person = re.sub(r"\W+", "-", request.node.name)
    state: list[object] = []

    def make(*, like: StoryPage | None = None, origin: str = "", **options: object) -> StoryPage:
        if like is not None:
            return StoryPage(like.page.context.new_page(), origin or like.origin)
        context = new_context(**options, **({"storage_state": state[0]} if state else {}))
        page = context.new_page()
        if not state:
            page.goto(site.sign_in_link(person))
            state.append(context.storage_state())
        return StoryPage(page, origin or site.origin)

    return make


@pytest.fixture
def story_page(new_story_page: NewStoryPage) -> StoryPage:
    """The open page of somebody new."""
    page = new_story_page()
    page.open()
    return page


@pytest.fixture
def slow_teller(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker that takes its time, so that a page can be opened in the middle."""
    with monkeypatch.context() as patch:
        patch.setitem(site.environment, "STREAMING_WORD_SECONDS", "0.05")
        site.stop_workers()
        site.ensure_one_worker()
    yield
    site.stop_workers()


def take_offline(page: StoryPage) -> None:
    """This tab alone, for good, as its developer tools do."""
    session = page.page.context.new_cdp_session(page.page)
    conditions = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    session.send("Network.emulateNetworkConditions", conditions)


def test_an_attempt_that_fails_half_way_starts_over(story_page: StoryPage) -> None:
    expect(story_page.page.get_by_text("Nothing told yet.")).to_be_visible()
    story_page.tell(stumble=True)
    expect(story_page.progress).to_have_attribute("state", "waiting")
    expect(story_page.progress).to_contain_text(re.compile(r"try 2 of 6 .*PagesStuck: two pages stuck together"))
    expect(story_page.over).to_have_text("Starting over: the attempt before failed.")
    story_page.expect_whole()
    expect(story_page.progress).to_contain_text("after 2 tries")
    expect(story_page.over).to_be_hidden()


def test_what_was_asked_for_offline_survives_a_reload_and_is_one_job(
    new_story_page: NewStoryPage, site: Site, complaints: Complaints
) -> None:
    """A cable that is pulled, not the developer tools' switch: a page that goes away may still send past that one."""
    complaints.allow(LOST_SOCKET)
    with Proxy(site.port) as proxy:
        story_page = new_story_page(origin=f"http://127.0.0.1:{proxy.port}")
        story_page.open()
        proxy.target = 0
        proxy.reset()
        # Before that a command may still get out.
        expect(story_page.socket).to_have_attribute("data-state", "reconnecting")
        story_page.stumble.uncheck()
        story_page.tell_button.click()
        with pytest.raises(Exception, match="net::ERR_"):
            story_page.page.reload()
        # The browser's page about that tries again by itself.
        story_page.page.wait_for_url("chrome-error://chromewebdata/")
        story_page.page.goto("about:blank")
        proxy.target = site.port

        story_page.open()
        story_page.expect_words(3)
        expect(story_page.said).to_have_text("What you asked for before is accepted.")
        story_page.page.reload()
        story_page.expect_words(5)
        assert len(story_page.jobs()) == 1


@pytest.mark.long
@pytest.mark.parametrize("crash", [False, True], ids=["closed", "crashed"])
def test_a_tab_that_ends_leaves_what_it_could_not_send_to_the_other_one(
    new_story_page: NewStoryPage, story_page: StoryPage, complaints: Complaints, crash: bool
) -> None:
    complaints.allow(LOST_SOCKET)
    other_tab = new_story_page(like=story_page)
    other_tab.open()
    take_offline(story_page)
    story_page.tell_button.click()
    expect(story_page.socket).to_have_attribute("data-state", "reconnecting")
    assert other_tab.jobs() == []
    if crash:
        with story_page.page.expect_event("crash"), contextlib.suppress(Error):
            story_page.page.goto("chrome://crash")
    else:
        story_page.page.close()
    other_tab.expect_words(3)
    assert len(other_tab.jobs()) == 1


@pytest.mark.long
def test_nobody_else_sends_what_a_user_left_behind(story_page: StoryPage, site: Site, complaints: Complaints) -> None:
    complaints.allow(LOST_SOCKET)
    context = story_page.page.context
    context.set_offline(True)
    story_page.tell_button.click()
    expect(story_page.socket).to_have_attribute("data-state", "reconnecting")
    story_page.page.goto("about:blank")
    context.set_offline(False)
    stranger = StoryPage(context.new_page(), site.origin)
    stranger.page.goto(site.sign_in_link("a-stranger"))
    stranger.open()
    assert stranger.jobs() == []


@pytest.mark.long
@pytest.mark.parametrize("how", ["reset", "blackhole", "half_close"])
def test_the_network_is_cut(new_story_page: NewStoryPage, site: Site, complaints: Complaints, how: str) -> None:
    complaints.allow(LOST_SOCKET)
    with Proxy(site.port) as proxy:
        page = new_story_page(origin=f"http://127.0.0.1:{proxy.port}")
        page.open()
        page.tell()
        getattr(proxy, how)()
        if how == "blackhole":
            page.page.evaluate("window.dispatchEvent(new Event('online'))")  # as when another network was joined
            expect(page.socket).to_have_attribute("data-state", "reconnecting")
            proxy.reset()
            proxy.reopen()
        expect(page.socket).to_have_attribute("data-state", "live", timeout=30_000)
        page.expect_whole()
        assert len(page.jobs()) == 1


@pytest.mark.long
def test_a_frozen_socket_is_noticed(story_page: StoryPage, complaints: Complaints) -> None:
    complaints.allow(LOST_SOCKET)
    story_page.tell()
    story_page.page.context.set_offline(True)  # the developer tools' way: an open socket freezes, without a close
    expect(story_page.socket).to_have_attribute("data-state", "reconnecting")
    expect(story_page.progress).to_contain_text("not connected at the moment")
    story_page.page.context.set_offline(False)
    expect(story_page.socket).to_have_text(re.compile("live, caught up with [1-9][0-9]* events"))
    story_page.expect_whole()


@pytest.mark.long
def test_daphne_is_killed(story_page: StoryPage, site: Site, complaints: Complaints) -> None:
    complaints.allow(LOST_SOCKET)
    story_page.tell()

    def meanwhile() -> None:
        expect(story_page.socket).to_have_attribute("data-state", "reconnecting")

    site.restart_web(how=signal.SIGKILL, meanwhile=meanwhile)
    expect(story_page.socket).to_have_text(re.compile("live, caught up with [1-9][0-9]* events"), timeout=30_000)
    story_page.expect_whole()


@pytest.mark.long
@pytest.mark.usefixtures("slow_teller")
def test_reloaded_and_opened_elsewhere_in_mid_stream(new_story_page: NewStoryPage, story_page: StoryPage) -> None:
    story_page.tell()
    phone = new_story_page(viewport={"width": 390, "height": 844})
    phone.open()
    phone.expect_words(5)
    expect(phone.progress).to_have_attribute("state", "running")
    story_page.page.reload()
    story_page.expect_words(5)
    for page in (story_page, phone):
        page.expect_whole()


@pytest.mark.long
def test_the_worker_is_killed(story_page: StoryPage, site: Site) -> None:
    story_page.tell()
    story_page.page.get_by_role("button", name="Kill the worker").click()
    expect(story_page.page.locator("#kill-said")).to_contain_text("Killed.")
    wait_until(lambda: not any(worker.runs for worker in site.workers), "the killed worker has ended")
    site.ensure_one_worker()
    expect(story_page.over).to_have_text("Starting over: the worker before vanished.", timeout=RESCUED_MS)
    story_page.expect_whole()
    assert len(story_page.jobs()) == 1
