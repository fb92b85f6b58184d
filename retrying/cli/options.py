"""What the commands take: channels, filters of jobs, ages."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser

from .. import jobs
from ..exceptions import InvalidJob
from ..find import Match
from ..job import State
from ..message import check_channel
from .output import Output

#: One subcommand, named as its function.
Action = Callable[[Namespace, Output], None]

EPILOG = """exit status: 0 done, or healthy; 1 the store does not answer, no such job, the job's state does not
allow it, or (doctor, health) there are problems; 2 wrong arguments; 3 not confirmed"""
#: The number in ``10m`` is multiplied by this.
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
ALL_CHANNELS = "default: all of them"


class Commands:
    """The subcommands, to be added to."""

    def __init__(self, parser: CommandParser) -> None:
        self._parsers: Any = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")

    def add(self, action: Action, words: str) -> CommandParser:
        command: CommandParser = self._parsers.add_parser(action.__name__, help=words, description=words, epilog=EPILOG)
        command.set_defaults(act=action)
        command.add_argument("--json", action="store_true", help="print JSON")
        command.add_argument("--layer", default="default", help="alias of the channel layer")
        return command


def channel(parser: CommandParser, *, optional: bool = False) -> None:
    if optional:
        parser.add_argument("channel", nargs="?", type=_channel, metavar="CHANNEL", help=ALL_CHANNELS)
    else:
        parser.add_argument("channel", type=_channel, metavar="CHANNEL")


def channels(parser: CommandParser, words: str = "default: those of the settings and the routers") -> None:
    parser.add_argument("channels", nargs="*", type=_channel, metavar="CHANNEL", help=words)


def noinput(parser: CommandParser) -> None:
    parser.add_argument("--noinput", "--no-input", action="store_true", help="don't ask")


def states(parser: CommandParser, of: Sequence[State], words: str, default: State | None = None) -> None:
    parser.add_argument("--state", choices=list(of), type=State, default=default, help=words)


def filters(parser: CommandParser) -> None:
    parser.add_argument("--type", default="", help="of this message type, or task")
    parser.add_argument("--error", default="", help="whose last attempt raised this class, e.g. TimeoutError")
    parser.add_argument("--key", default="", help="with this key")
    parser.add_argument(
        "--text", default="", help="with this text in their arguments, which are all read, without secrets"
    )
    parser.add_argument("--older-than", type=_age, help="since their end, or since they were enqueued: e.g. 10m")
    parser.add_argument("--younger-than", type=_age, help="likewise")


def narrowed(given: Namespace) -> bool:
    """Whether a filter was given."""
    return narrowed_by_more_than_age(given) or given.older_than is not None


def narrowed_by_more_than_age(given: Namespace) -> bool:
    """Whether a filter other than ``--older-than`` was given."""
    return any((given.type, given.error, given.key, given.text, given.younger_than))


def match(given: Namespace) -> Match:
    return Match(
        key=given.key, error=given.error, name=given.type,
        older=_milliseconds(given.older_than), newer=_milliseconds(given.younger_than),
    )  # fmt: skip


def chosen(given: Namespace) -> list[str]:
    """The channels that were named, one or several; else all."""
    named = getattr(given, "channels", None) or ([given.channel] if getattr(given, "channel", None) else None)
    return named or jobs.channels(using=given.layer)


def whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


def positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


def _channel(text: str) -> str:
    try:
        check_channel(text)
    except InvalidJob as error:
        raise ArgumentTypeError(str(error)) from error
    return text


def _age(text: str) -> timedelta:
    number, unit = (text[:-1], text[-1:]) if text[-1:] in UNITS else (text, "s")
    if not number.isdecimal():
        raise ArgumentTypeError(f"expected a time like 90s, 10m, 12h or 7d, got {text!r}")
    try:
        return timedelta(seconds=int(number) * UNITS[unit])
    except OverflowError as error:
        raise ArgumentTypeError(f"{text!r} is longer than time goes back") from error


def _milliseconds(age: timedelta | None) -> int | None:
    return None if age is None else round(1000 * age.total_seconds())
