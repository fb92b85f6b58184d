"""What happens to sockets: cut by the network in three ways, frozen with their tab, killed with the server."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from operator import gt

from tests.conftest import await_for
from tests.streams.clients import Client
from tests.streams.parts import Daphne

#: Seconds until somebody must be back, on a machine with much else to do.
PATIENCE = 90.0


class Havoc:
    """``pause``: mean seconds between two faults of one client, ``kill_every``: mean seconds between two kills."""

    def __init__(self, seed: int, daphne: Daphne, *, pause: float, kill_every: float) -> None:
        self.random = random.Random(seed)
        self.daphne = daphne
        self.pause = pause
        self.kill_every = kill_every
        self.over = asyncio.Event()
        self.did: Counter[str] = Counter()

    async def _wait(self, seconds: float) -> bool:
        """False when it is over before."""
        try:
            await asyncio.wait_for(self.over.wait(), seconds)
        except TimeoutError:
            return True
        return False

    async def to(self, client: Client) -> None:
        """Hurt a client at random moments: a third of them right after it came back, the others while it is live."""
        choice = random.Random(self.random.random())
        while True:
            soon = choice.random() < 0.3
            if not soon:
                resumed = lambda: self.over.is_set() or client.resumes_here  # noqa: E731
                await await_for(resumed, f"{client.name} goes on where it was", PATIENCE)
            if not await self._wait(choice.uniform(0, 0.06) if soon else choice.expovariate(1 / self.pause)):
                return
            before = client.connections
            fault = choice.choices((self.reset, self.half_close, self.blackhole, self.freeze), (4, 2, 1, 2))[0]
            self.did[fault.__name__] += 1
            await fault(client, choice)
            await await_for(lambda before=before: client.connections > before, f"{client.name} is live again", PATIENCE)

    async def kill(self, clients: Sequence[Client]) -> None:
        """End daphne by SIGKILL now and then, start it again, and let everybody come back before the next time."""
        choice = random.Random(self.random.random())
        while await self._wait(choice.uniform(0.5, 1.5) * self.kill_every):
            before = [len(client.resumed) for client in clients]
            self.did["kill"] += 1
            await asyncio.to_thread(self.daphne.kill)
            await asyncio.to_thread(self.daphne.__enter__)
            back = lambda before=before: all(map(gt, (len(client.resumed) for client in clients), before))  # noqa: E731
            await await_for(lambda back=back: self.over.is_set() or back(), "everybody goes on", PATIENCE)

    async def reset(self, client: Client, choice: random.Random) -> None:
        """RST, as by a router that forgot the connection."""
        client.proxy.reset()

    async def half_close(self, client: Client, choice: random.Random) -> None:
        """FIN, as by a proxy that restarts."""
        client.proxy.half_close()

    async def blackhole(self, client: Client, choice: random.Random) -> None:
        """Nothing arrives any more, and nobody says so: the client has to notice."""
        before = client.connections
        client.proxy.blackhole()
        await asyncio.sleep(choice.uniform(1.0, 3.0))
        client.proxy.reopen()
        await asyncio.sleep(0.05)
        if client.connections == before:  # it had just been heard: not long enough
            client.proxy.reset()

    async def freeze(self, client: Client, choice: random.Random) -> None:
        """The tab is frozen, its socket goes meanwhile."""
        async with client.in_use:
            await client.freeze()
            try:
                await asyncio.sleep(choice.uniform(0, 0.3))
                client.proxy.reset()
                await asyncio.sleep(choice.uniform(0, 1.0))
            finally:
                await client.thaw()
