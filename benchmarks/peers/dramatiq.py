"""dramatiq on Redis."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["dramatiq[redis]==2.2.1", "hiredis==3.5.0"]
#
# [tool.benchmark]
# packages = ["dramatiq", "redis"]
# after_kill = "held 60 s, then until a chance of 1 in 1,000 commands"
#
# [tool.benchmark.variants.tuned]
# persistence = ["everysec"]
# settings = "2 threads (100 for the sleeps), prefetch 1000"
# concurrency = 2
# jobs = 20000
# sleep_concurrency = 100
# env = {dramatiq_queue_prefetch = "1000"}
#
# [tool.benchmark.variants.one]
# settings = "1 thread, prefetch 1000"
# concurrency = 1
# jobs = 20000
# measures = ["drain"]
# env = {dramatiq_queue_prefetch = "1000"}
#
# [tool.benchmark.variants.threads]
# settings = "8 threads, its default prefetch of 16"
# concurrency = 8
# jobs = 4500
# rounds = 1
# sleep_concurrency = 100
# measures = ["drain", "latency", "sleep"]
# default = false
# ///

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks import effects
from benchmarks.roles import Sender, concurrency, redis_url

logging.basicConfig(level=logging.ERROR)
broker = RedisBroker(url=redis_url())
dramatiq.set_broker(broker)
TASKS = {kind: dramatiq.actor(function, actor_name=kind) for kind, function in effects.SYNC.items()}


@contextmanager
def producer() -> Iterator[Sender]:
    yield Sender(lambda kind, n: TASKS[kind].send(n=n))


def work(variant: str) -> None:
    # What its command line starts in each of its processes.
    broker.emit_after("process_boot")
    worker = dramatiq.Worker(broker, worker_threads=concurrency())
    worker.start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    worker.stop(timeout=2000)
