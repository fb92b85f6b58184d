"""In a Redis Cluster, under load: 19: a replica takes the place of its primary; 21: a slot moves to another node."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
import redis

from retrying.exceptions import StoreUnavailable
from retrying.store import Limits, Store
from retrying.store.calls import NewJob
from tests.conftest import Effects, wait_for
from tests.faults.conftest import Figure
from tests.processes import RunWorker
from tests.servers import HOST, RedisCluster, RedisServer, cli

CHANNEL = "work"
JOBS = 600
#: From the moment that the replica calls itself primary until a worker has run jobs on it.
CONSUMING_AGAIN_SECONDS = 5.0
TAG = "{" + CHANNEL + "}"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path / "cluster") as found:
        yield found


class Move:
    """The slot of the channel on its way from its owner to another node, step by step as redis-cli does it."""

    def __init__(self, cluster: RedisCluster) -> None:
        self.cluster = cluster
        self.slot = int(cluster.servers[0].ask("CLUSTER", "KEYSLOT", TAG))
        self.source = cluster.owner(TAG)
        self.target = next(server for server in cluster.servers if server is not self.source)

    def begin(self) -> None:
        self.target.ask("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self._id(self.source))
        self.source.ask("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self._id(self.target))

    def carry(self, keys: int) -> int:
        """Move up to that many keys; returns how many."""
        found = self.source.ask("CLUSTER", "GETKEYSINSLOT", self.slot, keys)
        if found:
            self.source.ask("MIGRATE", HOST, self.target.port, "", 0, 5000, "KEYS", *found)
        return len(found)

    def end(self) -> None:
        while self.carry(100):
            pass
        for server in (self.target, self.source, *self.cluster.servers):
            server.ask("CLUSTER", "SETSLOT", self.slot, "NODE", self._id(self.target))

    def refused(self) -> int:
        """How often the nodes have sent a request elsewhere or told it to try again, ever."""
        return sum(
            int(count)
            for server in self.cluster.servers
            for count in re.findall(r"errorstat_(?:TRYAGAIN|ASK|MOVED)\D+(\d+)", str(server.ask("INFO", "errorstats")))
        )

    @staticmethod
    def _id(server: RedisServer) -> str:
        return str(server.ask("CLUSTER", "MYID"))


class Producer(threading.Thread):
    """Enqueues numbered jobs until told to stop; knows which of them were acknowledged and which a replica had."""

    def __init__(self, cluster: RedisCluster, replica: RedisServer) -> None:
        super().__init__(daemon=True)
        self.store = Store(cluster.description, prefix="retrying:asgi")
        self.replica = replica.client()
        self.replica.execute_command("READONLY")
        self.acked: dict[int, float] = {}
        self.confirmed: set[int] = set()
        self._end = threading.Event()

    def run(self) -> None:
        job_key = self.store.keys(CHANNEL).all[0]
        for n in itertools.count():
            payload = msgpack.packb({"type": "work.do", "n": n})
            while not self._end.wait(0.01):
                try:
                    self.store.run(self.store.enqueue(CHANNEL, [NewJob(id=f"job{n}", payload=payload)]))
                except StoreUnavailable:
                    continue  # again, under the same id
                self.acked[n] = time.monotonic()
                if self.replica.exists(f"{job_key}job{n}"):
                    self.confirmed.add(n)
                break
            if self._end.is_set():
                return

    def stop(self) -> None:
        self._end.set()
        self.join(30)
        self.replica.close()
        self.store.connections.close()


@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["CLUSTER FAILOVER", "SIGKILL"])
def test_19_replica_of_a_cluster_takes_over(  # noqa: PLR0917  (fixtures)
    cluster: RedisCluster, redis_url: str, effects: Effects, tmp_path: Path, how: str, figure: Figure
) -> None:
    """The worker consumes again by itself. Asked to, the primary hands over all it has; killed, it takes with it what
    it acknowledged and had not sent on: milliseconds' worth."""
    old = cluster.owner(TAG)
    replica = cluster.add_replica(old)
    producer = Producer(cluster, replica)
    env = {
        "REDIS_URL": redis_url, "EFFECTS": str(effects.path), "STORE": repr(cluster.description), "LEASE_SECONDS": "3",
    }  # fmt: skip
    log = tmp_path / "worker.log"
    with RunWorker("tests.plain.store_settings", CHANNEL, "--concurrency", "4", log=log, env=env) as worker:
        worker.ready()
        producer.start()
        wait_for(lambda: len(effects.lines()) >= 100 and len(producer.confirmed) >= 50, "it runs jobs")
        ended = time.monotonic()
        if how == "SIGKILL":
            old.kill()
        else:
            replica.ask("CLUSTER", "FAILOVER")
        wait_for(lambda: replica.ask("ROLE")[0] == "master", "the replica is the primary")
        switched, done, acked = time.monotonic(), len(effects.lines()), len(producer.acked)
        wait_for(lambda: len(effects.lines()) > done + 4, f"it consumes again; it said: {worker.text()}")
        took = time.monotonic() - switched
        assert took < CONSUMING_AGAIN_SECONDS, worker.text()
        wait_for(lambda: len(producer.acked) > acked + 50, "the producer goes on")
        producer.stop()
        store = Store({"cluster": [server.url for server in cluster.servers if server is not old]})

        def over() -> bool:
            counts = store.run(store.counts(CHANNEL))
            return counts.ready == counts.running == counts.scheduled == 0

        wait_for(over, "every job that is known is over")
        store.connections.close()
    lost = producer.acked.keys() - set(effects.numbers())
    assert not lost & producer.confirmed
    if how == "SIGKILL":
        assert all(ended - 0.5 < producer.acked[n] < switched for n in lost)
    else:
        assert not lost
    figure(
        f"{how}: consuming again {took:.2f} s after the switch ({switched - ended:.2f} s after the fault); of "
        f"{len(producer.acked)} acknowledged jobs {len(lost)} lost, of those that the replica had 0"
    )


