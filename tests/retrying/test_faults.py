"""Processes that are killed, frozen, told to stop; servers that vanish; replies that get lost."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import redis
from channels.layers import channel_layers

from project.development.valkey import Valkey, free_port
from retrying import Job, RetryPolicy, State, StoreUnavailable, enqueue, jobs
from retrying.layers import get_layer
from retrying.store import Limits, Store
from retrying.store.calls import Lease, NewJob, Retry
from tests.conftest import Effects, wait_for
from tests.processes import RunWorker

CHANNEL = "work"
LEASE, SWEEP = 1.0, 0.3


class Site:
    """Starts workers of the faulty project, and reads what their handlers did."""

    def __init__(self, redis_url: str, effects: Effects, folder: Path) -> None:
        self.effects = effects
        self.folder = folder
        self.env = {"REDIS_URL": redis_url, "EFFECTS": str(effects.path)}
        self.gate = folder / "gate"

    def worker(self, name: str, *args: str, channel: str = CHANNEL, **env: str) -> RunWorker:
        log = self.folder / f"{name}.log"
        return RunWorker("tests.retrying.faulty.settings", channel, *args, log=log, env={**self.env, **env})

    def send(self, type_: str, job_id: str, channel: str = CHANNEL, **fields: Any) -> Job:
        return enqueue(channel, {"type": type_, "until": str(self.gate), **fields}, job_id=job_id, topic="t")

    def did(self, word: str) -> list[tuple[str, int, int]]:
        """(job, attempt, pid) of each effect with that word."""
        found = [line.split() for line in self.effects.lines()]
        return [(job, int(attempt), int(pid)) for job, attempt, pid, said in found if said == word]


@pytest.fixture
def site(redis_url: str, effects: Effects, tmp_path: Path) -> Site:
    return Site(redis_url, effects, tmp_path)


def state(job_id: str, channel: str = CHANNEL) -> State | None:
    job = jobs.get(channel, job_id)
    return None if job is None else job.state


def log_of(topic: str = "t") -> list[str]:
    store = get_layer().store
    return [event.name for event in store.run(store.read_topic(CHANNEL, topic, None, 1000)).events]


# Workers that vanish


@pytest.mark.alone
def test_killed_in_a_handler_is_rescued_in_time(site: Site) -> None:
    site.send("work.wait", "a")
    with site.worker("first") as first, site.worker("second", "--concurrency", "2") as second:
        first.ready()
        wait_for(lambda: len(site.did("start")) == 1, "a handler runs")
        (_, _, pid) = site.did("start")[0]
        second.ready()
        victim = first if pid == first.pid else second
        victim.kill()
        killed = time.monotonic()
        wait_for(lambda: len(site.did("start")) == 2, "the other worker runs it")
        took = time.monotonic() - killed
        site.gate.touch()
        wait_for(lambda: state("a") is State.SUCCEEDED, "done")
        survivor = second if victim is first else first
        assert "rescued job=a channel=work" in survivor.text()
    assert took < LEASE + SWEEP + 1
    assert [attempt for _, attempt, _ in site.did("start")] == [1, 2]
    names = log_of()
    assert names.count("rescued") == 1
    assert not {"retrying", "released"} & set(names), "a rescue is no failed attempt"


def test_frozen_worker_wakes_up_too_late(site: Site) -> None:
    """SIGSTOP for three leases: another worker finishes the job; what the first one still says is refused."""
    site.send("work.block", "a")
    with site.worker("frozen") as frozen:
        frozen.ready()
        wait_for(lambda: site.did("start"), "the handler runs")
        frozen.signal(signal.SIGSTOP)
        stopped = time.monotonic()
        with site.worker("other") as other:
            wait_for(lambda: len(site.did("start")) == 2, "another worker runs the job")
            site.gate.touch()
            wait_for(lambda: state("a") is State.SUCCEEDED, "it is done")
            wait_for(lambda: time.monotonic() - stopped > 3 * LEASE, "three leases are over")
            told = log_of()
            frozen.signal(signal.SIGCONT)
            wait_for(lambda: len(site.did("done")) == 2, "the late handler ends as well")
            wait_for(lambda: "refused" in frozen.text() or "lease lost" in frozen.text(), "and is told")
            site.send("work.do", "b")
            wait_for(lambda: state("b") is State.SUCCEEDED, "both workers go on")
        assert {(job, attempt) for job, attempt, _ in site.did("done")} == {("a", 1), ("a", 2), ("b", 1)}
        assert log_of()[: len(told)] == told
        assert log_of().count("succeeded") == 2, "one for each job"
        assert other.process.returncode is not None


def test_poison_ends_dead_and_harms_no_other(site: Site) -> None:
    site.send("work.abort", "poison")
    for n in range(5):
        site.send("work.do", f"{n}")
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(site.worker(f"{n}")) for n in range(5)]
        wait_for(lambda: state("poison") is State.DEAD, "the poisonous job is a dead letter", timeout=40)
        wait_for(lambda: all(state(f"{n}") is State.SUCCEEDED for n in range(5)), "the others are done")
        assert sum(worker.process.poll() is None for worker in workers) == 1
    job = jobs.get(CHANNEL, "poison")
    assert job is not None
    assert (job.rescues, job.failures, job.attempt) == (4, 0, 4)
    assert job.reason.startswith("poison: its worker vanished")
    assert sorted(attempt for _, attempt, _ in site.did("start")) == [1, 2, 3, 4]


def test_two_workers_share_a_channel_without_doubles(site: Site) -> None:
    with site.worker("a", "--concurrency", "4") as first, site.worker("b", "--concurrency", "4") as second:
        first.ready()
        second.ready()
        for n in range(200):
            site.send("work.do", f"{n}", seconds=0.005)
        wait_for(lambda: len(site.did("done")) >= 200, "all are done")
        wait_for(lambda: jobs.counts(CHANNEL).running == 0, "and settled")
    done = site.did("done")
    assert sorted(int(job) for job, _, _ in done) == list(range(200))
    assert len({pid for _, _, pid in done}) == 2, "both worked"


# Stopping


@pytest.mark.parametrize("channel", ["work", "sync-work"])
def test_sigterm_waits_for_running_jobs(site: Site, channel: str) -> None:
    site.send("work.wait", "a", channel)
    site.send("work.wait", "b", channel)
    with site.worker("w", channel=channel) as worker:
        worker.ready()
        wait_for(lambda: site.did("start"), "the handler runs")
        worker.signal(signal.SIGTERM)
        wait_for(lambda: "stops: no new jobs" in worker.text(), "it was told")
        site.gate.touch()
        assert worker.ended() == 0
    assert (state("a", channel), state("b", channel)) == (State.SUCCEEDED, State.READY)
    assert len(site.did("start")) == 1, "no new job was taken"


@pytest.mark.parametrize("channel", ["work", "sync-work"])
def test_sigterm_gives_back_uncharged_what_does_not_end(site: Site, channel: str) -> None:
    site.send("work.wait", "a", channel)
    with site.worker("w", "--shutdown-timeout", "0.3", channel=channel) as worker:
        worker.ready()
        wait_for(lambda: site.did("start"), "the handler runs")
        worker.signal(signal.SIGTERM)
        assert worker.ended(10) == 0, "a sync handler's thread does not hold the process"
    job = jobs.get(channel, "a")
    assert job is not None
    assert (job.state, job.releases, job.failures, job.rescues) == (State.READY, 1, 0, 0)
    assert site.did("done") == []


def test_second_sigterm_gives_back_at_once(site: Site) -> None:
    site.send("work.wait", "a")
    with site.worker("w", "--shutdown-timeout", "60") as worker:
        worker.ready()
        wait_for(lambda: site.did("start"), "the handler runs")
        worker.signal(signal.SIGTERM)
        wait_for(lambda: "stops: no new jobs" in worker.text(), "it was told")
        worker.signal(signal.SIGTERM)
        assert worker.ended(10) == 1
    job = jobs.get(CHANNEL, "a")
    assert job is not None
    assert (job.state, job.releases, job.failures) == (State.READY, 1, 0)


def test_hard_timeout_ends_the_process_and_gives_the_others_back(site: Site) -> None:
    """A sync handler that hangs past its timeout can't be cancelled: the process goes, and says so by its status."""
    hanging = {"type": "work.wait", "until": str(site.folder / "never")}
    enqueue("sync-work", hanging, job_id="hangs", policy=RetryPolicy(timeout=0.2))
    enqueue("sync-work", hanging, job_id="other", policy=RetryPolicy(timeout=3600))
    with site.worker("w", "--concurrency", "2", channel="sync-work", HARD_TIMEOUT_SECONDS="1.5") as worker:
        assert worker.ended() == 70
        assert "past the hard timeout" in worker.text()
    other, hangs = jobs.get("sync-work", "other"), jobs.get("sync-work", "hangs")
    assert other is not None
    assert hangs is not None
    assert (other.state, other.releases, other.failures) == (State.READY, 1, 0)
    assert hangs.state is State.RUNNING, "its lease ends by itself: it counts as a rescue"


