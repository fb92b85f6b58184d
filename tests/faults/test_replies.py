"""14: the reply to a request is lost, for every script there is: the store repeats it, and it counts once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from project.development.valkey import Valkey
from retrying.job import State
from retrying.store import Store
from retrying.store.calls import Burial, Call, DueSlot, Lease, NewJob, Position, Renewed, Retry, ScheduleLook, Settled
from tests.faults.proxy import Proxy

ROOT = Path(__file__).resolve().parents[2]
CHANNEL = "work"
#: What a script's file begins with; what scripts share has no such line. Those of retrying.testing are for tests only.
SCRIPTS = sorted(
    path.stem
    for path in ROOT.glob("retrying/**/lua/*.lua")
    if "testing" not in path.parts and path.read_text().startswith("#!lua")
)


class Lossy:
    """A store of which ``run`` loses the first reply; ``store`` is the same one without the fault."""

    def __init__(self, url: str, proxy: Proxy) -> None:
        self.store = Store({"address": url}, prefix="retrying:test")
        self._behind = Store({"address": proxy.url}, prefix="retrying:test")
        self._proxy = proxy
        self._client = redis.Redis.from_url(url)
        #: Scripts whose reply was lost.
        self.lost: set[str] = set()

    def close(self) -> None:
        self._client.close()
        for store in (self.store, self._behind):
            store.connections.close()

    def run(self, call: Call[Any]) -> Any:
        """The answer to the second try of ``call``; the first one was done, and its reply cut off."""
        self._client.script_load(call.script.text)  # else the first reply would be NOSCRIPT, and nothing done
        losses = iter(["cut"])
        self._proxy.fate = lambda request: next(losses, "") if b"EVALSHA" in request else ""
        before = self._proxy.hurt
        answer = self._behind.run(call)
        assert self._proxy.hurt == before + 1, f"the reply to {call.script.name} was not lost"
        self.lost.add(call.script.name)
        return answer

    # What the cases begin with, done without a fault

    def put(self, *ids: str, **options: Any) -> None:
        self.store.run(self.store.enqueue(CHANNEL, [NewJob(id=id, payload=b"p", topic="t", **options) for id in ids]))

    def take(self, *ids: str) -> list[Lease]:
        """Enqueue these jobs and claim them."""
        self.put(*ids)
        claimed = self.store.run(self.store.claim(CHANNEL, "w", "T", wanted=len(ids))).jobs
        return [Lease(job.id, "T") for job in claimed]

    def kill(self, *ids: str) -> None:
        """Make dead letters."""
        ends = [Burial(lease, "r", "e", 5) for lease in self.take(*ids)]
        self.store.run(self.store.bury(CHANNEL, ends))

    def job(self, id: str) -> Any:
        return self.store.run(self.store.get(CHANNEL, id))

    def events(self) -> list[str]:
        return [event.name for event in self.store.run(self.store.read_topic(CHANNEL, "t", None, 100)).events]


CASES: dict[str, Callable[[Lossy], None]] = {}


def case(function: Callable[[Lossy], None]) -> Callable[[Lossy], None]:
    """The case of the script of that name."""
    CASES[function.__name__] = function
    return function


@case
def enqueue(lossy: Lossy) -> None:
    (answer,) = lossy.run(lossy.store.enqueue(CHANNEL, [NewJob(id="a", payload=b"p", topic="t")]))
    assert answer.state is State.READY
    assert lossy.store.run(lossy.store.counts(CHANNEL)).ready == 1, "one job, not two"
    assert lossy.events() == ["ready"]


@case
def claim(lossy: Lossy) -> None:
    lossy.put("a", "b")
    (job,) = lossy.run(lossy.store.claim(CHANNEL, "w", "T", wanted=1)).jobs
    assert (job.id, job.attempt) == ("a", 1), "the same lease again, not another attempt or job"
    ended = lossy.run(lossy.store.claim(CHANNEL, "w", "T2", wanted=0, succeeded=[Lease("a", "T")]))
    assert ended.settled == [Settled.REPEATED]
    assert lossy.job("a").state is State.SUCCEEDED
    assert lossy.events() == ["ready", "ready", "running", "succeeded"]


@case
def renew(lossy: Lossy) -> None:
    assert lossy.run(lossy.store.renew(CHANNEL, lossy.take("a"))) == [Renewed.PROLONGED]


@case
def retry(lossy: Lossy) -> None:
    (lease,) = lossy.take("a")
    assert lossy.run(lossy.store.retry(CHANNEL, [Retry(lease, 60_000, True, "e", 5)]))[0][0] is Settled.REPEATED
    job = lossy.job("a")
    assert (job.state, job.failures) == (State.SCHEDULED, 1), "charged once"
    assert lossy.events()[-2:] == ["running", "retrying"]


@case
def release(lossy: Lossy) -> None:
    assert lossy.run(lossy.store.release(CHANNEL, lossy.take("a"))) == [Settled.REPEATED]
    job = lossy.job("a")
    assert (job.state, job.releases) == (State.READY, 1)


@case
def bury(lossy: Lossy) -> None:
    (lease,) = lossy.take("a")
    assert lossy.run(lossy.store.bury(CHANNEL, [Burial(lease, "r", "e", 5)])) == [Settled.REPEATED]
    job = lossy.job("a")
    assert (job.state, job.failures, job.reason) == (State.DEAD, 1, "r")
    assert lossy.events()[-2:] == ["running", "dead"]


@case
def discard(lossy: Lossy) -> None:
    (lease,) = lossy.take("a")
    assert lossy.run(lossy.store.discard(CHANNEL, lease, "why")) == [Settled.REPEATED]
    assert lossy.job("a").state is State.CANCELLED
    assert lossy.events()[-2:] == ["running", "cancelled"]


@case
def emit(lossy: Lossy) -> None:
    (lease,) = lossy.take("a")
    assert lossy.run(lossy.store.emit(CHANNEL, lease, [("progress", {"fraction": 0.5})], batch=1)) is True
    assert lossy.events() == ["ready", "running", "progress"], "said once"


@case
def sweep(lossy: Lossy) -> None:
    lossy.put("due", delay=1)
    lossy.take("kept")
    swept = lossy.run(lossy.store.sweep(CHANNEL, "w"))
    assert (swept.rescued, swept.purged) == ([], 0)
    assert lossy.job("kept").rescues == 0
    assert [worker.id for worker in lossy.store.run(lossy.store.workers(CHANNEL))] == ["w"]


@case
def leave(lossy: Lossy) -> None:
    lossy.store.run(lossy.store.sweep(CHANNEL, "w"))
    assert lossy.run(lossy.store.leave(CHANNEL, "w")) == 0, "it was no longer listed"
    assert lossy.store.run(lossy.store.workers(CHANNEL)) == []


@case
def cancel(lossy: Lossy) -> None:
    lossy.put("a", delay=60_000)
    assert lossy.run(lossy.store.cancel(CHANNEL, "a", "why")) is State.CANCELLED
    assert lossy.job("a").reason == "why"
    assert lossy.events() == ["scheduled", "cancelled"]
    lossy.take("b")
    assert lossy.run(lossy.store.cancel(CHANNEL, "b", "why")) is State.RUNNING
    assert lossy.job("b").cancel_requested


@case
def retry_now(lossy: Lossy) -> None:
    lossy.put("a", delay=60_000)
    assert lossy.run(lossy.store.retry_now(CHANNEL, "a")) is State.READY
    assert lossy.events() == ["scheduled", "ready"]


@case
def redrive(lossy: Lossy) -> None:
    lossy.kill("a")
    assert lossy.run(lossy.store.redrive(CHANNEL, "a")) is State.READY
    assert lossy.events()[-2:] == ["dead", "ready"]


@case
def redrive_all(lossy: Lossy) -> None:
    lossy.kill("a", "b", "c")
    assert lossy.run(lossy.store.redrive_all(CHANNEL, "batch", wanted=2)).done == 2
    counts = lossy.store.run(lossy.store.counts(CHANNEL))
    assert (counts.ready, counts.dead) == (2, 1), "the third one is for the next batch"


@case
def purge(lossy: Lossy) -> None:
    lossy.kill("a")
    assert lossy.run(lossy.store.purge(CHANNEL, "a")) is None
    assert lossy.job("a") is None
    lossy.put("b")
    assert lossy.run(lossy.store.purge(CHANNEL, "b")) is State.READY, "what is alive is kept"


@case
def purge_all(lossy: Lossy) -> None:
    lossy.kill("a", "b")
    lossy.put("c")
    purged = lossy.run(lossy.store.purge_all(CHANNEL, State.DEAD, age=0))
    assert purged.skip == -1
    counts = lossy.store.run(lossy.store.counts(CHANNEL))
    assert (counts.ready, counts.dead) == (1, 0)


@case
def pause(lossy: Lossy) -> None:
    assert lossy.run(lossy.store.pause(CHANNEL)) is False, "it was paused already"
    assert lossy.store.run(lossy.store.paused(CHANNEL)) is not None


@case
def resume(lossy: Lossy) -> None:
    lossy.store.run(lossy.store.pause(CHANNEL))
    assert lossy.run(lossy.store.resume(CHANNEL)) is False, "it was no longer paused"
    assert lossy.store.run(lossy.store.paused(CHANNEL)) is None


@case
def slot(lossy: Lossy) -> None:
    look = ScheduleLook("hourly", "0 * * * *", [DueSlot(1, None, NewJob(id="hourly-1", payload=b"p"))])
    (answer,) = lossy.run(lossy.store.slots(CHANNEL, [look])).schedules
    assert (answer.mark, answer.made) == (1, 0), "it was made by the first try"
    assert lossy.store.run(lossy.store.counts(CHANNEL)).ready == 1, "one job, not two"


@case
def pause_schedule(lossy: Lossy) -> None:
    assert lossy.run(lossy.store.pause_schedule(CHANNEL, "hourly")) is False, "it was paused already"
    assert lossy.store.run(lossy.store.schedule(CHANNEL, "hourly")).paused is not None


@case
def resume_schedule(lossy: Lossy) -> None:
    lossy.store.run(lossy.store.pause_schedule(CHANNEL, "hourly"))
    assert lossy.run(lossy.store.resume_schedule(CHANNEL, "hourly")) is False, "it was no longer paused"
    assert lossy.store.run(lossy.store.schedule(CHANNEL, "hourly")).paused is None


# What only reads


@case
def schedule(lossy: Lossy) -> None:
    lossy.store.run(lossy.store.pause_schedule(CHANNEL, "hourly"))
    assert lossy.run(lossy.store.schedule(CHANNEL, "hourly")).paused is not None


@case
def paused(lossy: Lossy) -> None:
    lossy.store.run(lossy.store.pause(CHANNEL))
    assert lossy.run(lossy.store.paused(CHANNEL)) >= 0


@case
def get(lossy: Lossy) -> None:
    lossy.put("a")
    assert lossy.run(lossy.store.get(CHANNEL, "a")).state is State.READY


@case
def whole(lossy: Lossy) -> None:
    lossy.put("a")
    assert lossy.run(lossy.store.whole(CHANNEL, "a"))["payload"] == b"p"


@case
def search(lossy: Lossy) -> None:
    lossy.put("a", "b")
    assert [job.id for job in lossy.run(lossy.store.search(CHANNEL, State.READY, 10)).jobs] == ["b", "a"]


@case
def groups(lossy: Lossy) -> None:
    lossy.kill("a", "b")
    (group,) = lossy.run(lossy.store.groups(CHANNEL, skip=0, limit=10)).groups
    assert group.count == 2


@case
def inspect(lossy: Lossy) -> None:
    lossy.put("a")
    assert lossy.run(lossy.store.inspect(CHANNEL, "a")).fields["payload"] == b"p"


@case
def counts(lossy: Lossy) -> None:
    lossy.put("a", "b")
    assert lossy.run(lossy.store.counts(CHANNEL)).ready == 2


@case
def workers(lossy: Lossy) -> None:
    lossy.store.run(lossy.store.sweep(CHANNEL, "w"))
    assert [worker.id for worker in lossy.run(lossy.store.workers(CHANNEL))] == ["w"]


@case
def steer(lossy: Lossy) -> None:
    lossy.store.run(lossy.store.sweep(CHANNEL, "w"))
    assert lossy.run(lossy.store.steer(CHANNEL, "w", "quiet"))
    (worker,) = lossy.store.run(lossy.store.workers(CHANNEL))
    assert worker.quiet


@case
def stats(lossy: Lossy) -> None:
    lossy.put("a", "b")
    assert lossy.run(lossy.store.stats(CHANNEL)).counts.ready == 2


@case
def alerts(lossy: Lossy) -> None:
    lossy.store.run(lossy.store.alarm("T", ["oldest work"]))
    assert list(lossy.run(lossy.store.alerts())) == ["oldest work"]


@case
def turn(lossy: Lossy) -> None:
    assert lossy.run(lossy.store.turn("one", 60)), "it has it, although the reply was lost"
    assert not lossy.store.run(lossy.store.turn("other", 60))


@case
def alarm(lossy: Lossy) -> None:
    assert lossy.run(lossy.store.alarm("T", ["oldest work"])) == (["oldest work"], []), (
        "new, although it is known by now"
    )
    assert list(lossy.store.run(lossy.store.alerts())) == ["oldest work"]


@case
def remember(lossy: Lossy) -> None:
    lossy.run(lossy.store.remember("other"))
    assert lossy.store.run(lossy.store.channels()) == ["other"]


@case
def channels(lossy: Lossy) -> None:
    lossy.put("a")
    assert lossy.run(lossy.store.channels()) == [CHANNEL]


@case
def ends(lossy: Lossy) -> None:
    lossy.put("a")
    found, none = lossy.run(lossy.store.ends(CHANNEL, ["t", "other"]))
    assert (found.offset, none) == (1, Position(0, 0))


@case
def topic(lossy: Lossy) -> None:
    lossy.put("a")
    assert [event.name for event in lossy.run(lossy.store.read_topic(CHANNEL, "t", None, 9)).events] == ["ready"]


@pytest.fixture
def lossy(valkey: Valkey) -> Iterator[Lossy]:
    with Proxy(valkey.port) as proxy:
        found = Lossy(valkey.url, proxy)
        yield found
        found.close()


@pytest.mark.parametrize("script", SCRIPTS)
def test_14_reply_lost(lossy: Lossy, script: str) -> None:
    assert script in CASES, (
        f"{script}.lua has no case here: add a function `{script}` with @case to tests/faults/test_replies.py that "
        f"runs it through lossy.run() and asserts that, its first reply lost, it counted once"
    )
    CASES[script](lossy)
    assert script in lossy.lost, f"the case of {script} did not run it through lossy.run()"


def test_14_every_case_is_of_a_script() -> None:
    assert CASES.keys() <= set(SCRIPTS)
