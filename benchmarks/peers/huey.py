"""huey on Redis."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["huey==3.5.4", "redis[hiredis]==8.1.0"]
#
# [tool.benchmark]
# packages = ["huey", "redis"]
# after_kill = "loses what ran"
#
# [tool.benchmark.variants.threads]
# persistence = ["everysec"]
# settings = "2 threads (100 for the sleeps), blocking pop, no results"
# concurrency = 2
# in_turns = true
# rounds = 5
# jobs = 13000
# sleep_concurrency = 100
#
# [tool.benchmark.variants.one]
# settings = "1 thread, blocking pop, no results"
# concurrency = 1
# jobs = 13000
# measures = ["drain"]
#
# [tool.benchmark.variants.process2]
# settings = "two processes by fork"
# concurrency = 2
# rounds = 1
# measures = ["two"]
# processes = 2
# default = false
# ///

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from huey import RedisHuey

from benchmarks import effects
from benchmarks.roles import Sender, concurrency, redis_url

queue = RedisHuey("bench", url=redis_url(), results=False, blocking=True)
TASKS = {kind: queue.task(name=kind)(function) for kind, function in effects.SYNC.items()}


@contextmanager
def producer() -> Iterator[Sender]:
    yield Sender(lambda kind, n: TASKS[kind](n=n))


def work(variant: str) -> None:
    logging.getLogger("huey").setLevel(logging.ERROR)
    worker_type = "process" if variant == "process2" else "thread"
    queue.create_consumer(workers=concurrency(), worker_type=worker_type, periodic=False).run()
