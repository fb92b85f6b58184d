"""Generic websocket consumers: declared commands that submit work, and the topics of that work streamed back.

    class DeliveriesConsumer(JobConsumer):
        channel = "deliveries"

        async def may_follow(self, topic):
            return topic == user_topic(self.user)

        @command
        async def deliver(self, args: Deliver, command_id: str) -> dict:
            ...

What a browser sends is one of the frames of `realtime.protocol`. It never chooses a method or a channel by itself.
"""

from __future__ import annotations

import re
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer

from .commands import CommandDeclarationError, CommandError, command
from .mixins import JobTopicsMixin
from .protocol import Close, Code

__all__ = [
    # Consumers
    "JobConsumer",
    "JobTopicsMixin",
    "UserJobsConsumer",
    "user_topic",
    # Commands
    "CommandDeclarationError",
    "CommandError",
    "command",
    # What browsers are told
    "Close",
    "Code",
]

_USER_KEY = re.compile(r"[A-Za-z0-9_-]+")


class JobConsumer(JobTopicsMixin, AsyncWebsocketConsumer):
    """Commands in, events of the topics of one channel out. Subclasses set `channel` and declare what is allowed."""

    takes_other_frames = False
    #: No channel layer: topics need none, and a socket must not end because the layer's Redis went away.
    channel_layer_alias = None  # type: ignore[assignment]

    async def connect(self) -> None:
        await self.accept()  # also who is turned away: a refused handshake would hide the close code from the browser


class UserJobsConsumer(JobConsumer):
    """Everything of this user: the topic `user.<pk>` and those below it, `user.<pk>.<anything>`, and nobody else's.

        class MyReports(UserJobsConsumer):
            channel = "reports"

    Work reaches it by ``enqueue("reports", message, topic=user_topic(request.user))``, from anywhere.
    """

    async def may_follow(self, topic: str) -> bool:
        own = user_topic(self.user)
        return topic == own or topic.startswith(f"{own}.")


def user_topic(user: Any, *parts: object) -> str:
    """The topic of a user, ``user.5``; with ``parts`` one below it, ``user.5.report.17``.

    Raises ValueError when the user has no primary key, or one that is more than letters, digits, _ and -: a dot
    in it would make one user's topic lie below another's.
    """
    key = str(user.pk)
    if user.pk is None or not _USER_KEY.fullmatch(key):
        raise ValueError(f"a user's topic needs a primary key of letters, digits, _ and -, got {user.pk!r}")
    return ".".join(["user", key, *map(str, parts)])
