"""The control room as its staff use it: what the tests click and read."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

from tests.browser.running import Site

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
        expect(self.page.locator(".notices[role=status]")).to_contain_text(words)


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