# Servers that vanish


def use(valkey_url: str, settings: Any) -> None:
    """This process sends to another server."""
    default = settings.CHANNEL_LAYERS["default"]
    settings.CHANNEL_LAYERS = {"default": {**default, "CONFIG": {"hosts": [valkey_url]}}}
    channel_layers.backends.clear()


def test_server_killed_and_restarted_under_load(site: Site, tmp_path: Path, settings: Any) -> None:
    total, stop = 300, threading.Event()
    with Valkey(tmp_path / "valkey", appendonly=True) as valkey:
        use(valkey.url, settings)
        site.env["REDIS_URL"] = valkey.url
        with redis.Redis.from_url(valkey.url) as client:
            client.config_set("appendfsync", "always")  # else it answers before it writes while a disk is slow

        def send_all() -> None:
            for n in range(total):
                while not stop.is_set():
                    try:
                        site.send("work.do", f"{n}", seconds=0.005)
                    except StoreUnavailable:
                        continue  # the same id again: it stays one job
                    break
                time.sleep(0.005)

        sender = threading.Thread(target=send_all)
        with site.worker("w", "--concurrency", "5") as worker:
            worker.ready()
            sender.start()
            try:
                wait_for(lambda: len(site.did("done")) > 50, "it is under way")
                valkey.kill()
                valkey.start()
                done = {str(n) for n in range(total)}
                wait_for(lambda: {job for job, _, _ in site.did("done")} == done, "nothing is lost", timeout=40)
                assert worker.process.poll() is None
                wait_for(lambda: jobs.counts(CHANNEL).running == 0, "all is settled")
                counts = jobs.counts(CHANNEL)
                assert (counts.ready, counts.scheduled, counts.dead) == (0, 0, 0)
            finally:
                stop.set()
                sender.join()
        channel_layers["default"].store.connections.close()


