"""Reading a topic's log: the entries that the transitions' scripts wrote, as TopicEvents."""

from __future__ import annotations

import json
from typing import Any

from .calls import Position, Slice, TopicEvent, pairs, text

#: Fields that scripts write as digits.
NUMBERS = frozenset({"due", "attempt", "failures", "max_retries", "rescues"})


def event_of(entry_id: bytes, fields: list[bytes]) -> TopicEvent:
    """An entry of the log as an event. ``data`` of a handler's own event is under ``"data"``."""
    epoch, _, offset = text(entry_id).partition("-")
    values = pairs(fields)
    data: dict[str, Any] = {}
    for name, value in values.items():
        if name in ("job", "name", "at"):
            continue
        if name in NUMBERS:
            data[name] = int(value) if value else None
        elif name == "fraction":
            data[name] = float(value)
        elif name == "data":
            data[name] = json.loads(value)
        else:
            data[name] = value
    return TopicEvent(int(epoch), int(offset), int(values["at"]), values["job"], values["name"], data)


def parse_slice(reply: list[Any]) -> Slice:
    epoch, offset, recovered, entries = reply
    return Slice(
        [event_of(entry_id, fields) for entry_id, fields in entries],
        Position(int(epoch), int(offset)),
        bool(recovered),
    )


def parse_ends(reply: list[bytes]) -> list[Position]:
    ends = (text(entry_id).partition("-") for entry_id in reply)
    return [Position(int(epoch or 0), int(offset or 0)) for epoch, _, offset in ends]
