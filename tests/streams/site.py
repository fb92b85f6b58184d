"""The site that these rigs measure: one consumer, a bare one beside it to compare with, and a worker that says much.

The user is named in the query (`?user=5`): how people sign in is not what is measured.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any
from urllib.parse import parse_qs

import msgspec
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.streams.settings")
get_asgi_application()  # the models below need the apps

from channels.consumer import AsyncConsumer  # noqa: E402
from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.urls import path  # noqa: E402

from realtime import garbage  # noqa: E402
from realtime.consumers import JobConsumer, command  # noqa: E402
from retrying import aenqueue, current_job  # noqa: E402

CHANNEL = "streams"

garbage.keep_pauses_short()


class Order(msgspec.Struct, forbid_unknown_fields=True):
    number: int


class StreamsConsumer(JobConsumer):
    """Every topic may be followed; `order` makes one job for each command id."""

    channel = CHANNEL

    async def may_follow(self, topic: str) -> bool:
        return True

    @command
    async def order(self, args: Order, command_id: str) -> dict[str, Any]:
        await aenqueue(CHANNEL, {"type": "stream.order"}, job_id=command_id)
        return {"number": args.number}


class BareConsumer(AsyncWebsocketConsumer):
    """What a socket costs before anything of ours."""

    channel_layer_alias = None  # type: ignore[assignment]


class GroupConsumer(AsyncWebsocketConsumer):
    """Hears what Channels sends to a group, the same for all."""

    groups = ["everybody"]

    async def tell(self, message: dict[str, Any]) -> None:
        await self.send(text_data=message["text"])


class Source(AsyncConsumer):
    """The work: events on the job's topic."""

    async def stream_run(self, message: dict[str, Any]) -> None:
        """So many ``events`` of so many ``bytes``, ``per_second`` of them; each says when it was sent (ns)."""
        job, loop, padding = current_job(), asyncio.get_running_loop(), "x" * message.get("bytes", 0)
        began = loop.time()
        for number in range(message["events"]):
            await asyncio.sleep(began + number / message["per_second"] - loop.time())
            await job.aemit({"n": number, "sent": time.time_ns(), "padding": padding})

    async def stream_nothing(self, message: dict[str, Any]) -> None:
        """Over at once: three events, by the transitions alone."""

    async def stream_order(self, message: dict[str, Any]) -> None:
        """Leaves a line for each run."""
        file = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, f"{current_job().id}\n".encode())
        finally:
            os.close(file)


class UserOfQuery:
    """`?user=5` signs user 5 in."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        user = User(pk=int(parse_qs(scope["query_string"].decode())["user"][0]))
        await self.inner({**scope, "user": user}, receive, send)


sockets = URLRouter(
    [
        path("ws/", StreamsConsumer.as_asgi()),
        path("bare/", BareConsumer.as_asgi()),
        path("group/", GroupConsumer.as_asgi()),
    ]
)
application = ProtocolTypeRouter(
    {
        "websocket": AllowedHostsOriginValidator(UserOfQuery(sockets)),
        "channel": ChannelNameRouter({CHANNEL: Source.as_asgi()}),
    }
)
