"""``manage.py retrying``: look at jobs and act on them, for people and (``--json``) for machines; it is in ``cli``."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from channels.exceptions import InvalidChannelLayerError
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from retrying.cli import acting, channel, listing, standing, switches
from retrying.cli.options import EPILOG, Commands
from retrying.cli.output import Output
from retrying.exceptions import RetryingError


class Command(BaseCommand):
    """Each subcommand is one function of ``retrying.cli``; see ``--help``."""

    help = "Look at jobs, act on them, and ask what is wrong."
    #: ``doctor`` tells what the checks say, and must not be stopped by them.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.epilog = EPILOG
        commands = Commands(parser)
        for module in (standing, channel, listing, acting, switches):
            module.add(commands)

    def handle(self, *args: Any, **options: Any) -> None:
        given = Namespace(**options)
        try:
            given.act(given, Output(self.stdout, as_json=given.json))
        except (RetryingError, ImproperlyConfigured, InvalidChannelLayerError, ValueError) as error:
            raise CommandError(str(error)) from error
