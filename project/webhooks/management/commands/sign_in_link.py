"""Print a fresh one-time sign-in link."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from project.webhooks.links import make_link
from project.webhooks.people import DEFAULT_NAME, get_or_make_user, make_admin


class Command(BaseCommand):
    help = "Print a one-time sign-in link, good for 15 minutes. The user is made if there is none of that name."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", default=DEFAULT_NAME, metavar="NAME", help=f"default: {DEFAULT_NAME}")
        parser.add_argument("--admin", action="store_true", help="let this user into the admin and the control room")

    def handle(self, *args: Any, user: str, admin: bool = False, **options: Any) -> None:
        found = get_or_make_user(user)
        if admin:
            make_admin(found)
        self.stdout.write(make_link(found))
