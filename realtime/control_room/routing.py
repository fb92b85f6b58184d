"""The control room's socket, for the project's URLRouter: ``URLRouter([*websockets, ...])``."""

from __future__ import annotations

from django.urls import path

from .consumers import ControlRoomConsumer
from .screens import SOCKET_PATH

websockets = [path(SOCKET_PATH.removeprefix("/"), ControlRoomConsumer.as_asgi())]
