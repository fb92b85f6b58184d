"""Celery."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["celery[redis]==5.7.0", "hiredis==3.5.0"]
#
# [tool.benchmark]
# packages = ["celery", "kombu", "redis"]
# after_kill = "loses; with acks_late held until the visibility timeout"
#
# [tool.benchmark.variants.solo]
# persistence = ["everysec"]
# settings = "solo pool, acknowledged early (its defaults), no results, no gossip, mingle or heartbeat"
# concurrency = 1
# jobs = 4000
# rounds = 2
#
# [tool.benchmark.variants.prefork2]
# settings = "two processes in one pool, prefetch 128 each"
# concurrency = 2
# rounds = 1
# measures = ["two"]
# processes = 2
# default = false
#
# [tool.benchmark.variants.threads]
# settings = "thread pool of 10 (100 for the sleeps)"
# concurrency = 10
# jobs = 4000
# rounds = 1
# sleep_concurrency = 100
# measures = ["drain", "latency", "sleep"]
#
# [tool.benchmark.variants.late]
# settings = "solo pool, acks_late, reject_on_worker_lost, prefetch 1, visibility timeout 30 s"
# concurrency = 1
# rounds = 1
# env = {BENCH_LATE = "1"}
# measures = ["drain", "crash"]
# default = false
# ///

import os
from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery

from benchmarks import effects
from benchmarks.roles import Sender, concurrency, redis_url

app = Celery("bench", broker=redis_url())
app.conf.update(
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    worker_prefetch_multiplier=128,
)
if os.environ.get("BENCH_LATE"):
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        broker_transport_options={"visibility_timeout": 30},
    )
TASKS = {kind: app.task(name=kind)(function) for kind, function in effects.SYNC.items()}


@contextmanager
def producer() -> Iterator[Sender]:
    with app.producer_or_acquire() as kept:
        yield Sender(lambda kind, n: TASKS[kind].apply_async(kwargs={"n": n}, producer=kept))


def work(variant: str) -> None:
    pool = {"prefork2": "prefork", "threads": "threads"}.get(variant, "solo")
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]
    app.worker_main(["worker", f"--pool={pool}", f"--concurrency={concurrency()}", *quiet])
