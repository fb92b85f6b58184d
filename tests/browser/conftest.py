"""A real Chromium in front of the real site. What a page complains about on its console fails the test."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.browser.control_room import USER, ControlRoom, Work, allow
from tests.browser.pages import DeliveriesPage
from tests.browser.running import Site

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",  # root has no sandbox, and tests in a container are often run by root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WATCH_THE_POLICY = """addEventListener("securitypolicyviolation", ({violatedDirective, blockedURI, sourceFile}) =>
    console.error(`policy violated: ${violatedDirective} ${blockedURI} ${sourceFile}`))"""

expect.set_options(timeout=30_000)  # states, not durations: a busy machine is not a fault of the page


def find_chromium() -> str | None:
    """The path of an installed Chromium or Chrome."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site")) as site:
        yield site


# One a module, not one a session: while the synchronous Playwright is open its event loop counts as running in this
# thread, and asynchronous tests of other folders could not start theirs.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    found = find_chromium()
    if found is None:
        pytest.fail("there is no browser to drive; on Debian: apt-get install chromium", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def signed_in(chromium: Browser, site: Site) -> dict[str, object]:
    """The cookies of somebody who followed a sign-in link."""
    context = chromium.new_context()
    context.new_page().goto(site.sign_in_link())
    state = context.storage_state()
    context.close()
    return dict(state)


class Complaints:
    """What pages wrote on their consoles. ``allow`` a pattern for what a test brings about on purpose."""

    def __init__(self) -> None:
        self._seen: list[str] = []
        self._allowed: list[re.Pattern[str]] = []

    def allow(self, pattern: str) -> None:
        self._allowed.append(re.compile(pattern))

    def watch(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self._seen.append(f"error: {error}"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self._seen.append(f"{message.type}: {message.text}")

    def unexpected(self) -> list[str]:
        return [line for line in self._seen if not any(pattern.search(line) for pattern in self._allowed)]


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    complaints = Complaints()
    yield complaints
    assert complaints.unexpected() == []


@pytest.fixture
def new_context(
    chromium: Browser, site: Site, complaints: Complaints, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., BrowserContext]]:
    """Makes browser contexts (a window of one person each) that are watched and closed at the end."""
    contexts: list[BrowserContext] = []

    def make(**options: object) -> BrowserContext:
        context = chromium.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})  # type: ignore[arg-type]
        context.add_init_script(WATCH_THE_POLICY)
        context.on("page", complaints.watch)
        contexts.append(context)
        return context

    site.ensure_one_worker()
    yield make
    if request.node.stash.get(FAILED, False):
        for number, page in enumerate(page for context in contexts for page in context.pages):
            page.screenshot(path=tmp_path / f"page-{number}.png")
            print(f"how the page looked: {tmp_path / f'page-{number}.png'}")
        print(site.logs())
    for context in contexts:
        context.close()


@pytest.fixture
def new_page(
    new_context: Callable[..., BrowserContext], signed_in: dict[str, object], site: Site
) -> Callable[..., DeliveriesPage]:
    """Makes tabs of a signed-in person, each in a window of its own."""

    def make(**options: object) -> DeliveriesPage:
        return DeliveriesPage(new_context(storage_state=signed_in, **options).new_page(), site.origin)

    return make


@pytest.fixture
def page(new_page: Callable[..., DeliveriesPage]) -> DeliveriesPage:
    """The open page of a signed-in person."""
    page = new_page()
    page.open()
    return page


@pytest.fixture(scope="module")
def operator(chromium: Browser, site: Site) -> dict[str, object]:
    """The cookies of somebody who is staff."""
    context = chromium.new_context()
    context.new_page().goto(site.sign_in_link(USER))
    state = context.storage_state()
    context.close()
    return dict(state)


@pytest.fixture
def room(new_context: Callable[..., BrowserContext], operator: dict[str, object], site: Site) -> ControlRoom:
    """The control room of somebody who may do everything there."""
    allow(site, USER, "view", "manage", "purge")
    return ControlRoom(new_context(storage_state=operator).new_page(), site.origin)


@pytest.fixture
def work(site: Site) -> Iterator[Work]:
    """A channel that nobody else uses, and nobody consumes."""
    found = Work(site, f"jobs.{secrets.token_hex(4)}")
    yield found
    found.store.connections.close()


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report
