"""Waiting for a part of a screen that is newer than what a browser has seen: one look a second for all who wait."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async

from . import screens
from .access import Access
from .screens import Part, Screen


class Watch:
    """One screen, as those with one access and one query see it. It looks while somebody waits."""

    def __init__(self, screen: Screen, query: str, allowed: Access) -> None:
        self._screen, self._query, self._allowed = screen, query, allowed
        self._waiting: dict[asyncio.Future[Part], str] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def used(self) -> bool:
        return self._task is not None

    async def newer_than(self, seen: str) -> Part:
        """The part, once it is another one than the one seen."""
        future: asyncio.Future[Part] = asyncio.get_running_loop().create_future()
        self._waiting[future] = seen
        if self._task is None:
            self._task = asyncio.create_task(self._look())
        try:
            return await future
        finally:
            self._waiting.pop(future, None)

    async def _look(self) -> None:
        read = sync_to_async(screens.part_or_problem, thread_sensitive=False)
        while self._waiting:
            part = await read(self._screen, self._query, self._allowed)
            for future, seen in list(self._waiting.items()):
                if seen != part.digest and not future.done():
                    future.set_result(part)
            await asyncio.sleep(self._screen.every)
        self._task = None


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Watch]] = WeakKeyDictionary()


def watches() -> dict[Hashable, Watch]:
    """Those of the running event loop that somebody waits for."""
    found = _watches.setdefault(asyncio.get_running_loop(), {})
    for key in [key for key, watch in found.items() if not watch.used]:
        del found[key]
    return found


def watch(screen: Screen, query: str, allowed: Access) -> Watch:
    """The watch of the running event loop for these."""
    return watches().setdefault((screen.name, query, allowed), Watch(screen, query, allowed))
