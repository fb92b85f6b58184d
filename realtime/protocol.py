"""The websocket protocol, version 1: every frame, limit and close code. docs/protocol.md is its specification.

Frames are JSON text. What a browser sends is decoded strictly: an unknown type, field or shape is a :class:`BadFrame`.
"""

from __future__ import annotations

import re
from enum import IntEnum, StrEnum
from functools import partial
from typing import Annotated, Any, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

#: Sent in the welcome frame; a client that knows another one stops.
VERSION = 1

# Limits on what one socket may send.

#: Bytes of UTF-8 in one frame. A consumer whose commands are larger overrides `JobConsumer.max_frame_bytes`.
FRAME_BYTES = 16 * 1024
#: Frames per second in the long run ...
FRAMES_PER_SECOND = 20.0
#: ... and frames at once.
FRAMES_BURST = 40
#: Topics followed by one socket.
SUBSCRIPTIONS = 50
#: Sockets of one user, in all server processes; the oldest gives way. `JobTopicsMixin.sockets_per_user` overrides it.
SOCKETS_PER_USER = 20
#: Commands and subscriptions of one socket that wait for their turn.
WAITING_FRAMES = 64
#: Refused frames (too large, too fast, malformed) at once before the socket is closed with 4429 ...
STRIKES = 20
#: ... and how many per second are forgiven.
STRIKES_FORGIVEN_PER_SECOND = 0.5

# Limits on what waits to be sent to one socket.

#: Bytes after which the server asks whether the browser keeps up (a `check` frame).
CHECK_BYTES = 64 * 1024
#: Bytes that may be on their way unconfirmed; no event is sent beyond.
WINDOW_BYTES = 256 * 1024
#: Seconds without a confirmation, with the window full, before the socket is closed with 4503.
SLOW_SECONDS = 20.0
#: Replies (acks, errors, snapshots) waiting to be sent before the socket is closed with 4503.
WAITING_REPLIES = 256

#: Seconds between two checks that the user is still signed in and may still follow what they follow.
RECHECK_SECONDS = 60.0


class Close(IntEnum):
    """Close codes of the server, and what the client does about each: 4000 + the HTTP status of the same meaning.

    The registered ones (1008, 1011, 1013) can't be had: daphne lets applications send 1000 and 3000-4999 only.
    """

    #: The page speaks another version of the protocol. The client stops.
    WRONG_VERSION = 4400
    #: Not signed in, or not any more. The client stops.
    NOT_SIGNED_IN = 4401
    #: Signed in, but not allowed, or not any more. The client stops.
    FORBIDDEN = 4403
    #: Too many sockets of one user, of which this is the oldest. The client stops until its page is looked at again.
    GAVE_WAY = 4409
    #: Too many bad or too fast frames. The client stops.
    ABUSE = 4429
    #: The server's fault, logged there. The client reconnects.
    INTERNAL = 4500
    #: The browser reads too slowly, or the server can't take the socket now. The client reconnects and resumes.
    TRY_AGAIN = 4503


#: What the last frame before a close says.
SENTENCES = {
    Close.WRONG_VERSION: "This page and the server speak different versions of the protocol: reload the page.",
    Close.NOT_SIGNED_IN: "You are not signed in, or not any more.",
    Close.FORBIDDEN: "You are not allowed to follow this, or not any more.",
    Close.GAVE_WAY: "Too many pages of yours are open; this one, the oldest, made room for a new one.",
    Close.ABUSE: "Too many frames of this page were refused.",
    Close.INTERNAL: "Something went wrong here.",
    Close.TRY_AGAIN: "The server can't go on with this connection now: connect again.",
}


class Code(StrEnum):
    """Codes of error frames; the message beside it is a sentence for people."""

    #: Not a frame of this protocol, or too large.
    BAD_FRAME = "bad_frame"
    #: The command's arguments are wrong; `fields` says which.
    BAD_INPUT = "bad_input"
    UNKNOWN_COMMAND = "unknown_command"
    NOT_FOUND = "not_found"
    FORBIDDEN = "forbidden"
    #: Over the frames per second, or too many frames waiting. Nothing was done: send it again later.
    TOO_FAST = "too_fast"
    #: Over the subscriptions of one socket.
    TOO_MANY = "too_many"
    #: A part of the server is down. Nothing was done: send it again later.
    UNAVAILABLE = "unavailable"
    #: Our fault; the message holds a reference that is in the server's log.
    INTERNAL = "internal"
    #: The `hello` named a version that the server doesn't speak.
    WRONG_VERSION = "wrong_version"
    #: The server closes the connection: the message says why.
    CLOSING = "closing"


TopicName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,200}\Z")]
CommandId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
CommandName = Annotated[str, Meta(max_length=64)]
Count = Annotated[int, Meta(ge=0, le=2**53)]


# From the browser.


