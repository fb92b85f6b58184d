"""The real scripts against the model, request by request, with any earlier request sent again at any time.

Time passes by moving stored times back, so a unit of it costs nothing, and milliseconds decide nothing but the order
of what happened. After each step the whole content of the store must be what the model says.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from retrying import NotUnique
from retrying.store import Limits, Store
from retrying.store.calls import Burial, Call, Lease, NewJob, Position, Retry
from retrying.store.keys import NAMES
from retrying.store.scripts import script
from retrying.tally import NOTHING, Reading
from retrying.testing.clock import PAGE, SETS
from tests.retrying.model import ENDED, TURN, UNIT, Model, ModelJob, Times

#: Milliseconds of the server for a unit of the model: far more than an example takes.
UNIT_MS = 10_000_000
TIMES = Times(
    lease=UNIT, dedup=2 * UNIT, keep=8 * UNIT, sweep=UNIT // 2, topic=6 * UNIT, workers=86_400_000 * UNIT // UNIT_MS,
    max_rescues=2,
)  # fmt: skip
LIMITS = Limits(
    lease=UNIT_MS / 1000, dedup=2 * UNIT_MS / 1000, dead_keep=8 * UNIT_MS / 1000, sweep=UNIT_MS / 2000,
    topic_ttl=6 * UNIT_MS / 1000, max_rescues=2,
)  # fmt: skip

IDS = st.sampled_from("abcde")
TOPICS = st.sampled_from(["", "t", "u"])
WORKERS = st.sampled_from(["w1", "w2"])
HALVES = st.integers(0, 6)  # of a unit
PICK = st.integers(0, 10_000)


def ms(halves: int) -> int:
    return halves * UNIT_MS // 2


def ticks(halves: int) -> int:
    return halves * UNIT // 2


@dataclass(frozen=True)
class Request:
    """``model``: does it to the model and returns the expected answer; ``view``: what of the answer to compare."""

    name: str
    call: Call[Any]
    model: Callable[[Model], Any]
    view: Callable[[Any], Any]
    #: The lease that it shows.
    lease: tuple[str, str] | None = None
    #: The same, as the client repeats it when a reply was lost; None: exactly the same.
    repeated: Callable[[Model], Any] | None = None


class StoreMachine(RuleBasedStateMachine):
    """``url`` is set by the tests."""

    url = ""
    #: What came about in all examples: a machine that never gets there proves nothing.
    reached: ClassVar[Counter[str]] = Counter()
    _numbers = itertools.count()

    @initialize()
    def begin(self) -> None:
        self.channel = f"work{next(self._numbers)}"
        self.store = Store({"address": self.url}, prefix="retrying:model", limits=LIMITS)
        self.server = redis.Redis.from_url(self.url, decode_responses=True)
        self.keys = self.store.keys(self.channel)
        self.model = Model(TIMES)
        self.sent: list[Request] = []
        #: The one after which nothing happened yet.
        self.last: Request | None = None
        self.leases: list[tuple[str, str]] = []
        self.tokens = itertools.count(1)
        #: What a browser would have of topic "t".
        self.position = Position(0, 0)
        self.followed: list[tuple[str, str]] = []

    def teardown(self) -> None:
        if hasattr(self, "store"):
            keys = self.server.keys(f"retrying:model:{{{self.channel}}}:*")
            if keys:
                self.server.delete(*keys)
            self.server.close()
            self.store.connections.close()

    # Sending

    def ask(self, request: Request, *, repeated: bool = False) -> Any:
        """Send a request to both and compare their answers. Returns the server's."""
        self.last = request
        time.sleep(0.0011)  # the server's clock, by which the order of ends goes, counts milliseconds
        self.model.now += 1
        call, model = request.call, request.model
        if repeated and request.repeated is not None and call.repeat_args is not None:
            call, model = replace(call, args=call.repeat_args), request.repeated
        try:
            answer = self.store.run(call)
        except NotUnique:
            answer = "held"
        expected = model(self.model)
        for job in self.model.jobs.values():
            if job.waits == self.model.now + TURN:  # half a second there, which examples may take, is a turn here
                self.server.zincrby(self.keys.all[2], UNIT_MS * TURN // UNIT, job.id)
        assert request.view(answer) == expected, f"{request.name}: the store says {answer}, the model {expected}"
        return answer

    def send(
        self, name: str, call: Call[Any], model: Callable[[Model], Any], view: Callable[[Any], Any], **more: Any
    ) -> Any:
        request = Request(name, call, model, view, **more)
        self.sent.append(request)
        return self.ask(request)

    @precondition(lambda self: self.last)
    @rule()
    def reply_lost(self) -> None:
        """The client repeats what it has just sent: nothing changes. (A sweep goes on.)"""
        assert self.last is not None
        request, before = self.last, timeless(self.model)
        self.ask(request, repeated=True)
        if request.name != "sweep":
            assert timeless(self.model) == before, f"{request.name} changed something when it was repeated"

    @precondition(lambda self: self.sent)
    @rule(pick=PICK, repeated=st.booleans())
    def replay(self, pick: int, repeated: bool) -> None:
        """Any earlier request arrives again: what it does, the model says."""
        self.ask(self.sent[pick % len(self.sent)], repeated=repeated)

    @precondition(lambda self: self.stale())
    @rule(pick=PICK)
    def replay_of_an_end(self, pick: int) -> None:
        """A request arrives again that shows a lease which has ended since: nothing changes."""
        stale = self.stale()
        request, before = stale[pick % len(stale)], timeless(self.model)
        self.ask(request)
        self.reached[f"stale {request.name}"] += 1
        assert timeless(self.model) == before, f"{request.name} with a stale token changed something"

    def stale(self) -> list[Request]:
        return [request for request in self.sent if request.lease and not self.model.holds(*request.lease)]

    # Producers

    @rule(
        ids=st.lists(IDS, min_size=1, max_size=3),
        capacity=st.sampled_from([None] * 6 + [1, 3]),
        priority=st.sampled_from([0, 0, 0, -100, 7, 100]),
        delay=st.sampled_from([0] * 6 + [1, 3]),
        expires=st.sampled_from([None] * 6 + [0, 3]),
        topic=TOPICS,
        unique=st.sampled_from(["", "", "", "n", "m"]),
        hold=st.sampled_from(["", "", "started", "time"]),
    )
    def enqueue(  # noqa: PLR0917  (hypothesis passes them by name)
        self,
        ids: list[str],
        capacity: int | None,
        priority: int,
        delay: int,
        expires: int | None,
        topic: str,
        unique: str,
        hold: str,
    ) -> None:
        hold = hold if unique else ""
        jobs = [
            NewJob(
                id=id, payload=id.encode(), priority=priority, delay=ms(delay) if delay else None,
                expires=None if expires is None else ms(expires), topic=topic or None,
                unique=unique or None, unique_until_started=hold == "started",
                unique_for=ms(3) if hold == "time" else None,
            )
            for id in ids
        ]  # fmt: skip
        self.send(
            "enqueue",
            self.store.enqueue(self.channel, jobs, capacity=capacity),
            lambda model: model.enqueue(
                ids, capacity=capacity, priority=priority, delay=ticks(delay), topic=topic,
                expires=None if expires is None else ticks(expires),
                unique=unique, hold=hold, hold_for=ticks(3),
            ),
            lambda answer: [(item.new, str(item.state), item.id) for item in answer],
        )  # fmt: skip

    # Workers

    @rule(worker=WORKERS)
    def work(self, worker: str) -> None:
        """The claim that leads on: others end nothing, are limited, or want nothing."""
        self.claim(worker=worker, wanted=2, acks=[], keep=0, limit=None)

    @rule(
        worker=WORKERS,
        wanted=st.integers(0, 3),
        acks=st.lists(PICK, max_size=2),
        keep=st.sampled_from([0, 0, 1, 2]),
        limit=st.sampled_from([None, None, 1, 2]),
    )
    def claim(self, worker: str, wanted: int, acks: list[int], keep: int, limit: int | None) -> None:
        token = f"T{next(self.tokens)}"
        ends = [Lease(*self.lease(pick)) for pick in acks if self.leases]

        def model(model: Model, *, repeated: bool = False) -> Any:
            settled, given = model.claim(
                worker, token, wanted, succeeded=ends, keep=keep, limit=limit, repeated=repeated
            )
            return settled, sorted(given)

        answer = self.send(
            "claim",
            self.store.claim(self.channel, worker, token, wanted=wanted, succeeded=ends, keep=keep, limit=limit),
            model,
            lambda answer: (answer.settled, sorted((job.id, job.attempt) for job in answer.jobs)),
            repeated=lambda it: model(it, repeated=True),
        )
        for job in answer.jobs:
            assert job.payload == job.id.encode()
            assert job.age >= 0
        self.leases += [(job.id, token) for job in answer.jobs]

    def lease(self, pick: int) -> tuple[str, str]:
        """One that was given some time: half of the time one that holds, if there is any."""
        holding = self.model.lease_holders()
        some = holding if pick % 2 and holding else self.leases
        return some[pick // 2 % len(some)]

    @precondition(lambda self: self.leases)
    @rule(pick=PICK, delay=HALVES, charged=st.booleans(), deadline=st.sampled_from([None, None, 1, 4]))
    def retry(self, pick: int, delay: int, charged: bool, deadline: int | None) -> None:
        id, token = self.lease(pick)
        limit = None if deadline is None else ms(deadline)
        self.send(
            "retry",
            self.store.retry(self.channel, [Retry(Lease(id, token), ms(delay), charged, "no", 5, limit)]),
            lambda model: model.retry(
                id, token, ticks(delay), charged=charged, deadline=None if deadline is None else ticks(deadline)
            ),
            lambda answer: (answer[0][0], answer[0][1] is not None),
            lease=(id, token),
        )

    @precondition(lambda self: self.leases)
    @rule(pick=PICK, how=st.sampled_from(["bury", "discard", "release"]))
    def end(self, pick: int, how: str) -> None:
        id, token = self.lease(pick)
        lease = Lease(id, token)
        calls: dict[str, tuple[Call[Any], Callable[[Model], Any]]] = {
            "bury": (
                self.store.bury(self.channel, [Burial(lease, "gave up", "no", 5)]),
                lambda model: model.bury(id, token, "gave up"),
            ),
            "discard": (
                self.store.discard(self.channel, lease, "not wanted"),
                lambda model: model.discard(id, token, "not wanted"),
            ),
            "release": (self.store.release(self.channel, [lease]), lambda model: model.release(id, token)),
        }
        call, model = calls[how]
        self.send(how, call, model, lambda answer: answer[0], lease=lease)

    @precondition(lambda self: self.leases)
    @rule(pick=PICK)
    def renew(self, pick: int) -> None:
        lease = Lease(*self.lease(pick))
        self.send(
            "renew",
            self.store.renew(self.channel, [lease]),
            lambda model: [model.renew(*lease)],
            lambda answer: answer,
            lease=lease,
        )

    @precondition(lambda self: self.leases)
    @rule(pick=PICK, names=st.lists(st.sampled_from(["progress", "line"]), max_size=3))
    def say(self, pick: int, names: list[str]) -> None:
        lease = Lease(*self.lease(pick))
        batch = next(self.tokens)
        self.send(
            "emit",
            self.store.emit(self.channel, lease, [(name, {"fraction": 0.5}) for name in names], batch=batch),
            lambda model: model.emit(*lease, names, batch),
            bool,
            lease=lease,
        )

    @precondition(lambda self: self.model.jobs)
    @rule(worker=WORKERS, times=st.integers(1, 4))
    def vanish(self, worker: str, times: int) -> None:
        """Workers claim and vanish; another one sweeps, twice: after a pause the first sweep takes nothing."""
        for _ in range(times):
            self.work(worker)
            for _ in range(2):
                self.time_passes(2)
                self.sweep(worker, keep=1)

    @rule(worker=WORKERS, keep=st.sampled_from([0, 1, 2]))
    def sweep(self, worker: str, keep: int) -> None:
        self.send(
            "sweep",
            self.store.sweep(self.channel, worker, keep=keep),
            lambda model: model.sweep(worker, keep),
            lambda it: (
                it.promoted,
                it.purged,
                it.newer,
                [(rescue.job_id, rescue.rescues, rescue.buried) for rescue in it.rescued],
            ),
        )

    # People

    @precondition(lambda self: self.model.lease_holders())
    @rule(pick=PICK)
    def cancel_running(self, pick: int) -> None:
        holders = self.model.lease_holders()
        self.one_job(id=holders[pick % len(holders)][0], what="cancel")

    @rule(id=IDS, what=st.sampled_from(["cancel", "retry_now", "redrive", "purge"]))
    def one_job(self, id: str, what: str) -> None:
        more = ("asked to",) if what == "cancel" else ()
        self.send(
            what,
            getattr(self.store, what)(self.channel, id, *more),
            lambda model: getattr(model, what)(id, *more),
            lambda answer: answer and str(answer),
        )

    @rule(wanted=st.integers(1, 3), pace=st.one_of(st.none(), st.integers(1, 2)))
    def redrive_all(self, wanted: int, pace: int | None) -> None:
        token = f"R{next(self.tokens)}"
        self.send(
            "redrive_all",
            self.store.redrive_all(self.channel, token, wanted=wanted, pace=None if pace is None else ms(pace)),
            lambda model: model.redrive_all(token, wanted, None if pace is None else ticks(pace)),
            lambda answer: answer.done,
        )

    @rule(state=st.sampled_from(ENDED), age=HALVES)
    def purge_all(self, state: str, age: int) -> None:
        self.send(
            "purge_all",
            self.store.purge_all(self.channel, state, age=ms(age)),  # type: ignore[arg-type]
            lambda model: model.purge_all(state, ticks(age)),
            lambda answer: answer.done,
        )

    @rule(what=st.sampled_from(["pause", "resume", "resume", "resume", "leave"]), worker=WORKERS)
    def pause_resume_or_leave(self, what: str, worker: str) -> None:
        more = (worker,) if what == "leave" else ()
        call = getattr(self.store, what)(self.channel, *more)
        self.send(what, call, lambda model: getattr(model, what)(*more), bool)

    # The rest of the world

    @rule(halves=st.integers(1, 5))
    def time_passes(self, halves: int) -> None:
        self.last = None
        meta = self.keys.all[8]
        sweeps = self.server.hmget(meta, "swept", "grace")
        for name in SETS:
            first = 0
            while self._advance("advance", ms(halves), name, first, PAGE):
                first += PAGE
        jobs = [id for id in "abcde" if self.server.type(self.keys.all[0] + id) == "string"]
        words = [word for id in jobs for word in ("job", id)]
        words += ["topic", "t", "topic", "u", "unique", "n", "unique", "m"]
        self._advance("age", ms(halves), len(words) // 2, *words)
        for field, at in zip(("swept", "grace"), sweeps, strict=True):  # advance forgets them: here they count
            if at is not None:
                self.server.hset(meta, field, int(at) - ms(halves))
        self.model.pass_time(ticks(halves))

    def _advance(self, name: str, *args: Any) -> int:
        return self.store.run(Call(script(name, "retrying.testing"), self.keys.sent, (0, 0, *args), int))

    @precondition(lambda self: self.model.jobs)
    @rule(pick=PICK, release=st.sampled_from([1, 2]))
    def another_release(self, pick: int, release: int) -> None:
        """A job was stored by a newer release, or this worker is one."""
        waiting = self.model.in_state("ready") + self.model.in_state("scheduled")
        if waiting:
            self.last = None
            job = waiting[pick % len(waiting)]
            job.format = release
            self.server.hset(self.keys.all[0] + job.id, "v", release)

    @rule()
    def bell_taken(self) -> None:
        self.last = None
        assert (self.server.lpop(self.keys.bell) is not None) == self.model.bell
        self.model.bell = False

    @rule()
    def follow(self) -> None:
        """A browser reads on: it gets every event once and in order, or is told to start over."""
        read = self.store.run(self.store.read_topic(self.channel, "t", self.position, 1000))
        events = [(event.name, event.job) for event in read.events]
        log = self.model.topics.get("t", ([], 0))[0]
        self.followed = self.followed + events if read.recovered else events
        if self.position.epoch and not log:
            assert not read.recovered
        assert self.followed == log
        self.position = read.position

    # What must always hold

    @invariant()
    def the_store_is_what_the_model_says(self) -> None:
        if not hasattr(self, "model"):
            return
        real = Found(self.server, self.keys.all)
        model = self.model
        assert real.outside == []
        assert real.sets["ready"] == [job.id for job in model.ready()]
        assert real.sets["newer"] == [job.id for job in model.aside()]
        for name, state in {
            "scheduled": "scheduled",
            "leases": "running",
            "dead": "dead",
            "succeeded": "succeeded",
        }.items():
            assert real.sets[name] == [job.id for job in model.in_state(state)], name
        finished = sorted(
            model.in_state("cancelled") + model.in_state("expired"), key=lambda job: (job.finished, job.id)
        )
        assert real.sets["finished"] == [job.id for job in finished]
        grouped: dict[str, dict[str, float]] = {}
        for id in real.sets["dead"]:
            grouped.setdefault(real.jobs[id]["group"], {})[id] = real.scores["dead"][id]
        assert real.groups == grouped
        assert set(real.sets["groups"]) == grouped.keys()
        assert real.tombstones == {id: f"succeeded:{token}" for id, (token, _) in model.tombstones.items()}
        assert real.names == {name: (id, until is not None) for name, (id, until) in model.names.items()}
        assert real.sets["workers"] == sorted(model.workers, key=lambda name: (model.workers[name], name))
        counted = real.counted
        unfinished = sum(job.state not in ENDED for job in model.jobs.values())
        assert counted.enqueued + counted.redriven - counted.ended == unfinished, "what came in, less what went out"
        assert counted.started == counted.wait.count
        assert (real.bell, "paused" in real.meta) == (model.bell, model.paused)
        assert real.jobs.keys() == model.jobs.keys()
        for id, job in model.jobs.items():
            self.same_job(real, real.jobs[id], job)
            self.reached.update(
                [job.state, *(name for name in ("aside", "apart", "waits", "cancel", "rescues") if getattr(job, name))]
            )
            self.reached.update([job.reason.split(":")[0]] if job.reason else [])
        self.reached.update(
            f"a name, {self.model.jobs[id].hold or 'until it ends'}"
            for id, _ in model.names.values()
            if id in model.jobs
        )
        assert real.topics.keys() == model.topics.keys()
        for name, (log, _) in model.topics.items():
            assert [(event, job) for _, event, job in real.topics[name]] == log
            offsets = [offset for offset, _, _ in real.topics[name]]
            assert offsets == list(range(1, len(log) + 1)), f"a gap in topic {name}"

    def same_job(self, real: Found, fields: dict[str, str], job: ModelJob) -> None:
        for name in ("attempt", "failures", "snoozes", "rescues", "releases"):
            assert int(fields.get(name) or 0) == getattr(job, name), f"{job.id}: {name}"
        for name in ("state", "token", "settled", "worker", "reason", "error", "topic", "unique"):
            assert (fields.get(name) or "") == getattr(job, name), f"{job.id}: {name}"
        assert fields.get("cancel") == job.cancel
        assert fields["payload"] == job.id
        priority, arrival = job.place
        assert int(fields["order"]) == (100 + priority) * 2**44 + arrival
        times = {"created": job.created}
        if job.expires is not None:
            times["expires"] = job.expires
        if job.state == "scheduled":
            times["due"] = job.due
            if job.waits is None:
                assert real.scores["scheduled"][job.id] == float(fields["due"])
            else:
                self.same_time(real, real.scores["scheduled"][job.id], job.waits, f"{job.id}: its turn")
        if job.state in ENDED:
            times["finished"] = job.finished
        for name, at in times.items():
            self.same_time(real, float(fields[name]), at, f"{job.id}: {name}")
        if job.state == "running":
            self.same_time(real, real.scores["leases"][job.id], job.lease_until, f"{job.id}: lease")

    def same_time(self, real: Found, at: float, expected: int, what: str) -> None:
        units = (at - real.now) / UNIT_MS
        assert abs(units - (expected - self.model.now) / UNIT) < 0.01, what


class Found:
    """All that the server holds of a channel."""

    def __init__(self, server: redis.Redis, keys: tuple[str, ...]) -> None:
        job_prefix, topic_prefix = keys[0], keys[10]
        names = server.keys(f"{job_prefix.removesuffix('job:')}*")
        seconds, micros = server.time()
        self.now = seconds * 1000 + micros / 1000
        pipe = server.pipeline(transaction=False)
        zsets = [NAMES[i] for i in (1, 2, 3, 4, 5, 6, 7, 11, 17)]
        for name in zsets:
            pipe.zrange(keys[NAMES.index(name)], 0, -1, withscores=True)
        pipe.hgetall(keys[8])
        pipe.llen(keys[9])
        for name in names:
            pipe.type(name)
            pipe.pttl(name)
        found = pipe.execute()
        ranges, (self.meta, bells), rest = (
            found[: len(zsets)],
            found[len(zsets) : len(zsets) + 2],
            found[len(zsets) + 2 :],
        )
        self.sets = {name: [id for id, _ in pairs] for name, pairs in zip(zsets, ranges, strict=True)}
        self.scores = {name: dict(pairs) for name, pairs in zip(zsets, ranges, strict=True)}
        self.bell = bells == 1
        assert bells <= 1
        self.jobs: dict[str, dict[str, str]] = {}
        self.tombstones: dict[str, str] = {}
        self.topics: dict[str, list[tuple[int, str, str]]] = {}
        #: Unique name -> the job that holds it, and whether for a time.
        self.names: dict[str, tuple[str, bool]] = {}
        #: Group of dead letters -> their ids, and when each died.
        self.groups: dict[str, dict[str, float]] = {}
        #: Keys that are on no list, or should have a TTL.
        self.outside: list[str] = []
        self.counted = Reading.of(server.execute_command("GET", f"{keys[16]}total", NEVER_DECODE=True) or b"").since(
            NOTHING
        )
        for name, type_, ttl in zip(names, rest[::2], rest[1::2], strict=True):
            if type_ == "hash" and name.startswith(job_prefix) and ttl == -1:
                self.jobs[name.removeprefix(job_prefix)] = server.hgetall(name)
            elif type_ == "string" and name.startswith(job_prefix) and ttl > 0:
                self.tombstones[name.removeprefix(job_prefix)] = server.get(name)
            elif type_ == "string" and name.startswith(keys[12]):
                self.names[name.removeprefix(keys[12])] = (server.get(name), ttl > 0)
            elif type_ == "stream" and name.startswith(topic_prefix) and ttl > 0:
                self.topics[name.removeprefix(topic_prefix)] = [
                    (int(entry.split("-")[1]), fields["name"], fields["job"]) for entry, fields in server.xrange(name)
                ]
            elif type_ == "string" and name.startswith(keys[16]) and ttl > 0:
                pass
            elif type_ == "zset" and name.startswith(f"{keys[17]}:"):
                self.groups[name.removeprefix(f"{keys[17]}:")] = dict(server.zrange(name, 0, -1, withscores=True))
            elif name not in keys:
                self.outside.append(name)


def timeless(model: Model) -> dict[str, Any]:
    """The model without what every renewal, sweep and claim moves on."""
    found = model.snapshot()
    for job in found["jobs"].values():
        job.lease_until = 0
        job.waits = None
    found["workers"] = set(found["workers"])
    for name in ("now", "swept", "grace"):
        del found[name]
    return found


@pytest.fixture
def machine(redis_url: str) -> type[StoreMachine]:
    StoreMachine.url = redis_url
    return StoreMachine


#: What every run of some hundred examples comes to.
EVERYTHING = {
    "scheduled", "ready", "running", "succeeded", "dead", "cancelled", "expired",
    "aside", "apart", "waits", "cancel", "rescues", "poison", "its deadline comes before its next attempt",
    "a name, until it ends", "a name, started", "a name, time",
    "stale retry", "stale bury", "stale discard", "stale release", "stale renew", "stale emit",
}  # fmt: skip


def run(machine: type[StoreMachine], examples: int, steps: int) -> None:
    """Raises AssertionError where the scripts and the model part ways, with the steps that led there."""
    # A failure is shrunk, which takes minutes, when somebody asks for it; its steps are printed in any case.
    phases = [Phase.generate, *([Phase.shrink] if os.environ.get("MODEL_SHRINK") else [])]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, phases=phases,
            report_multiple_bugs=False, suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


def test_the_scripts_do_what_the_model_does(machine: type[StoreMachine]) -> None:
    """Every transition, in any order, with replays; ``make faults`` tries many more."""
    run(machine, examples=50, steps=30)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_scripts_do_what_the_model_does_for_long(machine: type[StoreMachine]) -> None:
    machine.reached.clear()
    run(machine, examples=int(os.environ.get("MODEL_EXAMPLES", "1000")), steps=50)
    missing = EVERYTHING - machine.reached.keys()
    assert not missing, f"the machine never came to: {missing}"
