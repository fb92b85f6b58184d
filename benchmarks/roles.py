"""The two sides of a queue, as processes of its own environment: `python -m benchmarks.roles work|send ...`.

A peer's module has

- `producer()`: a context manager, plain or async, that gives a `Sender`;
- `call(sending)`, if a synchronous sender is to be called in a way of its own;
- `work(variant)`: runs a worker with BENCH_CONCURRENCY jobs at once until it is asked to stop.

Both find the server at REDIS_URL. Only the standard library, and uvloop where BENCH_UVLOOP asks for it.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import random
import sys
import time
from array import array
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Sends before the clock starts: connections, scripts, caches.
WARM = 50
#: What a sender prints when it waits for its next turn, which any line begins.
TURN = "turn"


@dataclass(frozen=True, slots=True)
class Sender:
    """How a queue takes jobs: `one(kind, n)` and, where it has a call of its own for many, `many(kind, numbers)`. Plain
    functions, or both coroutine functions."""

    one: Callable[[str, int], Any]
    many: Callable[[str, Sequence[int]], Any] | None = None


def redis_url() -> str:
    return os.environ["REDIS_URL"]


def concurrency() -> int:
    return int(os.environ["BENCH_CONCURRENCY"])


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """asyncio.run(), on uvloop where the variant asks for it."""
    if os.environ.get("BENCH_UVLOOP") == "1":
        import uvloop

        uvloop.run(coroutine)
    else:
        asyncio.run(coroutine)


@dataclass(slots=True)
class Plan:
    """What to send: `how` is one (one after the other), many (the queue's own bulk call, 1,000 a call), gather (the
    single call, `together` at a time) or paced (one each `pace` seconds, a quarter more or less, so that nobody's
    polling keeps step with it; the times before each send kept)."""

    how: str
    kind: str
    count: int
    #: Stop after so many seconds with what was sent until then.
    limit: float
    together: int
    pace: float
    #: Where the times of paced sends go.
    times: str
    #: Seconds after which it lets others send; 0: never.
    turn: float = 0.0


class _Clock:
    """Time and processor since the first turn began, without the time between turns."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._between = 0.0
        self._began = self._turn = self._wait()
        self._cpu = time.process_time()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began - self._between

    @property
    def cpu(self) -> float:
        return time.process_time() - self._cpu

    def over(self) -> bool:
        """Whether the time for sending is. To be asked after each step: it lets others have their turn."""
        if self.seconds > self._plan.limit:
            return True
        stopped = time.monotonic()
        if self._plan.turn and stopped - self._turn > self._plan.turn:
            self._turn = self._wait()
            self._between += self._turn - stopped
        return False

    def _wait(self) -> float:
        """When its turn has begun."""
        if self._plan.turn:
            print(TURN, flush=True)
            if not sys.stdin.readline():
                raise SystemExit("nobody gives this sender its turn any more")
        return time.monotonic()


def _steps(plan: Plan, size: int, first: int) -> list[range]:
    return [range(n, min(n + size, plan.count)) for n in range(first, plan.count, size)]


def _pauses(plan: Plan) -> Iterator[float]:
    """Before each send; the same ones for every queue."""
    drawn = random.Random(1)
    while True:
        yield plan.pace * drawn.uniform(0.75, 1.25)


def _size(plan: Plan) -> int:
    return {"one": 1, "paced": 1, "gather": plan.together, "many": 1000}[plan.how]


def send_all(plan: Plan, sender: Sender) -> dict[str, float]:
    """Synchronous senders. Returns how many were sent on the clock, in how many seconds, with how much processor."""
    if plan.how == "gather":
        raise SystemExit("a synchronous sender has nothing to gather")
    sent_at, pauses = array("q"), _pauses(plan)
    done = _warm_count(plan)
    for n in range(done):
        sender.one(plan.kind, n)
    clock = _Clock(plan)
    for numbers in _steps(plan, _size(plan), done):
        if plan.how == "many":
            assert sender.many is not None, "this peer has no bulk call"
            sender.many(plan.kind, numbers)
        else:
            if plan.pace:
                time.sleep(next(pauses))
                sent_at.append(time.monotonic_ns())
            sender.one(plan.kind, numbers[0])
        done = numbers[-1] + 1
        if clock.over():
            break
    return _told(plan, done, clock, sent_at)


async def asend_all(plan: Plan, sender: Sender) -> dict[str, float]:
    """The same for coroutine functions."""
    sent_at, pauses = array("q"), _pauses(plan)
    done = _warm_count(plan)
    for n in range(done):
        await sender.one(plan.kind, n)
    clock = _Clock(plan)
    for numbers in _steps(plan, _size(plan), done):
        if plan.how == "many":
            assert sender.many is not None, "this peer has no bulk call"
            await sender.many(plan.kind, numbers)
        elif plan.how == "gather":
            await asyncio.gather(*(sender.one(plan.kind, n) for n in numbers))
        else:
            if plan.pace:
                await asyncio.sleep(next(pauses))
                sent_at.append(time.monotonic_ns())
            await sender.one(plan.kind, numbers[0])
        done = numbers[-1] + 1
        if clock.over():
            break
    return _told(plan, done, clock, sent_at)


def _warm_count(plan: Plan) -> int:
    return 0 if plan.how == "paced" else min(WARM, plan.count // 10)


def _told(plan: Plan, done: int, clock: _Clock, sent_at: array[int]) -> dict[str, float]:
    took, used = clock.seconds, clock.cpu
    if sent_at:
        Path(plan.times).write_bytes(sent_at.tobytes())
    return {"all": done, "timed": done - _warm_count(plan), "seconds": took, "cpu": used}


def send(module: Any, plan: Plan) -> None:
    """Prints what was sent as one JSON line."""
    manager = module.producer()
    if hasattr(manager, "__aenter__"):

        async def sending() -> None:
            async with manager as sender:
                print(json.dumps(await asend_all(plan, sender)), flush=True)

        run(sending())
        return
    with manager as sender:
        if inspect.iscoroutinefunction(sender.one):
            raise SystemExit("coroutine functions need an async producer()")
        call = getattr(module, "call", _call)
        print(json.dumps(call(lambda: send_all(plan, sender))), flush=True)


def _call(sending: Callable[[], dict[str, float]]) -> dict[str, float]:
    return sending()


def main(words: list[str]) -> None:
    """`work MODULE VARIANT` or `send MODULE PLAN`, the plan as JSON."""
    role, name, what = words
    module = importlib.import_module(name)
    if role == "work":
        module.work(what)
    else:
        send(module, Plan(**json.loads(what)))


if __name__ == "__main__":
    main(sys.argv[1:])
