"""Commands submitted while sockets are cut, pages reloaded and daphne killed: each is one job, whatever it takes."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.conftest import Effects, await_for
from tests.streams.clients import Client, Tab, chromium, in_node, in_tab, served
from tests.streams.figures import report
from tests.streams.havoc import Havoc
from tests.streams.parts import Daphne, worker


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("nodes", "tabs", "each", "pause"),
    [(3, 0, 20, 0.3), pytest.param(4, 6, 100, 0.5, marks=pytest.mark.long)],
    ids=["short", "whole"],
)
async def test_every_command_is_one_job(  # noqa: PLR0917  (fixtures)
    daphne: Daphne, tmp_path: Path, effects: Effects, nodes: int, tabs: int, each: int, pause: float
) -> None:
    """In node with the outbox in memory; in tabs, two to a user, with the one that survives reloads."""
    seed = int(os.environ.get("SEED") or random.randrange(2**32))
    print(f"SEED={seed}")
    havoc = Havoc(seed, daphne, pause=pause, kill_every=4)
    async with AsyncExitStack() as stack:
        stack.enter_context(daphne)
        stack.enter_context(worker(tmp_path, EFFECTS=str(effects.path))).ready()
        clients: list[Client] = [
            await stack.enter_async_context(in_node(daphne, user + 1, [])) for user in range(nodes)
        ]
        if tabs:
            pages, window = stack.enter_context(served()), await stack.enter_async_context(chromium())
            for number in range(tabs):
                tab = in_tab(window, pages, daphne, 100 + number // 2, [])
                clients.append(await stack.enter_async_context(tab))
        hurting = [asyncio.create_task(havoc.to(client)) for client in clients]
        hurting.append(asyncio.create_task(havoc.kill(clients)))
        await asyncio.gather(
            *(
                _submit(client, each, 0.6 if tabs else 0.1, havoc, random.Random(seed + n))
                for n, client in enumerate(clients)
            )
        )
        havoc.over.set()
        await asyncio.gather(*hurting)
        for client in clients:
            await await_for(lambda client=client: _answered(client), f"{client.name} has every answer")
        wanted = each * len(clients)
        await await_for(lambda: len(effects.lines()) >= wanted, f"{wanted} jobs")
    done = effects.lines()
    assert len(done) == len(set(done)) == wanted
    print(f"{wanted} commands, {len(done)} jobs; {dict(havoc.did)}")
    if tabs:
        cuts = sum(times for fault, times in havoc.did.items() if fault not in ("kill", "reload"))
        report(
            "commands submitted while sockets are cut",
            f"{wanted} commands ({each * tabs} in Chromium), {len(done)} jobs: {cuts} cuts, {havoc.did['kill']} kills "
            f"of daphne, {havoc.did['reload']} reloads of a page with answers outstanding",
        )


async def _submit(client: Client, count: int, pause: float, havoc: Havoc, choice: random.Random) -> None:
    """So many commands, a few at a time; a page is reloaded now and then, right after it submitted."""
    while count:
        await asyncio.sleep(choice.expovariate(1 / pause))
        some = min(count, choice.randint(1, 4))
        async with client.in_use:
            await client.submit(some)
            if isinstance(client, Tab) and choice.random() < 0.2:
                havoc.did["reload"] += 1
                await client.reload()
        count -= some


async def _answered(client: Client) -> bool:
    found = await client.look()
    assert found["refused"] == [], f"{client.name}: {found['refused']}"
    return bool(found["status"]["pending"] == 0)
