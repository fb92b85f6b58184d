"""19, 20: the primary dies, or hangs and comes back, behind Sentinel and under load. Real servers, a real worker."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
import redis

from retrying import StoreUnavailable
from retrying.store import Limits, Store
from retrying.store.calls import Lease, NewJob, Settled
from tests.conftest import Effects, wait_for
from tests.faults.conftest import Figure
from tests.processes import RunWorker
from tests.servers import RedisServer, SentinelSet

CHANNEL = "work"
SETTINGS = "tests.plain.store_settings"
#: From the moment that all Sentinels name the new primary until a worker has run a job on it.
CONSUMING_AGAIN_SECONDS = 5.0


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[SentinelSet]:
    with SentinelSet(tmp_path / "servers") as found:
        yield found


class Producer(threading.Thread):
    """Enqueues numbered jobs until told to stop; knows which of them a replica has confirmed.

    Its client has one connection, so that WAIT speaks of what it has just written.
    """

    def __init__(self, servers: SentinelSet) -> None:
        super().__init__(daemon=True)
        self.store = Store({**servers.description, "max_connections": 1, "socket_timeout": 2.0}, prefix="retrying:asgi")
        self.confirmed: list[int] = []
        self.refused = 0
        self._end = threading.Event()

    def run(self) -> None:
        for n in itertools.count():
            if self._end.wait(0.01):
                return
            payload = msgpack.packb({"type": "work.do", "n": n})
            try:
                self.store.run(self.store.enqueue(CHANNEL, [NewJob(id=f"job{n}", payload=payload)]))
                if self.store.connections.sync().execute_command("WAIT", 1, 500) >= 1:
                    self.confirmed.append(n)
            except (StoreUnavailable, redis.ConnectionError, redis.TimeoutError):
                self.refused += 1  # the latter two: WAIT met with the end of the primary

    def stop(self) -> None:
        self._end.set()
        self.join(30)
        self.store.connections.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", ["SIGKILL", "SIGSTOP"])
@pytest.mark.long
@pytest.mark.alone
def test_19_failover_under_load(  # noqa: PLR0917  (fixtures)
    servers: SentinelSet, redis_url: str, effects: Effects, tmp_path: Path, fault: str, figure: Figure
) -> None:
    """A worker consumes again within seconds of the switch, by itself, and what a replica had confirmed is run."""
    log = tmp_path / "worker.log"
    # No socket's timeout helps: it is Sentinel's word that makes the worker leave a primary that hangs.
    description = {**servers.description, "socket_timeout": 30}
    env = {
        "REDIS_URL": redis_url, "EFFECTS": str(effects.path), "STORE": repr(description), "LEASE_SECONDS": "10",
    }  # fmt: skip
    producer = Producer(servers)
    with RunWorker(SETTINGS, CHANNEL, "--concurrency", "4", log=log, env=env) as worker:
        worker.ready()
        producer.start()
        wait_for(lambda: len(effects.lines()) >= 100 and len(producer.confirmed) >= 50, "it runs jobs")
        old = servers.primary
        if fault == "SIGKILL":
            old.kill()
        else:
            old.pause()
        new = servers.wait_for_switch(old)
        switched, done, confirmed = time.monotonic(), len(effects.lines()), len(producer.confirmed)
        wait_for(lambda: len(effects.lines()) > done + 4, f"it consumes again; it said: {worker.text()}")
        took = time.monotonic() - switched
        assert took < CONSUMING_AGAIN_SECONDS, worker.text()
        if fault == "SIGSTOP":
            old.resume()
            wait_for(lambda: follows(old), "the old primary follows the new one", 30)
        wait_for(lambda: len(producer.confirmed) > confirmed + 50, "the producer goes on", 30)
        producer.stop()
        wait_for(
            lambda: set(producer.confirmed) <= set(effects.numbers()),
            "every job that a replica had confirmed is run",
            30,
        )
    store = producer.store
    assert servers.primary is new
    counts = store.run(store.counts(CHANNEL))
    store.connections.close()
    assert (counts.ready, counts.dead) == (0, 0)
    confirmed = len(producer.confirmed)
    figure(f"{fault}: consuming again {took:.2f} s after the switch; {confirmed} jobs a replica had confirmed, 0 lost")


@pytest.mark.long
def test_20_claim_that_was_lost_with_the_old_primary_is_no_longer_valid(servers: SentinelSet) -> None:
    """No replica had heard of it: the new primary gives the job away under the same attempt number. The token tells."""
    store = Store(servers.description, prefix="retrying:test", limits=Limits(lease=60, sweep=3600))
    store.run(store.enqueue(CHANNEL, [NewJob(id="a", payload=b"x")]))
    old = servers.primary
    wait_for(lambda: all(has(server, store) for server in servers.servers), "replicated")
    replicas = servers.replicas
    for replica in replicas:
        replica.pause()
    old.ask("CLIENT", "KILL", "TYPE", "replica")
    old.ask("CONFIG", "SET", "min-replicas-to-write", 0)
    (first,) = store.run(store.claim(CHANNEL, "host:1:a", "old-token", wanted=1)).jobs
    old.kill()
    for replica in replicas:
        replica.resume()
    servers.wait_for_switch(old)
    (second,) = wait_for(lambda: claimed(store), "the job is claimed on the new primary")
    assert (first.id, first.attempt) == (second.id, second.attempt) == ("a", 1)
    stale = store.run(store.claim(CHANNEL, "host:1:a", "x", wanted=0, succeeded=[Lease("a", "old-token")]))
    assert stale.settled == [Settled.LOST]
    valid = store.run(store.claim(CHANNEL, "host:2:b", "y", wanted=0, succeeded=[Lease("a", "new-token")]))
    assert valid.settled == [Settled.DONE]
    store.connections.close()


def follows(server: RedisServer) -> bool:
    """Whether it is a replica; while it is made one, Sentinel closes its connections."""
    try:
        return str(server.ask("ROLE")[0]) == "slave"
    except redis.ConnectionError:
        return False


def has(server: RedisServer, store: Store) -> bool:
    return bool(server.ask("EXISTS", store.keys(CHANNEL).all[0] + "a"))


def claimed(store: Store) -> list[object]:
    try:
        return list(store.run(store.claim(CHANNEL, "host:2:b", "new-token", wanted=1, repeated=True)).jobs)
    except StoreUnavailable:
        return []


@pytest.mark.long
def test_20_primary_without_replicas_takes_no_jobs(servers: SentinelSet) -> None:
    """With min-replicas-to-write a primary that was cut off acknowledges nothing that the failover would discard."""
    store = Store(servers.description, prefix="retrying:test")
    primary = servers.primary
    for replica in servers.replicas:
        replica.kill()
    wait_for(lambda: "connected_slaves:0" in str(primary.ask("INFO", "replication")).replace("': ", ":"), "alone")
    with pytest.raises(StoreUnavailable, match="NOREPLICAS"):
        store.run(store.enqueue(CHANNEL, [NewJob(id="a", payload=b"x")]))
    store.connections.close()
