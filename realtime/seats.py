"""How many sockets a user has open, in all server processes; the oldest gives way to a new one.

Nothing is stored, so nothing is left of a server that was killed. Whoever opens a socket tells over the store's
announcements which it has of that user, and asks who else has some; each process tells which it has, and closes those
of its own that are too many. Within a process the oldest is closed at once, also while the store is away.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import Protocol
from weakref import WeakKeyDictionary

from retrying.layers import get_layer

from .bells import Bells

#: Seconds from the first answer to the decision: the others' answers come meanwhile.
ANSWER_SECONDS = 0.5


class Seated(Protocol):
    """A socket, as far as it matters here. ``most``: sockets that its user may have open."""

    most: int

    def give_way(self) -> None: ...


class Seats:
    """The sockets of one event loop by user, and what others tell of theirs. It lives while anybody is seated."""

    _all: WeakKeyDictionary[asyncio.AbstractEventLoop, Seats] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._name = secrets.token_hex(4)
        self._seated: dict[str, dict[str, Seated]] = {}  # by user, by seat: the oldest first
        self._told: dict[str, dict[str, list[str]]] = {}  # by user: the seats that each event loop has
        self._key = f"{get_layer().store.prefix}:seats"
        self._listening = False

    @classmethod
    def current(cls) -> Seats:
        """Those of the running event loop."""
        return cls._all.setdefault(asyncio.get_running_loop(), cls())

    def take(self, user: str, socket: Seated) -> str:
        """Seat a socket. Returns its seat."""
        if not self._seated:
            Bells.current().listen(self._key, self._heard)
        seat = f"{time.time_ns() // 1_000_000:014d}.{secrets.token_hex(4)}"  # in the order of opening
        own = self._seated.setdefault(user, {})
        own[seat] = socket
        self._close_oldest(user, list(own))
        if self._listening:
            self._tell("who", user)
        return seat

    async def leave(self, user: str, seat: str) -> None:
        """The socket is closed."""
        own = self._seated[user]
        del own[seat]
        if not own:
            del self._seated[user]
        if not self._seated:
            self._all.pop(asyncio.get_running_loop(), None)  # first: who comes from now on gets seats of their own
            await Bells.current().leave(self._key)

    def _begin(self) -> None:
        """Announcements are heard from now on: who came before that asks now."""
        if not self._listening:
            self._listening = True
            for user in self._seated:
                self._tell("who", user)

    def _tell(self, word: str, user: str) -> None:
        """Tell all which sockets of a user are here; with "who" they are asked for theirs."""
        Bells.current().announce(self._key, json.dumps([word, user, self._name, list(self._seated[user])]))

    def _heard(self, news: str) -> None:
        if not news:
            self._begin()
            return
        word, user, name, seats = json.loads(news)
        if user not in self._seated or name == self._name:
            return
        if user not in self._told:
            asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._decide, user)
        self._told.setdefault(user, {})[name] = seats
        if word == "who":
            self._tell("here", user)

    def _decide(self, user: str) -> None:
        told = self._told.pop(user)
        others = [seat for seats in told.values() for seat in seats]
        self._close_oldest(user, [*others, *self._seated.get(user, ())])

    def _close_oldest(self, user: str, seats: list[str]) -> None:
        own = self._seated.get(user, {})
        for newer, seat in enumerate(sorted(seats, reverse=True)):
            if seat in own and newer >= own[seat].most:
                own[seat].give_way()
