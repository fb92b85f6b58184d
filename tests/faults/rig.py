"""A server, workers and producers to be hurt, and the invariants that must hold afterwards."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import redis
from channels_redis.serializers import registry

from project.development.valkey import Valkey
from retrying.exceptions import StoreFull, StoreUnavailable
from retrying.store import Limits, Store
from retrying.store.calls import Enqueued, Lease, NewJob
from tests.conftest import wait_for
from tests.processes import RunWorker

CHANNEL = "work"
PREFIX = "retrying:asgi"
LEASE, SWEEP, BACKOFF = 1.0, 0.3, 0.2
MAX_RETRIES = 5
#: As in settings.py: the checks read from the topic what happened in half an hour.
TOPIC_EVENTS = 500_000
#: Where a job can be.
PLACES = ("ready", "scheduled", "leases", "dead", "finished", "succeeded", "newer", "limit:parked")
#: Every key that may be there without a TTL; see the key map in common.lua.
ETERNAL = {*PLACES, "workers", "meta", "bell", f"{PREFIX}:channels"}
GROWING = ("job:", "unique:", "limit:", "groups")

serializer = registry.get_serializer("msgpack", expiry=None)


class Line(NamedTuple):
    """What a handler said; ``at`` is the monotonic clock."""

    job: str
    attempt: int
    word: str
    pid: int
    at: float


class Rig:
    """One server with its own directory; ``url`` is what producers and workers dial (a proxy's, say)."""

    def __init__(
        self, directory: Path, server: Valkey, *, lease: float = LEASE, sweep: float = SWEEP, dispatch: str = ""
    ) -> None:
        """``dispatch``: "direct": the workers' consumer is one that they call directly."""
        self.directory = directory
        self.dispatch = dispatch
        self.server = server
        self.url = server.url
        self.lease, self.sweep = lease, sweep
        self.effects = directory / "effects"
        self.workers: list[RunWorker] = []
        #: Processes that a test killed or stopped: only after them may a job run while its former run isn't over.
        self.hurt: set[int] = set()
        #: Acknowledged jobs -> the monotonic time before which they must not start.
        self.acked: dict[str, float] = {}
        self._sent: dict[str, float] = {}
        #: Requests to enqueue that were not acknowledged, and sent again.
        self.refused = 0
        self._numbers = 0
        self._stack = contextlib.ExitStack()
        self.store = self.store_at(server.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def store_at(self, url: str, **host: Any) -> Store:
        """The store as seen through ``url``."""
        limits = Limits(lease=self.lease, sweep=self.sweep, topic_events=TOPIC_EVENTS)
        store = Store({"address": url, **host}, prefix=PREFIX, limits=limits)
        self._stack.callback(store.connections.close)
        return store

    def client(self) -> redis.Redis:
        """A plain client of the server itself."""
        client = redis.Redis.from_url(self.server.url, decode_responses=True)
        self._stack.callback(client.close)
        return client

    def worker(self, *args: str, concurrency: int = 20, url: str | None = None, **env: object) -> RunWorker:
        """Start a worker and wait until it is ready."""
        settings = {
            "REDIS_URL": url or self.url,
            "EFFECTS": self.effects,
            "LEASE_SECONDS": self.lease,
            "SWEEP_SECONDS": self.sweep,
            "BACKOFF": BACKOFF,
            **({"DISPATCH": self.dispatch} if self.dispatch else {}),
            **env,
        }
        worker = RunWorker(
            "tests.faults.settings", CHANNEL, "--concurrency", str(concurrency), *args,
            log=self.directory / f"worker-{len(self.workers)}.log",
            env={name: str(value) for name, value in settings.items()},
        )  # fmt: skip
        self._stack.enter_context(worker)
        self.workers.append(worker)
        return worker.ready()

    def kill(self, worker: RunWorker) -> None:
        self.hurt.add(worker.pid)
        worker.kill()

    def logs(self) -> str:
        """What all workers printed."""
        return "".join(worker.text() for worker in self.workers)

    # Producers

    def put(self, count: int = 1, *, store: Store | None = None, delay: float = 0, **message: Any) -> list[str]:
        """Enqueue jobs as one request; raises as ``enqueue`` does. Ids are told apart by number."""
        ids = self.ids(count)
        self.put_ids(ids, store=store, delay=delay, **message)
        return ids

    def ids(self, count: int) -> list[str]:
        first = self._numbers
        self._numbers += count
        return [f"job-{number}" for number in range(first, first + count)]

    def put_ids(
        self, ids: Iterable[str], *, store: Store | None = None, delay: float = 0, **message: Any
    ) -> list[Enqueued]:
        """Enqueue jobs under these ids."""
        store = store or self.store
        payload = serializer.serialize({"type": "work.run", **message})
        wait = round(delay * 1000) if delay else None
        began = {id: self._sent.setdefault(id, time.monotonic()) for id in ids}  # a repeat may find it stored
        answers = store.run(
            store.enqueue(CHANNEL, [NewJob(id=id, payload=payload, delay=wait, topic="all") for id in ids])
        )
        for id in ids:
            self.acked.setdefault(id, began[id] + delay)
        return answers

    @contextlib.contextmanager
    def load(
        self, *, pause: float = 0.02, seconds: float = 0.05, fails: int = 0, url: str | None = None
    ) -> Iterator[None]:
        """Jobs keep coming from another thread; one that was not acknowledged is sent again under the same id."""
        stop = threading.Event()
        store = self.store_at(url or self.url)

        def produce() -> None:
            n = 0
            while not stop.wait(pause):
                n += 1
                ids = self.ids(2)
                while True:
                    try:
                        self.put_ids(
                            ids, store=store, seconds=seconds, fails=fails if n % 5 == 0 else 0,
                            delay=0.3 if n % 7 == 0 else 0,
                        )  # fmt: skip
                        break
                    except (StoreUnavailable, StoreFull):
                        self.refused += 1
                        if stop.wait(0.1):
                            return

        thread = threading.Thread(target=produce, name="producer")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    # What came of it

    def lines(self) -> list[Line]:
        if not self.effects.exists():
            return []
        found = [line.split() for line in self.effects.read_text().splitlines()]
        return [Line(job, int(attempt), word, int(pid), float(at)) for job, attempt, word, pid, at in found]

    def said(self, word: str) -> set[str]:
        """Jobs that a handler said this of."""
        return {line.job for line in self.lines() if line.word == word}

    def finish(self, timeout: float = 40) -> None:
        """Wait until nothing waits or runs."""

        def over() -> bool:
            try:
                counts = self.store.run(self.store.counts(CHANNEL))
            except StoreUnavailable:
                return False
            return counts.scheduled == counts.ready == counts.running == 0

        wait_for(over, "every job is over", timeout)

    def check(self, *, dead: Iterable[str] = (), repeats: bool = True) -> None:
        """The invariants, once all jobs are over. ``dead``: those that must have become dead letters.
        ``repeats``: whether a job may have run more often than its failures explain."""
        lines = self.lines()
        self._conserved({line.job: line.at for line in lines if line.word == "done"}, set(dead))
        runs: dict[str, dict[int, dict[str, Line]]] = defaultdict(lambda: defaultdict(dict))
        for line in lines:
            words = runs[line.job][line.attempt]
            assert line.word not in words, f"attempt {line.attempt} of {line.job} was given out twice"
            words[line.word] = line
        uncharged = self._attempts("rescued", "released")
        for job, attempts in runs.items():
            self._one_at_a_time(job, attempts, uncharged)
            failed = sum("failed" in words for words in attempts.values())
            assert failed <= MAX_RETRIES + 1, f"{job} failed {failed} times, {MAX_RETRIES + 1} are allowed"
            if not repeats:
                assert len(attempts) <= failed + 1, f"{job} ran {len(attempts)} times and failed {failed} times"
        self.check_keys()

    def _conserved(self, done: dict[str, float], dead: set[str]) -> None:
        states = self._states(self.acked)
        # A success is remembered for DEDUP_SECONDS only.
        forgotten = time.monotonic() - self.store.limits.dedup + 5
        for id in (id for id, state in states.items() if state is None and done.get(id, forgotten) < forgotten):
            states[id] = "succeeded"
        lost = [id for id in self.acked if states[id] is None]
        assert not lost, f"{len(lost)} of {len(self.acked)} acknowledged jobs are unknown: {lost[:5]}"
        wrong = [(id, states[id]) for id in self.acked if states[id] != ("dead" if id in dead else "succeeded")]
        assert not wrong, f"{len(wrong)} jobs ended otherwise than they should: {wrong[:5]}"
        undone = self.acked.keys() - done.keys() - dead
        assert not undone, f"{len(undone)} jobs count as succeeded, but no handler got to its end: {sorted(undone)[:5]}"

    def _states(self, ids: Iterable[str]) -> dict[str, str | None]:
        found = {id: self.store.run(self.store.get(CHANNEL, id)) for id in ids}
        return {id: None if job is None else str(job.state) for id, job in found.items()}

    def rescued(self) -> set[tuple[str, int]]:
        """Jobs and the attempts that were taken from a worker, as their topic tells."""
        return self._attempts("rescued")

    def _attempts(self, *names: str) -> set[tuple[str, int]]:
        """Jobs and attempts that an event of this name was told of."""
        events = self.client().xrange(f"{PREFIX}:{{{CHANNEL}}}:topic:all")
        return {(event["job"], int(event["attempt"])) for _, event in events if event["name"] in names}

    def _one_at_a_time(self, job: str, attempts: dict[int, dict[str, Line]], uncharged: set[tuple[str, int]]) -> None:
        """One valid lease, and never early."""
        not_before = self.acked.get(job, 0.0)
        before: dict[str, Line] | None = None
        for number in sorted(attempts):
            words = attempts[number]
            start = words["start"].at
            early = not_before - start
            assert early < 0.001, f"{job} started {early:.4f} s early"  # the server's clock counts milliseconds
            if before is not None and before["start"].pid not in self.hurt:
                ends = [line.at for word, line in before.items() if word != "start"]
                assert ends, f"{job}: attempt {number} started although the run before it never ended"
                assert max(ends) <= start, (
                    f"{job}: attempt {number} overlaps the one before by {max(ends) - start:.3f} s"
                )
            charged = "failed" in words and (job, number) not in uncharged  # else the failure was never told
            not_before = words["failed"].at + BACKOFF if charged else 0.0
            before = words

    def check_keys(self) -> None:
        """Every job in one place, every place's jobs there, no key without a TTL that is not on the list."""
        client = self.client()
        start = f"{PREFIX}:{{{CHANNEL}}}:"
        places: Counter[str] = Counter()
        for place in PLACES:
            places.update(client.zrange(start + place, 0, -1))
        twice = [id for id, count in places.items() if count > 1]
        assert not twice, f"in more than one place: {twice[:5]}"
        hashes = set()
        for key in client.scan_iter(count=1000):
            name = key.removeprefix(start)
            if client.ttl(key) == -1:
                assert key.startswith(start) or key in ETERNAL, f"an unknown key without a TTL: {key}"
                assert name in ETERNAL or name.startswith(GROWING), f"an unknown key without a TTL: {key}"
                if name.startswith("job:"):
                    hashes.add(name.removeprefix("job:"))
        stuck = hashes - places.keys()
        assert not stuck, f"stored but in no place: {sorted(stuck)[:5]}"
        dangling = places.keys() - hashes
        assert not dangling, f"in a place but not stored: {sorted(dangling)[:5]}"
        bell = client.llen(start + "bell")
        assert bell <= 1, f"the doorbell holds {bell} elements"

    def drain(self, token: str) -> set[str]:
        """Do every job that can be had, by hand; returns their ids."""
        done: set[str] = set()
        while True:
            self.store.run(self.store.sweep(CHANNEL, "by-hand"))
            claim = self.store.run(self.store.claim(CHANNEL, "by-hand", f"{token}-{len(done)}", wanted=100))
            if not claim.jobs:
                return done
            ends = [Lease(job.id, f"{token}-{len(done)}") for job in claim.jobs]
            self.store.run(self.store.claim(CHANNEL, "by-hand", f"{token}-end", wanted=0, succeeded=ends))
            done |= {job.id for job in claim.jobs}


def memory_kib(pid: int) -> int:
    """Resident memory of a process (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise LookupError(f"process {pid} has no VmRSS line")


def open_files(pid: int) -> int:
    """Descriptors that a process holds (Linux)."""
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  (counting, not walking)
