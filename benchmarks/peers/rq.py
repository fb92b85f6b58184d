"""RQ."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["rq==2.12.0", "redis[hiredis]==8.1.0"]
#
# [tool.benchmark]
# packages = ["rq", "redis"]
# bulk = "Queue.enqueue_many"
# after_kill = "held until the job's timeout, then failed"
#
# [tool.benchmark.variants.simple]
# settings = "SimpleWorker (no fork), results not kept"
# concurrency = 1
# jobs = 800
# rounds = 1
# pace = 10.0
#
# [tool.benchmark.variants.fork]
# settings = "Worker: a process for each job, the default"
# concurrency = 1
# jobs = 200
# rounds = 1
# measures = ["drain"]
# default = false
# ///

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from redis import Redis
from rq import Queue, SimpleWorker, Worker

from benchmarks import effects
from benchmarks.roles import Sender, redis_url


@contextmanager
def producer() -> Iterator[Sender]:
    with Redis.from_url(redis_url()) as client:
        queue = Queue("bench", connection=client)

        def one(kind: str, n: int) -> None:
            queue.enqueue(effects.SYNC[kind], n, result_ttl=0)

        def many(kind: str, numbers: Sequence[int]) -> None:
            function = effects.SYNC[kind]
            queue.enqueue_many([Queue.prepare_data(function, (n,), result_ttl=0) for n in numbers])

        yield Sender(one, many)


def work(variant: str) -> None:
    client = Redis.from_url(redis_url())
    kind = Worker if variant == "fork" else SimpleWorker
    kind([Queue("bench", connection=client)], connection=client).work(logging_level="ERROR")
