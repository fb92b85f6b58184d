"""client.js behind a proxy of its own: in node, and in a tab of a real Chromium. What both tell is the same."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import playwright
from playwright.async_api import BrowserContext, CDPSession, Page, async_playwright

from tests.browser.conftest import FLAGS, find_chromium
from tests.conftest import await_for
from tests.faults.proxy import Proxy
from tests.processes import ROOT
from tests.streams.parts import Daphne

NODE = Path(playwright.__file__).parent / "driver" / "node"
HERE = Path(__file__).parent


class Client:
    """What a recorder.js told. ``freeze`` stops it as a browser stops a tab; ``thaw`` lets it go on."""

    def __init__(self, name: str, daphne: Daphne, proxy: Proxy, user: int, topics: list[str]) -> None:
        self.name = name
        self.proxy = proxy
        self.user = user
        self.topics = topics
        self.url = f"ws://127.0.0.1:{proxy.port}/ws/?user={user}"
        self.origin = daphne.origin
        self.connections = 0
        #: Every topic goes on, over the connection that it has now.
        self.resumes_here = False
        #: Held by who freezes it, and by who uses it: a frozen page can't be used.
        self.in_use = asyncio.Lock()
        #: Of each reconnect after which every topic went on: events that were replayed, and whether all were recovered.
        self.resumed: list[tuple[int, bool]] = []

    def hear(self, words: list[Any]) -> None:
        match words:
            case ["live", count]:  # 1 after a reload, too
                self.connections += 1
                self.resumes_here = count == 1
            case ["resumed", replayed, recovered]:
                self.resumes_here = True
                self.resumed.append((replayed, recovered))

    async def freeze(self) -> None:
        raise NotImplementedError

    async def thaw(self) -> None:
        raise NotImplementedError

    async def submit(self, count: int) -> None:
        """Call `command` so many times."""
        raise NotImplementedError

    async def look(self) -> dict[str, Any]:
        """What the recorder has seen."""
        raise NotImplementedError


class Node(Client):
    """A process; frozen by SIGSTOP."""

    process: asyncio.subprocess.Process

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._answers: asyncio.Queue[list[Any]] = asyncio.Queue()

    async def listen(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            words = json.loads(line)
            if words[0] in ("report", "submitted"):
                self._answers.put_nowait(words)
            else:
                self.hear(words)

    async def _ask(self, line: str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        return (await self._answers.get())[1]

    async def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    async def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def submit(self, count: int) -> None:
        assert await self._ask(f"submit {count}") == count

    async def look(self) -> dict[str, Any]:
        found: dict[str, Any] = await self._ask("report")
        return found


class Tab(Client):
    """A page of Chromium; frozen by its debugger: no script runs, the browser goes on receiving."""

    page: Page
    _debugger: CDPSession
    _frozen = False
    _paused = False

    async def attach(self, context: BrowserContext) -> None:
        self._debugger = await context.new_cdp_session(self.page)
        self._debugger.on("Debugger.paused", lambda _: self._stopped())
        await self._debugger.send("Debugger.enable")

    def _stopped(self) -> None:
        self._paused = True
        if not self._frozen:  # the first script to run came after the thaw
            self._resuming = asyncio.ensure_future(self.thaw())

    async def freeze(self) -> None:
        self._frozen = True
        await self._debugger.send("Debugger.pause")

    async def thaw(self) -> None:
        self._frozen = False
        if self._paused:
            self._paused = False
            await self._debugger.send("Debugger.resume")

    async def submit(self, count: int) -> None:
        assert await self.page.evaluate("count => recorder.submit(count)", count) == count

    async def look(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.page.evaluate("recorder.report()")
        return found

    async def reload(self) -> None:
        await self.page.reload()
        await self.page.wait_for_function("window.recorder")


@contextlib.asynccontextmanager
async def in_node(daphne: Daphne, user: int, topics: list[str]) -> AsyncIterator[Node]:
    with Proxy(daphne.port) as proxy:
        client = Node(f"node-{user}", daphne, proxy, user, topics)
        client.process = await asyncio.create_subprocess_exec(
            NODE, HERE / "recorder.mjs", client.url, client.origin, *topics,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**26,
        )  # fmt: skip
        listening = asyncio.create_task(client.listen())
        try:
            await await_for(lambda: client.connections or listening.done(), f"{client.name} is live")
            yield client
        finally:
            client.process.kill()
            await client.process.wait()
            await listening


@contextlib.asynccontextmanager
async def in_tab(
    context: BrowserContext, pages: str, daphne: Daphne, user: int, topics: list[str]
) -> AsyncIterator[Tab]:
    with Proxy(daphne.port) as proxy:
        client = Tab(f"tab-{user}", daphne, proxy, user, topics)
        client.page = await context.new_page()
        await client.page.expose_function("told", client.hear)
        await client.attach(context)
        socket, named = quote(client.url, safe=""), ",".join(topics)
        await client.page.goto(f"{pages}/tests/streams/recorder.html?socket={socket}&user={user}&topics={named}")
        await await_for(lambda: client.connections, f"{client.name} is live")
        try:
            yield client
        finally:
            await client.page.close()


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[BrowserContext]:
    """A window of a headless Chromium."""
    found = find_chromium()
    assert found, "there is no browser to drive; on Debian: apt-get install chromium"
    async with async_playwright() as program:
        browser = await program.chromium.launch(executable_path=found, args=FLAGS)
        try:
            yield await browser.new_context()
        finally:
            await browser.close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def served() -> Iterator[str]:
    """The files of this checkout over HTTP, from a server that no test kills. Gives its origin."""
    handler = lambda *args: _Quiet(*args, directory=str(ROOT))  # noqa: E731
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, name="pages", daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
