"""Look for jobs: of one state, in one channel or several, a bounded piece at a time and never by a scan of all keys.

What the store can tell (key, error class, age, and groups of dead letters) it looks for itself. What only the message
tells (its type, its text) is looked for here, in the messages of the jobs that the rest leaves.
"""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cmp_to_key
from typing import Any

from .job import Job, State
from .joblayer import JobLayer
from .layers import get_layer
from .operations import Steps, ask, awaitable, blocking
from .store.calls import Cursor, Look, Match

__all__ = ["MAX_READ", "Finding", "Match", "Row", "afind", "find"]

#: Messages whose text one call reads.
MAX_READ = 10_000
#: Seconds after which a call that finds little comes back with what it has: the caller goes on, or doesn't.
LOOK_SECONDS = 0.1
READ_SECONDS = 3.0
#: Most that one request asks for, so that the server is soon free again: jobs, bytes of their messages, and jobs of
#: which nothing but their ids is wanted.
PIECE = 60
PAYLOAD_BYTES = 256 * 1024
BRIEF_PIECE = 60
#: Sorts before every character that an id may have: the place just before a job is after its id with this behind it.
BEFORE = "!"


@dataclass(frozen=True, slots=True)
class Row:
    """A job with its message; None when that can't be decoded, or wasn't asked for."""

    job: Job
    message: dict[str, Any] | None
    #: Where it stands in the list.
    place: Cursor

    @property
    def name(self) -> str:
        """Type of the message (of a task its path); "" when it has none."""
        name = (self.message or {}).get("type")
        return name if isinstance(name, str) else ""


@dataclass(frozen=True, slots=True)
class Finding:
    """``cursor``: to be passed to go on, None at the end. ``looked``: jobs looked at, ``read``: messages among them
    whose text was read."""

    rows: list[Row]
    cursor: str | None
    looked: int
    read: int


@blocking
def find(
    channels: Sequence[str],
    state: State | str,
    match: Match | None = None,
    *,
    text: str = "",
    limit: int = 50,
    cursor: str | None = None,
    messages: bool = True,
    shown: Callable[[Any], Any] = lambda message: message,
    using: str = "default",
) -> Steps[Finding]:
    """Jobs in ``state`` that match, those that came last first; over several channels merged into one list.

    ``text``: somewhere in the message as JSON, whatever the case of its letters, after ``shown`` was applied to it (so
    that what is redacted can't be guessed). ``messages``: whether rows come with their messages; without, and unless
    messages have to be read to find them, their jobs have an id and a state only.
    A call ends with ``limit`` rows, or after a bounded time, or MAX_READ messages: then it may have found fewer, or
    nothing, and still have a cursor. Raises ValueError: no such state, a cursor that isn't one.
    """
    search = _Search(get_layer(using), State(state), match or Match(), text.casefold(), limit, messages, shown)
    return search.run(channels, None if cursor is None else parse_cursor(cursor))


afind = awaitable(find)


def parse_cursor(text: str) -> Cursor:
    """Raises ValueError when it isn't one."""
    score, _, job_id = text.partition(":")
    if not job_id or not re.fullmatch(r"-?\d+(\.\d+)?(e\+?\d+)?", score):
        raise ValueError(f"cursor takes what the page before gave, got {text!r:.100}")
    return Cursor(score, job_id)


@dataclass
class _Channel:
    """What was found of one channel and not yet handed out."""

    name: str
    looked_to: Cursor | None
    #: This call has looked at it.
    begun: bool = False
    over: bool = False
    rows: deque[Row] = field(default_factory=deque)


@dataclass
class _Search:
    layer: JobLayer
    state: State
    match: Match
    text: str
    limit: int
    messages: bool
    shown: Callable[[Any], Any]
    looked: int = 0
    read: int = 0

    def __post_init__(self) -> None:
        #: Whether messages have to be looked into.
        self.reads = bool(self.text or self.match.name)
        self.messages = self.messages or self.reads
        self.until = time.monotonic() + (READ_SECONDS if self.text else LOOK_SECONDS)

    def run(self, names: Sequence[str], after: Cursor | None) -> Steps[Finding]:
        channels = [_Channel(name, after) for name in names]
        rows: list[Row] = []
        while True:
            ready = min((c for c in channels if c.rows), key=lambda c: _order(c.rows[0].place), default=None)
            # Those of which something might come before it.
            behind = [c for c in channels if not c.rows and not c.over and (ready is None or _before(c, ready))]
            if behind:
                if all(c.begun for c in channels) and self._spent():
                    break
                yield from self._look(min(behind, key=lambda c: _order(c.looked_to)))
            elif ready is None:
                return Finding(rows, None, self.looked, self.read)
            elif len(rows) >= self.limit and ready.rows[0].place != rows[-1].place:
                break
            else:
                rows.append(ready.rows.popleft())
        first = min((_just_before(c) for c in channels if c.rows or not c.over), key=_order)
        assert first is not None, "each channel was looked at"
        return Finding(rows, f"{first.score}:{first.job_id}", self.looked, self.read)

    def _spent(self) -> bool:
        return time.monotonic() > self.until or self.read >= MAX_READ

    def _look(self, channel: _Channel) -> Steps[None]:
        """The next piece of one channel."""
        store = self.layer.store
        look: Look = yield from ask(
            store.look(
                channel.name,
                self.state,
                self.match,
                limit=self._piece(),
                after=channel.looked_to,
                payload_bytes=PAYLOAD_BYTES,
                brief=not self.messages,
            )
        )
        self.looked += look.looked
        for job, place, payload in look.found:
            row = Row(job, self._message(payload), place)
            if not self.reads or self._matches(row):
                channel.rows.append(row)
        channel.begun, channel.looked_to, channel.over = True, look.cursor, look.cursor is None

    def _piece(self) -> int:
        if self.reads:
            return max(1, min(PIECE, MAX_READ - self.read))
        return min(PIECE if self.messages else BRIEF_PIECE, self.limit + 1)

    def _message(self, payload: bytes) -> dict[str, Any] | None:
        try:
            return self.layer.decode(payload) if self.messages else None
        except ValueError:
            return None

    def _matches(self, row: Row) -> bool:
        if self.match.name and row.name != self.match.name:
            return False
        if not self.text:
            return True
        self.read += 1
        return self.text in json.dumps(self.shown(row.message), ensure_ascii=False, default=str).casefold()


def _order(place: Cursor | None) -> Any:
    """Sorts places as the list has them: from its start (None) by falling score, then by falling id."""
    return _KEY(place)


def _compare(a: Cursor | None, b: Cursor | None) -> int:
    if a is None or b is None:
        return (a is not None) - (b is not None)
    x, y = (float(a.score), a.job_id.encode()), (float(b.score), b.job_id.encode())
    return (x < y) - (x > y)


_KEY = cmp_to_key(_compare)


def _before(channel: _Channel, other: _Channel) -> bool:
    """Whether something of ``channel`` might come before the next row of ``other``."""
    return _compare(channel.looked_to, other.rows[0].place) < 0


def _just_before(channel: _Channel) -> Cursor | None:
    """From where to go on so that nothing of the channel is missed."""
    if not channel.rows:
        return channel.looked_to
    score, job_id = channel.rows[0].place
    return Cursor(score, job_id + BEFORE)
