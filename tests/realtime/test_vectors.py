"""docs/protocol/: the schema is that of the code, and the vectors hold against the schema and this server."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from realtime import protocol
from realtime.schema import text
from retrying.layers import get_layer
from retrying.store.calls import Lease, NewJob

from .app import CHANNEL, websocket
from .browser import PATIENCE, Browser, happen, trim

HOME = Path(__file__).parents[2] / "docs" / "protocol"
VECTORS = json.loads((HOME / "vectors.json").read_text("utf-8"))
#: Stand for another value each time.
ANY = ("$job", "$at", "$now")
DIALOGUES = [dialogue for dialogue in VECTORS["dialogues"] if dialogue.get("only") != "client"]


def valid_as(name: str) -> Callable[[Any], None]:
    """Raises ValidationError for what is no such frame."""
    # A pattern's `$` is not the end of a text in Python.
    schema = json.loads((HOME / "schema.json").read_text("utf-8").replace('}$"', '}\\\\Z"'))
    return Draft202012Validator({**schema, "oneOf": [{"$ref": f"#/$defs/{name}"}]}).validate


def test_the_schema_is_current() -> None:
    command = "python -m realtime.schema > docs/protocol/schema.json"
    assert (HOME / "schema.json").read_text("utf-8") == text(), f"run {command}"
    assert VECTORS["version"] == protocol.VERSION


def test_what_a_browser_may_send() -> None:
    check = valid_as("FromBrowser")
    for frame in VECTORS["from_browser"]["valid"]:
        check(frame)
        protocol.decode(json.dumps(frame))


@pytest.mark.parametrize("sent", VECTORS["from_browser"]["bad_frame"], ids=lambda sent: sent[:40])
def test_what_a_browser_may_not_send(sent: str) -> None:
    with pytest.raises(protocol.BadFrame):
        protocol.decode(sent)
    try:
        frame = json.loads(sent)
    except ValueError:
        return
    with pytest.raises(ValidationError):
        valid_as("FromBrowser")(frame)


def test_what_the_server_may_send() -> None:
    check = valid_as("FromServer")
    types = set()
    for frame in VECTORS["from_server"]["valid"]:
        check(frame)
        types.add(frame["type"])
    assert types == {frame.__struct_config__.tag for frame in protocol._Sent.__subclasses__()}


class Play:
    """A dialogue, in which the test plays the browser."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.stack = stack
        self.socket: Browser | None = None
        self.known: dict[str, Any] = {}
        self.check = valid_as("FromServer")

    async def play(self, step: dict[str, Any]) -> None:
        ((verb, what),) = step.items()
        await getattr(self, f"_{verb}")(what)

    async def _open(self, what: dict[str, Any]) -> None:
        query = "" if what["user"] is None else f"?user={what['user']}"
        self.socket = Browser(websocket, f"/ws/{query}")
        self.stack.push_async_callback(self._leave, self.socket)
        assert (await self.socket.connect(PATIENCE))[0]

    async def _cut(self, code: int) -> None:
        assert self.socket is not None
        await self.socket.disconnect(timeout=PATIENCE)

    async def _browser(self, frame: dict[str, Any]) -> None:
        assert self.socket is not None
        await self.socket.send_json_to(self._filled_in(frame))

    async def _server(self, expected: dict[str, Any]) -> None:
        assert self.socket is not None
        message = await self.socket.receive_output(PATIENCE)
        assert message["type"] == "websocket.send", message
        frame = json.loads(message["text"])
        self.check(frame)
        self._compare(frame, expected)

    async def _close(self, code: int) -> None:
        assert self.socket is not None
        message = await self.socket.receive_output(PATIENCE)
        assert (message["type"], message["code"]) == ("websocket.close", code)

    async def _log(self, what: dict[str, Any]) -> None:
        topic = what["topic"]
        if "grow" in what:
            await happen(topic, what["grow"])
        elif "keep" in what:
            await trim(topic, what["keep"])
        else:
            store = get_layer().store
            await store.arun(store.enqueue(CHANNEL, [NewJob(id="job-1", payload=b"", topic=topic)]))
            await store.arun(store.claim(CHANNEL, "host:1:a", "T", wanted=1))
            said = [("progress", {"fraction": fraction, "text": ""}) for fraction in what["progress"]]
            await store.arun(store.emit(CHANNEL, Lease("job-1", "T"), said, batch=1))

    async def _page(self, what: object) -> None:
        """The browser's frame follows."""

    async def _told(self, what: object) -> None:
        """The client's own matter."""

    async def _leave(self, socket: Browser) -> None:
        if not socket.future.done():
            await socket.disconnect(timeout=PATIENCE)

    def _filled_in(self, frame: dict[str, Any]) -> dict[str, Any]:
        return {
            name: self.known.get(value, value) if isinstance(value, str) else value for name, value in frame.items()
        }

    def _compare(self, found: Any, expected: Any) -> None:
        if isinstance(expected, dict):
            assert found.keys() == expected.keys(), found
            for name, value in expected.items():
                self._compare(found[name], value)
        elif expected == "$sentence":
            assert isinstance(found, str)
            assert found.endswith(".")
        elif isinstance(expected, str) and expected.startswith("$") and expected not in ANY:
            assert self.known.setdefault(expected, found) == found
        elif expected not in ANY:
            assert found == expected


@pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda dialogue: dialogue["name"])
async def test_a_dialogue(dialogue: dict[str, Any]) -> None:
    async with AsyncExitStack() as stack:
        play = Play(stack)
        for step in dialogue["steps"]:
            await play.play(step)
