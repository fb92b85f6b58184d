"""Values that all browsers share: made by the first who asks, and for so many seconds everybody else's."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from retrying.exceptions import StoreUnavailable

T = TypeVar("T")

#: Values kept by one cache; the least used go first.
MOST = 256


class _Entry(Generic[T]):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.until = 0.0
        self.value: T | None = None
        self.problem: StoreUnavailable | None = None


class Shared(Generic[T]):
    """Values by key. A store that does not answer is asked no more often than one that does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T], seconds: float) -> T:
        """The value, at most ``seconds`` old. Who asks while it is made waits for it. Raises what ``make`` raises."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            while len(self._entries) > MOST:
                self._entries.popitem(last=False)
        with entry.lock:
            if time.monotonic() >= entry.until:
                try:
                    entry.value, entry.problem = make(), None
                except StoreUnavailable as problem:
                    entry.problem = problem
                entry.until = time.monotonic() + seconds
            if entry.problem is not None:
                raise entry.problem
            value: Any = entry.value
            return value  # type: ignore[no-any-return]

    def clear(self) -> None:
        """Forget everything: something was changed, and whoever did it is to see it."""
        with self._lock:
            self._entries.clear()
