"""A manual clock: time passes for jobs because their stored times move back; the product knows nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from ..layers import get_layer
from ..store import Store
from ..store.calls import Call
from ..store.scripts import script
from .isolation import escape

#: Jobs that one script moves, and keys that one request looks for.
PAGE = 200
SETS = ("ready", "scheduled", "leases", "dead", "finished", "succeeded", "workers", "newer", "parked", "turns", "rates")


def advance(seconds: float | timedelta, *, using: str = "default") -> None:
    """Let ``seconds`` pass for every job: delays, retries, expiries, deadlines, leases, dead letters, the memory of
    ids. Nothing runs by it: call ``run_until_idle`` next.

    Not moved: the clock of Python and of the handlers' timeouts, times in events that topics hold already.
    Not while a worker is running. Raises ValueError for a time that isn't positive.
    """
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    if not seconds > 0:
        raise ValueError(f"advance() takes seconds > 0 or such a timedelta, got {seconds!r}: time only goes forward")
    ms = round(seconds * 1000)
    store = get_layer(using).store
    for channel in sorted(_channels(store)):
        keys = store.keys(channel)
        for name in SETS:
            first = 0
            while store.run(Call(script("advance", "retrying.testing"), keys.sent, (0, 0, ms, name, first, PAGE), int)):
                first += PAGE
        for kind, prefix, type_ in (
            ("job", keys.all[0], "string"), ("topic", keys.all[10], "stream"), ("unique", keys.all[12], "string"),
        ):  # fmt: skip
            for names in _pages(store, prefix, type_):
                words = [word for name in names for word in (kind, name)]
                store.run(Call(script("age", "retrying.testing"), keys.sent, (0, 0, ms, len(names), *words), int))


def _channels(store: Store) -> set[str]:
    pattern = f"{escape(store.prefix)}:{{*}}:*"
    found: set[str] = set()
    for key in store.connections.sync().scan_iter(match=pattern, count=1000):
        name = key.decode() if isinstance(key, bytes) else key
        found.add(name[len(store.prefix) + 2 : name.index("}")])
    return found


def _pages(store: Store, prefix: str, type_: str) -> Iterator[list[str]]:
    """What follows ``prefix`` in keys of a type, a page at a time."""
    page: list[str] = []
    for key in store.connections.sync().scan_iter(match=f"{escape(prefix)}*", count=1000, _type=type_):
        page.append((key.decode() if isinstance(key, bytes) else key)[len(prefix) :])
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page
