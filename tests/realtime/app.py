"""A small site for these tests: one consumer behind the real stack, in the test's process and under daphne.

The user is named in the query (`?user=5`): how people sign in is not what is tested over the network.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any
from urllib.parse import parse_qs

import msgspec
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
get_asgi_application()  # the models below need the apps

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.contrib.auth.models import AnonymousUser, User  # noqa: E402
from django.urls import path  # noqa: E402

from realtime import protocol  # noqa: E402
from realtime.consumers import CommandError, JobConsumer, command  # noqa: E402
from retrying import aenqueue  # noqa: E402

CHANNEL = "streams"


class Say(msgspec.Struct, forbid_unknown_fields=True):
    topic: str
    times: int = 1


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    pass


class StreamConsumer(JobConsumer):
    """Topics `user.<pk>...` are the user's, `public...` everybody's; those that end in `.state` have a snapshot."""

    channel = CHANNEL
    may_go_on = asyncio.Event()
    running: list[StreamConsumer] = []
    finished: list[str] = []
    snapshots = 0
    banned: set[str] = set()

    async def may_follow(self, topic: str) -> bool:
        if topic == "public.broken":
            raise RuntimeError("the details of a mistake")
        own = f"user.{self.user.pk}"
        return topic not in self.banned and (topic == own or topic.startswith(("public", f"{own}.")))

    async def snapshot(self, topic: str) -> dict[str, Any] | None:
        if not topic.endswith(".state"):
            return None
        type(self).snapshots += 1
        return {"snapshot": self.snapshots}

    @command
    async def say(self, args: Say, command_id: str) -> dict[str, Any]:
        for number in range(args.times):
            await aenqueue(CHANNEL, {"type": "said"}, job_id=f"{command_id}-{number}", topic=args.topic)
        return {"said": args.times}

    @command
    async def refuse(self, args: Nothing, command_id: str) -> dict[str, Any]:
        raise CommandError("not_found", "There is no such thing.", {"thing": "unknown"})

    @command
    async def fail(self, args: Nothing, command_id: str) -> dict[str, Any]:
        raise RuntimeError("the details of a mistake")

    @command
    async def answer_badly(self, args: Nothing, command_id: str) -> dict[str, Any]:
        return {"what": object()}

    @command
    async def take_long(self, args: Nothing, command_id: str) -> dict[str, Any]:
        self.running.append(self)
        await self.may_go_on.wait()
        self.finished.append(command_id)
        return {}

    async def undeclared(self, args: Nothing, command_id: str) -> dict[str, Any]:
        raise AssertionError("only declared methods are commands")


class UserOfQuery:
    """`?user=5` signs user 5 in."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        query = parse_qs(scope["query_string"].decode())
        user = User(pk=int(query["user"][0])) if "user" in query else AnonymousUser()
        await self.inner({**scope, "user": user}, receive, send)


# What a slow browser may do to a server is shown in seconds, not in minutes.
if "TEST_SLOW_SECONDS" in os.environ:
    protocol.SLOW_SECONDS = float(os.environ["TEST_SLOW_SECONDS"])
    protocol.WINDOW_BYTES = 64 * 1024
    protocol.CHECK_BYTES = 16 * 1024

websocket = UserOfQuery(URLRouter([path("ws/", StreamConsumer.as_asgi())]))
application = ProtocolTypeRouter({"websocket": AllowedHostsOriginValidator(websocket)})
