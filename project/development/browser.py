"""What a browser does, without one: follow a sign-in link, open the websocket, send commands, hear what happens."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
from websockets.asyncio.client import ClientConnection, connect

Json = dict[str, Any]


class Refused(Exception):
    """The site answered a command with an error."""


class Browser:
    """A signed-in user of the site at `origin`."""

    def __init__(self, http: httpx.AsyncClient, socket: ClientConnection) -> None:
        self._http = http
        self._socket = socket
        self._answers: dict[str, asyncio.Future[Json]] = {}
        self._events: asyncio.Queue[Json] = asyncio.Queue()
        self._listening = asyncio.create_task(self._listen())

    async def command(self, name: str, **args: object) -> Json:
        """Send a command over the websocket; what the site acknowledged it with. Raises Refused, ConnectionError."""
        command_id = uuid4().hex
        answer = self._answers[command_id] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"type": "command", "id": command_id, "name": name, "args": args}))
        return await self._unless_closed(answer)

    async def event(self) -> Json:
        """The next thing that happened to the user's deliveries. Raises ConnectionError when the socket was closed."""
        return await self._unless_closed(asyncio.ensure_future(self._events.get()))

    async def get(self, path: str) -> Json:
        """JSON of the site."""
        response = await self._http.get(path)
        response.raise_for_status()
        found: Json = response.json()
        return found

    async def follow(self, topic: str) -> None:
        await self._socket.send(json.dumps({"type": "subscribe", "topic": topic}))

    async def close(self) -> None:
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)

    async def _unless_closed(self, waited_for: asyncio.Future[Json]) -> Json:
        """What is waited for; a closed socket would never bring it."""
        either: set[asyncio.Future[Any]] = {waited_for, self._listening}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not waited_for.done():
            waited_for.cancel()
            raise ConnectionError(f"the websocket was closed: {self._socket.close_code} {self._socket.close_reason}")
        return waited_for.result()

    async def _listen(self) -> None:
        """Read frames until the socket is closed."""
        async for frame in self._socket:
            message = json.loads(frame)
            if message["type"] == "event":
                self._events.put_nowait(message)
            elif message["type"] == "ack":
                self._answers.pop(message["id"]).set_result(message["result"])
            elif message["type"] == "error":
                waiting = self._answers.pop(message.get("id", ""), None)
                if waiting is not None:
                    waiting.set_exception(Refused(message["message"]))
            elif message["type"] == "check":
                await self._socket.send(json.dumps({"type": "checked", "n": message["n"]}))


@contextlib.asynccontextmanager
async def signed_in(link: str) -> AsyncIterator[Browser]:
    """Follow the one-time sign-in link, and then the user's deliveries."""
    parts = urlsplit(link)
    origin = f"{parts.scheme}://{parts.netloc}"
    # trust_env=False, proxy=None: what is on this machine is asked directly, whatever proxy the environment names.
    async with httpx.AsyncClient(base_url=origin, follow_redirects=True, trust_env=False) as http:
        (await http.get(link)).raise_for_status()
        headers = {"Cookie": "; ".join(f"{cookie.name}={cookie.value}" for cookie in http.cookies.jar)}
        url = f"ws://{parts.netloc}/ws/deliveries/"
        async with connect(url, origin=origin, additional_headers=headers, proxy=None) as socket:  # type: ignore[arg-type]
            browser = Browser(http, socket)
            try:
                await browser.follow((await browser.get("/api/status/"))["user_topic"])
                yield browser
            finally:
                await browser.close()