def test_worker_started_before_its_server(site: Site, tmp_path: Path, settings: Any) -> None:
    valkey = Valkey(tmp_path / "valkey", free_port())
    use(valkey.url, settings)
    site.env["REDIS_URL"] = valkey.url
    with site.worker("w") as worker:
        wait_for(lambda: "the job store does not answer" in worker.text(), "it says what is wrong")
        with valkey:
            site.send("work.do", "a")
            wait_for(lambda: state("a") is State.SUCCEEDED, "it works as soon as the server is there")
            assert worker.text().count("does not answer") < 10, "said once, not for every try"
            assert "answers again" in worker.text()
            channel_layers["default"].store.connections.close()


# Replies that get lost


class Proxy:
    """Between client and server, in a thread: forwards all; when armed it cuts the line instead of replying."""

    def __init__(self, url: str) -> None:
        self.upstream = int(re.findall(r":(\d+)/", url)[0])
        self.armed = 0
        self.cuts = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        self._server = server
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _end(self) -> None:
        self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        script = False

        async def requests() -> None:
            nonlocal script
            while data := await reader.read(2**16):
                script = b"EVAL" in data
                up_writer.write(data)

        async def replies() -> None:
            while data := await up_reader.read(2**16):
                if self.armed and script:
                    self.armed -= 1
                    self.cuts += 1
                    return  # the request was carried out; its sender will never know
                writer.write(data)

        tasks = [asyncio.create_task(requests()), asyncio.create_task(replies())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for end in (writer, up_writer):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()


@pytest.fixture
def cut(redis_url: str) -> Iterator[tuple[Proxy, Store]]:
    """A proxy, and the store behind it; every script is known to the server already."""
    limits = Limits(lease=60, sweep=3600)
    with Proxy(redis_url) as proxy:
        store = Store({"address": proxy.url}, prefix="retrying:test", limits=limits)
        store.run(store.counts(CHANNEL))
        yield proxy, store
        store.connections.close()


@pytest.mark.parametrize("times", [1, 2])
def test_lost_reply_of_enqueue_makes_one_job(cut: tuple[Proxy, Store], times: int) -> None:
    proxy, store = cut
    store.run(store.enqueue(CHANNEL, [NewJob(id="warm", payload=b"")]))
    proxy.armed = times
    (stored,) = store.run(store.enqueue(CHANNEL, [NewJob(id="a", payload=b"")]))
    assert proxy.cuts == times
    assert not stored.new, "the repeat found it"
    assert store.run(store.counts(CHANNEL)).ready == 2


async def test_lost_replies_async(cut: tuple[Proxy, Store]) -> None:
    proxy, store = cut
    await store.arun(store.enqueue(CHANNEL, [NewJob(id=id, payload=b"") for id in "abc"]))
    await store.arun(store.claim(CHANNEL, "w", "warm", wanted=0))
    proxy.armed = 1
    claim = await store.arun(store.claim(CHANNEL, "w", "T", wanted=2))
    assert [job.id for job in claim.jobs] == ["a", "b"], "the very jobs of the reply that was lost"
    assert [job.attempt for job in claim.jobs] == [1, 1]
    await store.arun(store.retry(CHANNEL, []))
    proxy.armed = 1
    ((status, _),) = await store.arun(store.retry(CHANNEL, [Retry(Lease("a", "T"), 60_000, True, "no", 5)]))
    assert status == 0
    proxy.armed = 1
    acked = await store.arun(store.claim(CHANNEL, "w", "T2", wanted=1, succeeded=[Lease("b", "T")]))
    assert acked.settled == [0]
    assert [job.id for job in acked.jobs] == ["c"]
    assert proxy.cuts == 3
    job = await store.arun(store.get(CHANNEL, "a"))
    assert job is not None
    assert (job.state, job.failures) == (State.SCHEDULED, 1), "charged once"
    await store.connections.aclose()


def test_server_that_never_answers_is_said_to_be_unavailable(cut: tuple[Proxy, Store]) -> None:
    proxy, store = cut
    store.run(store.enqueue(CHANNEL, [NewJob(id="warm", payload=b"")]))
    proxy.armed = 99
    with pytest.raises(StoreUnavailable, match="did not answer"):
        store.run(store.enqueue(CHANNEL, [NewJob(id="a", payload=b"")]))
    proxy.armed = 0
    assert not store.run(store.enqueue(CHANNEL, [NewJob(id="a", payload=b"")]))[0].new, "and yet it was stored"
