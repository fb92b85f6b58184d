"""Show an endpoint's signing secret and state; enable it again."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from project.webhooks.models import Endpoint
from project.webhooks.people import DEFAULT_NAME
from project.webhooks.targets import BadInput, check_url


class Command(BaseCommand):
    help = "Show the signing secret and state of an endpoint (its receiver verifies with this secret), or enable it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("url")
        parser.add_argument("--user", default=DEFAULT_NAME, metavar="NAME", help=f"its owner; default: {DEFAULT_NAME}")
        parser.add_argument("--enable", action="store_true", help="after its receiver answered 410 Gone")

    def handle(self, *args: Any, url: str, user: str, enable: bool, **options: Any) -> None:
        try:
            endpoints = Endpoint.objects.filter(owner__username=user, url=check_url(url))
        except BadInput as error:
            raise CommandError(error.fields["url"], returncode=2) from None
        if enable:
            endpoints.update(enabled=True, disabled_reason="")
        endpoint = endpoints.first()
        if endpoint is None:
            raise CommandError(f"{user} has no endpoint {url}; it is made by the first delivery to it")
        self.stdout.write(f"url:    {endpoint.url}")
        self.stdout.write(f"state:  {'enabled' if endpoint.enabled else f'disabled: {endpoint.disabled_reason}'}")
        self.stdout.write(f"secret: {endpoint.secret}")
