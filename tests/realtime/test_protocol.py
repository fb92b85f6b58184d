"""The protocol and its specification say the same."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from realtime import protocol
from realtime.limits import TokenBucket
from realtime.outgoing import Outgoing
from realtime.protocol import Close
from tests.conftest import await_for

SPECIFICATION = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
SENT = {frame.__struct_config__.tag for frame in protocol._Sent.__subclasses__()}
RECEIVED = {frame.__struct_config__.tag for frame in get_args(protocol.Received)}


class Inner(msgspec.Struct):
    n: int


class Outer(msgspec.Struct):
    url: str
    inner: Inner | None = None


def _table(heading: str) -> str:
    return SPECIFICATION.split(f"## {heading}\n")[1].split("\n## ")[0]


def test_every_frame_is_specified() -> None:
    assert set(re.findall(r'`\{"type":"(\w+)"', _table("From the browser"))) == RECEIVED
    assert set(re.findall(r'`\{"type":"(\w+)"', _table("From the server"))) == SENT


def test_every_code_is_specified() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", SPECIFICATION, re.MULTILINE)) == set(protocol.Code)
    assert {int(code) for code in re.findall(r"^\| (4\d+) \|", SPECIFICATION, re.MULTILINE)} == set(protocol.Close)
    assert f"version {protocol.VERSION}" in SPECIFICATION
    assert set(protocol.SENTENCES) == set(protocol.Close)


def test_the_examples_of_the_specification_are_accepted() -> None:
    """Those that are whole: `...` stands for what a consumer defines."""
    examples = re.findall(r'^\| `(\{"type":.*?\})` \|', _table("From the browser"), re.MULTILINE)
    assert len(examples) == 7
    for example in examples:
        protocol.decode(example.replace("{...}", "{}"))


def test_limits_are_as_specified() -> None:
    limits = _table("Limits")
    for number in (
        f"{protocol.FRAME_BYTES // 1024} KiB of UTF-8",
        f"{protocol.FRAMES_PER_SECOND:g}, {protocol.FRAMES_BURST} at once",
        f"| {protocol.WAITING_FRAMES} |",
        f"| {protocol.SUBSCRIPTIONS} |",
        f"| {protocol.SOCKETS_PER_USER} (`sockets_per_user`) |",
        f"{protocol.STRIKES} at once, one more every {1 / protocol.STRIKES_FORGIVEN_PER_SECOND:g} s",
        f"each {protocol.CHECK_BYTES // 1024} KiB; at most {protocol.WINDOW_BYTES // 1024} KiB",
        f"after {protocol.SLOW_SECONDS:g} s",
        f"| {protocol.WAITING_REPLIES} |",
    ):
        assert number in limits
    assert f"every {protocol.RECHECK_SECONDS:g} s" in SPECIFICATION


def test_the_client_knows_every_final_code() -> None:
    source = (Path(protocol.__file__).parent / "static" / "realtime" / "client.js").read_text("utf-8")
    final = {int(code) for code in re.findall(r"^  \[(\d{4}), ", source, re.MULTILINE)}
    assert final == {1008, *set(protocol.Close) - {Close.GAVE_WAY, Close.INTERNAL, Close.TRY_AGAIN}}
    assert f"const PARKED = {Close.GAVE_WAY:d};" in source
    assert f"export const VERSION = {protocol.VERSION};" in source


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (protocol.Pong(), '{"type":"pong"}'),
        (protocol.Error("internal", "Oh."), '{"type":"error","code":"internal","message":"Oh."}'),
        (protocol.Ack("c", {"ä": None}), '{"type":"ack","id":"c","result":{"ä":null}}'),
    ],
)
def test_frames_as_text(frame: protocol._Sent, text: str) -> None:
    assert protocol.encode(frame) == text


@pytest.mark.parametrize(
    ("path", "sent", "expected"),
    [
        ("url", {"url": 5}, {"url": "Expected `str`, got `int`"}),
        ("nested", {"url": "u", "inner": {"n": "x"}}, {"inner.n": "Expected `int`, got `str`"}),
        ("nested missing", {"url": "u", "inner": {}}, {"inner.n": "required"}),
    ],
)
def test_problems_are_found_by_field(path: str, sent: object, expected: dict[str, str]) -> None:
    with pytest.raises(msgspec.ValidationError) as found:
        msgspec.json.decode(json.dumps(sent), type=Outer)
    assert protocol.problem_by_field(found.value) == expected


def test_the_bucket_gives_its_burst_and_then_its_pace() -> None:
    now = 100.0
    bucket = TokenBucket(20.0, 40, clock=lambda: now)
    assert [bucket.take() for _ in range(41)] == [True] * 40 + [False]
    now += 0.0625
    assert [bucket.take() for _ in range(2)] == [True, False]
    now += 3600
    assert [bucket.take() for _ in range(41)] == [True] * 40 + [False]


async def test_only_checks_that_were_made_are_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "CHECK_BYTES", 10)
    sent: list[str] = []

    async def send(frame: str) -> None:
        sent.append(frame)

    out = Outgoing(send, lambda follower: None)
    writing = asyncio.create_task(out.run())
    assert not out.confirm(1)
    for _ in range(2):
        out.reply("x" * 10)
    await await_for(lambda: len(sent) == 4, "both frames and their checks are sent")
    assert [out.confirm(number) for number in (3, 0, 1, 1, 2)] == [False, False, True, False, True]
    writing.cancel()
    await asyncio.wait([writing])
