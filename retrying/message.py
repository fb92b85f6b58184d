"""What may be enqueued: checks that name the path of the bad value and the limit, before anything is written."""

from __future__ import annotations

import math
import os
import re
from binascii import b2a_base64
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, TypedDict, Unpack

from .exceptions import InvalidJob
from .policy import MAX_SECONDS, RetryPolicy
from .store.calls import NewJob

#: As Channels has it: ASCII letters, digits, hyphen, underscore, period; less than 100 characters.
CHANNEL_NAME = re.compile(r"[a-zA-Z\d\-_.]{1,99}")
JOB_ID = re.compile(r"[a-zA-Z\d\-_.:@]{1,200}")
TOPIC_NAME = re.compile(r"[a-zA-Z\d\-_.:]{1,200}")
MAX_DEPTH = 64


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def new_id() -> str:
    """A random id: 22 URL-safe characters, 128 bits."""
    return b2a_base64(os.urandom(16)).translate(_URL_SAFE)[:22].decode()


def check_json(value: Any, path: str = "message") -> None:
    """Raise InvalidJob naming the path of the first value that isn't plain JSON."""
    if not _is_json(value, MAX_DEPTH):
        _explain(value, path, 0)


def _is_json(value: Any, room: int) -> bool:
    """Whether a value is plain JSON for sure; a subclass of a plain type, say, is left to ``_explain``."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return -(2**63) <= value < 2**64  # type: ignore[no-any-return]
    if kind is float:
        return math.isfinite(value)
    if not room:
        return False
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or not (type(item) is str or _is_json(item, room - 1)):
                return False
        return True
    return (kind is list or kind is tuple) and all(_is_json(item, room - 1) for item in value)


def _explain(value: Any, path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidJob(f"{path} is nested deeper than {MAX_DEPTH} levels; send less, or a reference to it")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidJob(f"{path} has the key {key!r}; JSON keys are strings")
            _explain(item, f"{path}[{key!r}]", depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _explain(item, f"{path}[{index}]", depth + 1)
    elif problem := _not_json(value):
        raise InvalidJob(f"{path} is {problem}")


def _not_json(value: object) -> str:
    """What is wrong with a single value and what to do about it; "" when it is JSON."""
    if value is None or isinstance(value, (str, bool)):
        return ""
    if isinstance(value, int):
        return "" if -(2**63) <= value < 2**64 else "an integer of more than 64 bits; send it as a string"
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{value}, which JSON doesn't have; send null or a string"
    hint = "send a number, string, boolean, null, list or dict"
    if hasattr(value, "_meta") and hasattr(value, "pk"):
        hint = "pass its primary key and load it in the handler"
    elif isinstance(value, datetime):
        hint = "pass value.isoformat()"
    elif isinstance(value, (bytes, bytearray)):
        hint = "pass text, or base64 of it"
    return f"a {type(value).__name__}, which isn't JSON; {hint}"


@lru_cache(maxsize=1024)
def _is_channel(name: str) -> bool:
    return CHANNEL_NAME.fullmatch(name) is not None


def check_channel(channel: object) -> None:
    """Raise InvalidJob unless ``channel`` names a general channel."""
    if not isinstance(channel, str) or not _is_channel(channel):
        raise InvalidJob(
            "a channel for jobs is named by 1-99 ASCII letters, digits, '-', '_' or '.' "
            f"(no '!': that is a specific channel), got {channel!r}"
        )


def check_job_id(job_id: object) -> None:
    if not isinstance(job_id, str) or not JOB_ID.fullmatch(job_id):
        raise InvalidJob(f"job_id takes 1-200 of A-Z a-z 0-9 - _ . : @, got {job_id!r:.300}")


def check_unique(unique: object, until: object, period: object) -> None:
    if unique is None:
        if until is not None or period is not None:
            raise InvalidJob("unique_until and unique_for need unique, the name that one job may hold at a time")
        return
    if not isinstance(unique, str) or not JOB_ID.fullmatch(unique):
        raise InvalidJob(f"unique takes a name of 1-200 of A-Z a-z 0-9 - _ . : @, got {unique!r:.300}")
    if until not in (None, "finished", "started"):
        raise InvalidJob(
            f"unique_until takes 'finished' or 'started', got {until!r:.100}; a time is said by unique_for=seconds"
        )
    if until is not None and period is not None:
        raise InvalidJob("unique_until and unique_for both say how long the name is held: pass one of them")


def check_key(key: object) -> None:
    if not isinstance(key, str) or not JOB_ID.fullmatch(key):
        raise InvalidJob(f"key takes 1-200 of A-Z a-z 0-9 - _ . : @, got {key!r:.300}")


def check_topic(topic: object) -> None:
    if not isinstance(topic, str) or not TOPIC_NAME.fullmatch(topic):
        raise InvalidJob(f"topic takes 1-200 of A-Z a-z 0-9 - _ . :, got {topic!r:.300}")


def _ms(value: object, name: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise InvalidJob(f"{name} takes seconds >= 0 or a timedelta, got {value!r}")
    if value > MAX_SECONDS:
        raise InvalidJob(f"{name} takes at most {MAX_SECONDS} seconds (100 years), got {value!r}")
    return round(value * 1000)


def _policy(policy: object) -> str | None:
    if policy is None:
        return None
    if not isinstance(policy, RetryPolicy):
        raise InvalidJob(f"policy takes a RetryPolicy, got {type(policy).__name__}")
    return policy.to_json()


class JobOptions(TypedDict, total=False):
    """What may be said of a new job beside its channel and message."""

    #: Sending the same id twice is one job while it lives and for ``DEDUP_SECONDS`` after its end. Default: random.
    job_id: str | None
    #: Seconds or timedelta until it may start.
    delay: float | timedelta | None
    #: Aware datetime from which on it may start, by the store's clock.
    run_at: datetime | None
    #: -100..100, larger first; 0 by default.
    priority: int
    #: Seconds or timedelta within which the first attempt must begin.
    expires: float | timedelta | None
    #: Where its events go.
    topic: str | None
    #: Goes over the handler's and the channel's; data only.
    policy: RetryPolicy | None
    #: A name that one job of the channel holds at a time: while it is held, enqueueing gives that job back.
    unique: str | None
    #: How long it is held: until the job has "finished", in whatever way (the default), or has "started".
    unique_until: Literal["finished", "started"] | None
    #: Instead: seconds or timedelta for which it is held, whatever becomes of the job.
    unique_for: float | timedelta | None
    #: Whose job it is ("customer-7"), for the channel's limits per key.
    key: str | None


def new_job(payload: bytes, *, max_bytes: int, **options: Unpack[JobOptions]) -> NewJob:
    """A NewJob from what callers give.

    Raises InvalidJob naming the argument and its limit, TypeError for an unknown argument.
    """
    if len(payload) > max_bytes:
        raise InvalidJob(f"the message takes {len(payload)} bytes, the limit is {max_bytes}; send a reference to it")
    if not options:
        return NewJob(id=new_id(), payload=payload)
    if unknown := options.keys() - JobOptions.__annotations__.keys():
        raise TypeError(f"a job takes {', '.join(JobOptions.__annotations__)}; got {', '.join(sorted(unknown))}")
    job_id, topic = options.get("job_id"), options.get("topic")
    policy: object = options.get("policy")
    priority: object = options.get("priority", 0)
    run_at: object = options.get("run_at")
    if job_id is not None:
        check_job_id(job_id)
    if topic is not None:
        check_topic(topic)
    if (key := options.get("key")) is not None:
        check_key(key)
    unique, until, unique_for = options.get("unique"), options.get("unique_until"), options.get("unique_for")
    check_unique(unique, until, unique_for)
    held = _ms(unique_for, "unique_for")
    if held == 0:
        raise InvalidJob(f"unique_for takes seconds > 0 or a timedelta, got {unique_for!r}")
    if isinstance(priority, bool) or not isinstance(priority, int) or not -100 <= priority <= 100:
        raise InvalidJob(f"priority takes a whole number from -100 to 100, larger first, got {priority!r}")
    if run_at is not None:
        if options.get("delay") is not None:
            raise InvalidJob("delay and run_at say the same thing: pass one of them")
        if not isinstance(run_at, datetime) or run_at.tzinfo is None:
            raise InvalidJob(f"run_at takes a datetime with a time zone, got {run_at!r}")
    return NewJob(
        id=job_id or new_id(),
        payload=payload,
        priority=priority,
        delay=_ms(options.get("delay"), "delay"),
        run_at=None if run_at is None else round(run_at.timestamp() * 1000),
        expires=_ms(options.get("expires"), "expires"),
        topic=topic,
        policy=_policy(policy),
        unique=unique,
        unique_until_started=until == "started",
        unique_for=held,
        key=key,
    )