class _Received(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    pass


class Hello(_Received, frozen=True, tag="hello"):
    """Which version the client speaks. Answered only when the server doesn't."""

    v: Count


class Subscribe(_Received, frozen=True, tag="subscribe"):
    """Follow a topic; `epoch` and `offset` (both or neither) of the last event seen resume it."""

    topic: TopicName
    epoch: Count | None = None
    offset: Count | None = None

    def __post_init__(self) -> None:
        if (self.epoch is None) != (self.offset is None):
            raise ValueError("`epoch` and `offset` are given both or neither")


class Unsubscribe(_Received, frozen=True, tag="unsubscribe"):
    topic: TopicName


class Command(_Received, frozen=True, tag="command"):
    """A declared command; `id` is made by the client, and the same command sent again carries the same one."""

    id: CommandId
    name: CommandName
    args: msgspec.Raw = msgspec.field(default_factory=partial(msgspec.Raw, b"{}"))


class Ping(_Received, frozen=True, tag="ping"):
    pass


class Checked(_Received, frozen=True, tag="checked"):
    """The answer to `check` number `n`: all that was sent before it has arrived."""

    n: Count


Received = Hello | Subscribe | Unsubscribe | Command | Ping | Checked


# To the browser.


class _Sent(Struct, frozen=True, tag_field="type", omit_defaults=True):
    pass


class Welcome(_Sent, frozen=True, tag="welcome"):
    """The first frame. `user`: the primary key of the user, as text. `now`: this server's clock, ms since 1970.
    `dedup`: for how many seconds after its end the same work is not done again (`RETRYING["DEDUP_SECONDS"]`)."""

    v: int
    now: int
    dedup: float
    user: str | UnsetType = UNSET


class Subscribed(_Sent, frozen=True, tag="subscribed"):
    """The topic is followed from here: `offset` is the end of its log, and its last `replayed` events follow.

    `recovered` false: they don't continue what the client said it had seen, which is void.
    """

    topic: str
    epoch: int
    offset: int
    recovered: bool
    replayed: int


class Event(_Sent, frozen=True, tag="event"):
    """Something that happened. `first`: the frame stands for the offsets from there to its own; what was left out is
    progress of jobs that tell newer progress in this frame or a later one."""

    topic: str
    epoch: int
    offset: int
    at: int
    job: str
    name: str
    data: dict[str, Any]
    first: int | UnsetType = UNSET


class Snapshot(_Sent, frozen=True, tag="snapshot"):
    """The state of a topic in place of its history."""

    topic: str
    data: dict[str, Any]


class Ack(_Sent, frozen=True, tag="ack"):
    id: str
    result: Any


class Error(_Sent, frozen=True, tag="error"):
    """What went wrong: with a command (`id`), a subscription (`topic`), a frame, or the connection (neither)."""

    code: str
    message: str
    id: str | UnsetType = UNSET
    topic: str | UnsetType = UNSET
    fields: dict[str, str] | UnsetType = UNSET


class Pong(_Sent, frozen=True, tag="pong"):
    pass


class Check(_Sent, frozen=True, tag="check"):
    """Please answer with `checked` and the same `n`."""

    n: int


class BadFrame(ValueError):
    """What a browser sent is not a frame of this protocol."""


class _Typed(Struct):
    """Just enough of a frame to see whether it is one of this protocol."""

    type: str


class _Identified(Struct):
    """Just enough of a command to answer it although it can't be read."""

    id: CommandId


_decoder: msgspec.json.Decoder[Received] = msgspec.json.Decoder(Received)
_typed = msgspec.json.Decoder(_Typed)
_identified = msgspec.json.Decoder(_Identified)
_TYPES = frozenset(frame.__struct_config__.tag for frame in get_args(Received))
_encoder = msgspec.json.Encoder()


def decode(text: str) -> Received:
    """The frame in a text message. Raises BadFrame with a sentence that says what was expected."""
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError as error:
        raise BadFrame(f"This frame is not valid: {error}.") from error
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise BadFrame("A frame is a JSON object with a `type`; this is not JSON.") from error


def is_ours(text: str) -> bool:
    """Whether a text message is meant to be a frame of this protocol (and not one of the project's own)."""
    try:
        return _typed.decode(text).type in _TYPES
    except (ValueError, RecursionError):
        return False


def command_id(text: str) -> str | UnsetType:
    """The id of a command that was refused unread, so that the browser learns which one it was."""
    try:
        return _identified.decode(text).id
    except (ValueError, RecursionError):
        return UNSET


def encode(frame: _Sent) -> str:
    """A frame as the text message to send. Raises TypeError when something in it has no JSON form."""
    return _encoder.encode(frame).decode()


_PATH = re.compile(r"^(?P<problem>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(?P<name>[^`]+)`|unknown field `(?P<unknown>[^`]+)`")


def problem_by_field(error: msgspec.ValidationError) -> dict[str, str]:
    """A validation error of a command's arguments as {field: problem}; {} when it is about no field."""
    match = _PATH.match(str(error))
    assert match is not None
    problem, path = match["problem"], (match["path"] or "").lstrip(".")
    if named := _MISSING.search(problem):
        name = named["name"] or named["unknown"]
        return {f"{path}.{name}" if path else name: "required" if named["name"] else "unknown field"}
    return {path: problem} if path else {}
