"""What a list of jobs is narrowed down to: read from the address, checked, and written back into it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from django.http import QueryDict
from django.utils.http import urlencode

from retrying import jobs
from retrying.exceptions import InvalidJob
from retrying.find import Match, parse_cursor
from retrying.job import State
from retrying.message import check_channel

#: The number in ``10m`` is multiplied by this.
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
#: Longest text of a filter, in characters.
MOST = 200
#: Channels that are merged into one list; of more of them one is to be chosen.
MERGED = 50


@dataclass(frozen=True)
class Filters:
    """As they are in the address: "" for any. ``older`` and ``newer`` like ``90s``, ``10m``, ``12h``, ``7d``."""

    channel: str = ""
    state: str = State.DEAD
    name: str = ""
    key: str = ""
    error: str = ""
    text: str = ""
    older: str = ""
    newer: str = ""
    #: Where the page begins; see ``retrying.find``.
    page: str = ""

    @classmethod
    def of(cls, query: QueryDict) -> Filters:
        """Of an address. What it says too much is cut; what it says wrong, ``problem`` tells."""
        given = {name: str(query[name]).strip()[:MOST] for name in cls.__dataclass_fields__ if query.get(name)}
        return cls(**given)

    @cached_property
    def problem(self) -> str:
        """What can't be looked for, and what to write instead; "" when all can."""
        if self.state not in list(State):
            return f"There is no state “{self.state}”. Jobs are {', '.join(State)}."
        if self.channel:
            try:
                check_channel(self.channel)
            except InvalidJob:
                return f"“{self.channel}” can't be the name of a channel, so no job is in it."
        for age in (self.older, self.newer):
            if age and seconds_of(age) is None:
                return f"“{age}” is no age. Write a number with its unit: 90s, 10m, 12h or 7d."
        if self.older and self.newer and (seconds_of(self.older) or 0) >= (seconds_of(self.newer) or 0):
            return f"Nothing is both older than {self.older} and younger than {self.newer}."
        if self.page:
            try:
                parse_cursor(self.page)
            except ValueError:
                return "This address names a page that can't be. Begin at the first page."
        return ""

    @property
    def match(self) -> Match:
        """For ``find``. Only without a problem."""
        ages = {name: seconds_of(getattr(self, name)) for name in ("older", "newer")}
        return Match(
            key=self.key,
            error=self.error,
            name=self.name,
            **{name: None if age is None else 1000 * age for name, age in ages.items()},
        )

    @property
    def narrowed(self) -> bool:
        """Whether anything is asked for beside the channel and the state."""
        return any((self.name, self.key, self.error, self.text, self.older, self.newer))

    @property
    def reads(self) -> bool:
        """Whether messages must be read to find what matches: that takes its time, so it isn't done every second."""
        return bool(self.text or (self.name and self.state != State.DEAD))

    @property
    def words(self) -> str:
        """The filters beside channel and state, for people: ``key 7, older than 10m``; "" without any."""
        labels = {"name": "type", "error": "error", "key": "key", "older": "older than", "newer": "younger than"}
        found = [f"{label} {value}" for name, label in labels.items() if (value := getattr(self, name))]
        return ", ".join([*found, *([f"with the text “{self.text}”"] if self.text else [])])

    @property
    def target(self) -> str:
        """What was acted on, for the admin's log."""
        return f"{self.channel or 'all channels'}: {self.state}" + (f", {self.words}" if self.words else "")

    def values(self) -> Mapping[str, str]:
        """Those that say something, for an address or a form; without the page."""
        names = [name for name in self.__dataclass_fields__ if name != "page"]
        return {name: str(value) for name in names if (value := getattr(self, name))}

    def address(self, **changes: Any) -> str:
        """The query of an address with these filters, some of them changed."""
        changed = replace(self, **{"page": "", **changes})
        return urlencode({**changed.values(), **({"page": changed.page} if changed.page else {})})

    def channels(self) -> list[str]:
        """The channels to look in, all when none is named."""
        return [self.channel] if self.channel else jobs.channels()


def seconds_of(age: str) -> int | None:
    """``10m`` -> 600; None when it is no age."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd]?)", age)
    return int(found[1]) * UNITS[found[2] or "s"] if found else None
