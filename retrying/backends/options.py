"""What ``TASKS[alias]`` may hold for this backend, and what is wrong with what it holds."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields

from django.conf import settings

from ..conf import get_settings
from ..message import CHANNEL_NAME

#: A result's id has less than 64 characters (Django's promise) and holds the channel: 22 random ones, "@", the channel.
MAX_ID = 63
MAX_CHANNEL = MAX_ID - 23


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``TASKS[alias]["OPTIONS"]``."""

    #: Alias of the channel layer whose store has the jobs.
    LAYER: str = "default"
    #: Seconds for which the result of a success can be read; 0: none is kept. Else at least DEDUP_SECONDS. (What failed
    #: is a dead letter, and is kept as these are.)
    RESULT_TTL: float = 86400.0
    #: Enqueue when the transaction commits: of the default database (True), of the one with that alias; False: at once.
    ENQUEUE_ON_COMMIT: bool | str = False


def channel_of(path: str, queue: str) -> str:
    """Where jobs of a task go: to the channel of the first of ``ROUTES`` that matches, else to that of the queue."""
    return get_settings().route(path) or f"tasks.{queue}"


def channel_problem(channel: str) -> str:
    """What is wrong with the name of a channel for tasks, "" when nothing is."""
    if not CHANNEL_NAME.fullmatch(channel):
        return f"channel {channel!r}: a channel's name has ASCII letters, digits, '-', '_' and '.' only"
    if len(channel) > MAX_CHANNEL:
        return f"channel {channel!r} has {len(channel)} characters; one for tasks has at most {MAX_CHANNEL}"
    return ""


def problems(alias: str, queues: object, options: object) -> Iterator[str]:
    """In sentences that name the setting."""
    where = f"TASKS[{alias!r}]"
    if not isinstance(queues, (list, tuple, set, frozenset)) or not all(isinstance(name, str) for name in queues):
        yield f"{where}['QUEUES'] must be a list of names, got {queues!r}"
    else:
        yield from _queue_problems(where, queues)
    if not isinstance(options, Mapping):
        yield f"{where}['OPTIONS'] must be a dict, got {options!r}"
        return
    names = [item.name for item in fields(Options)]
    for name in options:
        if name not in names:
            yield f"{where}['OPTIONS'] has no option {name!r}; it takes {', '.join(names)}"
    layer = options.get("LAYER", "default")
    if layer not in getattr(settings, "CHANNEL_LAYERS", {}):
        yield f"{where}['OPTIONS']['LAYER'] must be an alias in CHANNEL_LAYERS, got {layer!r}"
    yield from _ttl_problems(where, options.get("RESULT_TTL", Options().RESULT_TTL))
    on_commit = options.get("ENQUEUE_ON_COMMIT", False)
    if not isinstance(on_commit, bool) and on_commit not in settings.DATABASES:
        yield f"{where}['OPTIONS']['ENQUEUE_ON_COMMIT'] must be True, False or an alias in DATABASES, got {on_commit!r}"


def _queue_problems(where: str, queues: Collection[str]) -> Iterator[str]:
    for name in queues:
        if problem := channel_problem(f"tasks.{name}"):
            yield f"{where}['QUEUES']: queue {name!r} is {problem}"


def _ttl_problems(where: str, ttl: object) -> Iterator[str]:
    least = get_settings().DEDUP_SECONDS
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not math.isfinite(ttl) or ttl < 0:
        yield f"{where}['OPTIONS']['RESULT_TTL'] must be a number of seconds >= 0, got {ttl!r}"
    elif 0 < ttl < least:
        yield (
            f"{where}['OPTIONS']['RESULT_TTL'] must be 0 (no results) or at least RETRYING['DEDUP_SECONDS'] "
            f"({least:g}), got {ttl!r}: a job's id is remembered as long as that"
        )
