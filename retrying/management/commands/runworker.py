"""``runworker``: Channels' command, with a worker that loses nothing."""

from __future__ import annotations

import logging
import os
import sys
from argparse import ArgumentTypeError
from typing import Any

from channels.management.commands.runworker import Command as ChannelsCommand
from channels.routing import get_default_application
from django.core.management import CommandError, CommandParser

from retrying.exceptions import RetryingError
from retrying.layers import get_layer
from retrying.logs import install
from retrying.worker import Worker

try:
    from uvloop import run
except ImportError:
    from asyncio import run  # type: ignore[assignment]


class Command(ChannelsCommand):
    help = "Run jobs of the given channels until told to stop (SIGTERM, Ctrl-C)."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--concurrency", type=_positive, help="Jobs at a time of each channel (setting; 1).")
        parser.add_argument(
            "--shutdown-timeout", type=float, metavar="SECONDS", help="What running jobs get to end (setting; 25)."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            layer = get_layer(options["layer"])
        except Exception as error:
            raise CommandError(str(error)) from error
        install()

        async def work() -> None:
            worker = Worker(
                get_default_application(),
                dict.fromkeys(options["channels"], options["concurrency"]),
                layer,
                shutdown_timeout=options["shutdown_timeout"],
            )
            status = await worker.run_with_signals()
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            # Not a return: the thread of a sync handler that was given back would hold the process until it is done.
            os._exit(status)

        try:
            run(work())
        except RetryingError as error:
            raise CommandError(str(error)) from error


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)
