"""The frames as JSON Schema: ``python -m realtime.schema > docs/protocol/schema.json``."""

from __future__ import annotations

import json
import sys
from typing import Any, get_args

import msgspec

from . import protocol

Sent = (
    protocol.Welcome | protocol.Subscribed | protocol.Event | protocol.Snapshot
    | protocol.Ack | protocol.Error | protocol.Pong | protocol.Check
)  # fmt: skip


def schema() -> dict[str, Any]:
    """One document: ``$defs`` has each frame, and ``FromBrowser`` and ``FromServer`` for any of them."""
    sides = {"FromBrowser": get_args(protocol.Received), "FromServer": get_args(Sent)}
    frames = [frame for side in sides.values() for frame in side]
    _, definitions = msgspec.json.schema_components(frames, ref_template="#/$defs/{name}")
    for name, side in sides.items():
        definitions[name] = {"oneOf": [{"$ref": f"#/$defs/{frame.__name__}"} for frame in side]}
    for definition in definitions.values():
        if "description" in definition:
            definition["description"] = " ".join(definition["description"].split())
    definitions["Subscribe"]["dependentRequired"] = {"epoch": ["offset"], "offset": ["epoch"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"The frames of the websocket protocol, version {protocol.VERSION}",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in sides],
        "$defs": definitions,
    }


def text() -> str:
    """The document as it is checked in. ``$`` ends a text in a JSON Schema, ``\\Z`` is Python's word for it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False).replace("\\\\Z", "$") + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
