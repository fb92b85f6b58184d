"""Whether the user of an open socket is still signed in: asked now and then, and told at once by Django's signal."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from importlib import import_module
from typing import Any, Protocol
from weakref import WeakSet

from channels.auth import get_user
from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth.signals import user_logged_out


class Socket(Protocol):
    """What is told of a sign-out, in its own event loop."""

    loop: asyncio.AbstractEventLoop

    def signed_out(self) -> None: ...


_lock = threading.Lock()  # the signal comes from request threads
_sockets: dict[str, WeakSet[Any]] = {}


def session_key(scope: dict[str, Any]) -> str | None:
    """The key of the session that a socket was opened with."""
    session = scope.get("session")
    return getattr(session, "session_key", None) if session is not None else None


def register(key: str, socket: Socket) -> None:
    """Tell this socket when the session ends in this process."""
    with _lock:
        _sockets.setdefault(key, WeakSet()).add(socket)


def unregister(key: str, socket: Socket) -> None:
    with _lock:
        sockets = _sockets.get(key)
        if sockets is not None:
            sockets.discard(socket)
            if not sockets:
                del _sockets[key]


def connect_signal() -> None:
    user_logged_out.connect(_on_sign_out, dispatch_uid="realtime.sessions")


def _on_sign_out(sender: Any, request: Any, **kwargs: Any) -> None:
    key = getattr(getattr(request, "session", None), "session_key", None)
    if not key:
        return
    with _lock:
        sockets = list(_sockets.get(key, ()))
    for socket in sockets:
        with contextlib.suppress(RuntimeError):  # its loop has closed, and the socket with it
            socket.loop.call_soon_threadsafe(socket.signed_out)


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
