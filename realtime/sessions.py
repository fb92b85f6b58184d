"""Who the user of an open socket is, asked now and then; and ending sockets at once, in every process.

What Django tells by signals (see ``signals``), a sign-out say, is announced to all server processes over the store.
When the announcement is lost, the check that each socket makes every RECHECK_SECONDS finds out. A project says by
itself what Django has no signal for::

    from realtime import sessions

    sessions.recheck(user)                 # what the user may do has changed
    sessions.sign_out(user)                # close every socket of the user
    sessions.end_session(session_key)      # a session was flushed without a sign-out
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import threading
from importlib import import_module
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.exceptions import InvalidChannelLayerError
from django.conf import settings
from django.db import transaction
from redis.exceptions import RedisError

from retrying.layers import get_layer

from .bells import Bells

logger = logging.getLogger(__name__)

#: What is announced: one of these words and whom it concerns.
SIGN_OUT, RECHECK = "sign_out", "recheck"


class Socket(Protocol):
    """What is told, in its own event loop."""

    loop: asyncio.AbstractEventLoop

    def signed_out(self) -> None: ...
    def recheck_soon(self) -> None: ...


# For a project to call.


def sign_out(user: Any) -> None:
    """Close every socket of the user (4401), in all processes. In a transaction: after its commit."""
    _after_commit(SIGN_OUT, _mark_of_user(user), user._state.db)


def recheck(user: Any) -> None:
    """Ask again, for every socket of the user in all processes, what it may do. In a transaction: after its commit."""
    _after_commit(RECHECK, _mark_of_user(user), user._state.db)


def end_session(session_key: str) -> None:
    """Close every socket that was opened with this session (4401), in all processes."""
    _after_commit(SIGN_OUT, _mark_of_session(session_key))


# The sockets of this process.

_lock = threading.Lock()  # what is announced comes from request threads
_sockets: dict[str, WeakSet[Any]] = {}
_listening: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()  # sockets of each loop


def marks_of(scope: dict[str, Any]) -> tuple[str, ...]:
    """By what a socket is found: its session and its user."""
    user, key = scope.get("user"), session_key(scope)
    marks = [_mark_of_session(key)] if key else []
    if getattr(user, "pk", None) is not None:
        marks.append(_mark_of_user(user))
    return tuple(marks)


def register(socket: Socket, marks: tuple[str, ...]) -> None:
    """Tell this socket, of the running event loop, what is announced for these marks."""
    with _lock:
        for mark in marks:
            _sockets.setdefault(mark, WeakSet()).add(socket)
    count = _listening.get(socket.loop, 0)
    _listening[socket.loop] = count + 1
    if not count:
        Bells.current().listen(_bell(), _heard)


async def unregister(socket: Socket, marks: tuple[str, ...]) -> None:
    with _lock:
        for mark in marks:
            found = _sockets.get(mark, WeakSet())
            found.discard(socket)
            if not found:
                _sockets.pop(mark, None)
    _listening[socket.loop] -= 1
    if not _listening[socket.loop]:
        del _listening[socket.loop]
        await Bells.current().leave(_bell())


def session_key(scope: dict[str, Any]) -> str | None:
    """The key of the session that a socket was opened with."""
    session = scope.get("session")
    return getattr(session, "session_key", None) if session is not None else None


def _mark_of_user(user: Any) -> str:
    return f"user:{user.pk}"


def _mark_of_session(key: str) -> str:
    return f"session:{hashlib.sha256(key.encode()).hexdigest()[:32]}"  # the key itself would be a way in


def _bell() -> str:
    return f"{get_layer().store.prefix}:sessions"


def _after_commit(word: str, mark: str, using: str | None = None) -> None:
    if transaction.get_connection(using).in_atomic_block:
        transaction.on_commit(lambda: _announce(word, mark), using)
    else:
        _announce(word, mark)


def _announce(word: str, mark: str) -> None:
    _tell(word, mark)  # this process need not hear it from the store
    try:
        get_layer().store.connections.sync().publish(_bell(), f"{word} {mark}")
    except InvalidChannelLayerError as error:  # a project whose tests have another layer: there are no sockets then
        logger.debug("Nobody was told of a %s: %s", word, error)
    except (RedisError, OSError) as error:
        logger.warning("The sockets of other processes were not told of a %s, they find out: %s", word, error)


def _heard(news: str) -> None:
    word, _, mark = news.partition(" ")
    if mark:
        _tell(word, mark)


def _tell(word: str, mark: str) -> None:
    with _lock:
        sockets = list(_sockets.get(mark, ()))
    for socket in sockets:
        tell = socket.signed_out if word == SIGN_OUT else socket.recheck_soon
        with contextlib.suppress(RuntimeError):  # its loop has closed, and the socket with it
            socket.loop.call_soon_threadsafe(tell)


# Whether the user is still signed in.


async def reload_user(scope: dict[str, Any]) -> Any:
    """The socket's user as of now: read from the session again, AnonymousUser when that has ended.

    Without a Django session in the scope (another kind of authentication): the user's row, when it is still active.
    """
    key = session_key(scope)
    if key:
        store = import_module(settings.SESSION_ENGINE).SessionStore(key)  # a fresh one: the scope's has cached its data
        return await get_user({"session": store})
    return await _reload_row(scope.get("user"))


@database_sync_to_async
def _reload_row(user: Any) -> Any:
    from django.contrib.auth.models import AnonymousUser  # models can't be imported before the apps are ready

    if user is None or not user.is_authenticated:
        return user
    found = type(user)._default_manager.filter(pk=user.pk).first()
    return found if found is not None and found.is_active else AnonymousUser()
