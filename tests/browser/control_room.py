"""The control room as its staff use it: what the tests click and read."""

from __future__ import annotations

import secrets
from typing import Any

from playwright.sync_api import Locator, Page, expect

from retrying.store import Store
from retrying.store.calls import Burial, Lease, NewJob
from tests.browser.running import Site

#: Who is signed in; see ``allow``.
USER = "operator"
SCREENS = ("", "channels/", "channels/deliveries/", "workers/", "schedules/")


class ControlRoom:
    """One open page of somebody who is signed in."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin
        self.link = page.locator("#link-state")
        self.headline = page.locator("#headline")
        self.pause = page.get_by_role("button", name="Pause", exact=True)
        self.dialog = page.get_by_role("dialog")

    def open(self, path: str = "", state: str = "live") -> None:
        self.page.goto(f"{self.origin}/jobs/{path}")
        expect(self.link).to_have_attribute("data-state", state)

    def row(self, key: str) -> Locator:
        return self.page.locator(f'tr[data-key="{key}"]')

    def cell(self, channel: str, label: str) -> Locator:
        """What the overview says of a channel."""
        return self.row(f"channel-{channel}").locator(f'td[data-label="{label}"]')

    def confirm(self, question: str, answer: str) -> None:
        """Answer the question that is asked."""
        expect(self.dialog.get_by_role("heading", name=question)).to_be_visible()
        self.dialog.get_by_role("button", name=answer).click()

    def expect_said(self, words: str) -> None:
        expect(self.page.locator("#said")).to_contain_text(words)


def allow(site: Site, user: str, *permissions: str) -> None:
    """Make the user staff with just these permissions: view, manage, purge."""
    site.query("UPDATE auth_user SET is_staff = 1, is_superuser = 0 WHERE username = ?", user)
    site.query(
        "DELETE FROM auth_user_user_permissions WHERE user_id = (SELECT id FROM auth_user WHERE username = ?)", user
    )
    for name in permissions:
        site.query(
            "INSERT INTO auth_user_user_permissions (user_id, permission_id) "
            "SELECT auth_user.id, auth_permission.id FROM auth_user, auth_permission "
            "WHERE username = ? AND codename = ?",
            user,
            f"{name}_control_room",
        )


class Work:
    """A channel of one test, in the site's store."""

    def __init__(self, site: Site, channel: str) -> None:
        self.store = Store({"address": site.valkey.url})
        self.channel = channel

    def put(self, *ids: str, payload: bytes = b"\x82\xa4type\xa7work.do\xa1n\x01", **job: Any) -> None:
        for first in range(0, len(ids), 1000):
            some = [NewJob(id=id, payload=payload, **job) for id in ids[first : first + 1000]]
            self.store.run(self.store.enqueue(self.channel, some))

    def take(self, count: int) -> list[Lease]:
        token = secrets.token_hex(8)
        claim = self.store.run(self.store.claim(self.channel, "host:1:w", token, wanted=count))
        return [Lease(job.id, token) for job in claim.jobs]

    def succeed(self, *leases: Lease, keep: int = 0) -> None:
        self.store.run(self.store.claim(self.channel, "w", "end", wanted=0, succeeded=leases, keep=keep))

    def kill(self, *ids: str, error: str = "OSError: torn", trace: str = "", **job: Any) -> None:
        self.put(*ids, **job)
        trace = trace or f"builtins.OSError\nTraceback (most recent call last):\n{error}\n"
        for _ in range(0, len(ids), 1000):
            burials = [Burial(it, "no attempts left", error, 5, trace, "work.do") for it in self.take(1000)]
            self.store.run(self.store.bury(self.channel, burials))

    def counts(self) -> tuple[int, int, int]:
        """Dead, scheduled, ready."""
        found = self.store.run(self.store.counts(self.channel))
        return found.dead, found.scheduled, found.ready