@pytest.mark.long
@pytest.mark.timeout(120)
async def test_21_slot_moves_under_load(
    cluster: RedisCluster, redis_url: str, effects: Effects, tmp_path: Path
) -> None:
    """Nothing surfaces at the producers, and the worker runs every job, none of them twice."""
    store = Store(cluster.description, prefix="retrying:asgi")
    env = {
        "REDIS_URL": redis_url, "EFFECTS": str(effects.path), "STORE": repr(cluster.description), "LEASE_SECONDS": "20",
    }  # fmt: skip
    log = tmp_path / "worker.log"
    with RunWorker("tests.plain.store_settings", CHANNEL, "--concurrency", "4", log=log, env=env) as worker:
        await asyncio.to_thread(worker.ready)

        async def produce(numbers: range, pause: float) -> None:
            for n in numbers:
                job = NewJob(id=f"job{n}", payload=msgpack.packb({"type": "work.do", "n": n}))
                if n % 2:
                    await store.arun(store.enqueue(CHANNEL, [job]))
                else:
                    await asyncio.to_thread(store.run, store.enqueue(CHANNEL, [job]))
                await asyncio.sleep(pause)

        def migrate() -> None:
            for _ in range(4):  # to another node and back, twice
                done = len(effects.lines())
                wait_for(lambda done=done: len(effects.lines()) > done + 20, "jobs run meanwhile")
                move = Move(cluster)
                refused = move.refused()
                move.begin()
                move.carry(3)
                # Longer than redis-py's own patience with a slot on its way (16 tries in 0.4 s).
                wait_for(lambda move=move, refused=refused: move.refused() > refused + 100, "requests are refused")
                move.end()
                wait_for(lambda move=move: cluster.owner(TAG) is move.target, "moved")

        moves = asyncio.create_task(asyncio.to_thread(migrate))
        await produce(range(JOBS), 0.005)
        await moves
        await asyncio.to_thread(
            wait_for, lambda: len(effects.lines()) >= JOBS, f"all jobs; it said: {worker.text()}", 40
        )
        said = worker.text()
    assert sorted(effects.numbers()) == list(range(JOBS))
    assert "CROSSSLOT" not in said
    assert "ERROR" not in said
    counts = await store.arun(store.counts(CHANNEL))
    assert (counts.ready, counts.running, counts.dead, counts.scheduled) == (0, 0, 0, 0)
    await store.connections.aclose()
    store.connections.close()


def test_21_no_script_runs_on_half_of_a_slot(cluster: RedisCluster) -> None:
    """While keys are on two nodes neither serves the channel: requests wait, and go on when the slot has arrived."""
    store = Store(cluster.description, prefix="retrying:test", limits=Limits(lease=60, sweep=3600))
    store.run(store.enqueue(CHANNEL, [NewJob(id=f"{n}", payload=b"x") for n in range(50)]))
    move = Move(cluster)
    move.begin()
    move.carry(10)
    keys = store.keys(CHANNEL).sent
    refused = []
    for server in (move.source, move.target):
        with server.client() as client:
            if server is move.target:
                client.execute_command("ASKING")
            try:
                client.eval("#!lua\nreturn redis.call('TIME')", len(keys), *keys)
            except redis.ResponseError as error:
                refused.append(type(error).__name__)
    assert refused[0] in ("AskError", "TryAgainError")
    assert refused[1:] == ["TryAgainError"]
    move.end()
    assert len(store.run(store.claim(CHANNEL, "w", "T", wanted=99)).jobs) == 50
    store.connections.close()


@pytest.mark.long
def test_21_reshard_by_redis_cli(cluster: RedisCluster) -> None:
    """The tool that people use, moving whole ranges of slots away from the channel's node."""
    store = Store(cluster.description, prefix="retrying:test", limits=Limits(lease=60, sweep=3600))
    store.run(store.enqueue(CHANNEL, [NewJob(id="a", payload=b"x")]))
    source = cluster.owner(TAG)
    target = next(server for server in cluster.servers if server is not source)
    ids = [str(server.ask("CLUSTER", "MYID")) for server in (source, target)]
    slots = str(16384 // 3)
    cli("--cluster", "reshard", f"{HOST}:{source.port}", "--cluster-from", ids[0], "--cluster-to", ids[1],
        "--cluster-slots", slots, "--cluster-yes")  # fmt: skip
    assert [job.id for job in store.run(store.claim(CHANNEL, "w", "T", wanted=9)).jobs] == ["a"]
    assert cluster.owner(TAG) is target
    store.connections.close()
