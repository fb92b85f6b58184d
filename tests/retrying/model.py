"""What the scripts of the store should do, in plain Python: no server, no clock, no serialization.

One method a request; each returns what the store answers. Time is ``now``, a whole number that rises by one with each
request and by halves of UNIT when time passes; nothing happens by itself. To extend it: a field in ``ModelJob``, what
the requests do to it, and the place in the store where ``test_model.py`` finds it again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Ticks of a unit of time; a request takes one tick, so none of what units decide hangs on it.
UNIT = 1_000_000
DONE, REPEATED, LOST = 1, 0, -1
ENDED = ("dead", "cancelled", "expired", "succeeded")
#: Format of a job's hash; higher ones are left for newer workers.
FORMAT = 1
#: How long a suspect waits that found another one at work.
TURN = UNIT // 4


@dataclass
class ModelJob:
    """A job while its hash exists. ``place``: its order among ready ones, smaller first."""

    id: str
    place: tuple[int, int]
    created: int
    state: str = "ready"
    format: int = FORMAT
    due: int = 0
    expires: int | None = None
    topic: str = ""
    attempt: int = 0
    failures: int = 0
    snoozes: int = 0
    rescues: int = 0
    releases: int = 0
    token: str = ""
    settled: str = ""
    lease_until: int = 0
    worker: str = ""
    cancel: str | None = None
    finished: int = 0
    reason: str = ""
    error: str = ""
    #: Put aside for a newer worker.
    aside: bool = False
    #: Rescued so often that it runs apart from others like it, and, while it waits for its turn, until when.
    apart: bool = False
    waits: int | None = None
    #: Its last batch of events: token and number.
    said: tuple[str, int] | None = None
    #: Its unique name, and when that is free: "" at its end, "started" or "time".
    unique: str = ""
    hold: str = ""


@dataclass(frozen=True)
class Times:
    """The store's limits, in ticks."""

    lease: int
    dedup: int
    keep: int
    sweep: int
    topic: int
    workers: int
    max_rescues: int


@dataclass
class Model:
    times: Times
    now: int = 0
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    #: id -> token of the success, end of its memory
    tombstones: dict[str, tuple[str, int]] = field(default_factory=dict)
    #: topic -> events (name, job) and when the log is forgotten
    topics: dict[str, tuple[list[tuple[str, str]], int]] = field(default_factory=dict)
    workers: dict[str, int] = field(default_factory=dict)
    arrivals: int = 0
    paused: bool = False
    bell: bool = False
    swept: int | None = None
    grace: int = 0
    redriven: tuple[str, Any] | None = None
    suspect: str = ""
    #: unique name -> id of the job that holds it, and until when; None: as long as that job does
    names: dict[str, tuple[str, int | None]] = field(default_factory=dict)

    # Looking

    def snapshot(self) -> dict[str, Any]:
        """All that a request could change."""
        return copy.deepcopy({name: value for name, value in vars(self).items() if name != "times"})

    def in_state(self, state: str) -> list[ModelJob]:
        """Jobs of a state, in the order of its sorted set."""
        keys = {
            "ready": lambda job: job.place,
            "scheduled": lambda job: (job.due if job.waits is None else job.waits, job.id),
            "running": lambda job: (job.lease_until, job.id),
        }
        key = keys.get(state, lambda job: (job.finished, job.id))
        return sorted((job for job in self.jobs.values() if job.state == state), key=key)

    def ready(self) -> list[ModelJob]:
        """Those that a claim may take."""
        return [job for job in self.in_state("ready") if not job.aside]

    def aside(self) -> list[ModelJob]:
        return [job for job in self.in_state("ready") if job.aside]

    def holds(self, id: str, token: str) -> bool:
        """Whether this token is the job's valid lease."""
        return id in self.jobs and self.jobs[id].token == token

    def lease_holders(self) -> list[tuple[str, str]]:
        return [(job.id, job.token) for job in self.jobs.values() if job.token]

    # Time

    def pass_time(self, ticks: int) -> None:
        self.now += ticks
        self.tombstones = {id: (token, end) for id, (token, end) in self.tombstones.items() if end > self.now}
        self.topics = {name: (log, end) for name, (log, end) in self.topics.items() if end > self.now}
        self.names = {name: (id, end) for name, (id, end) in self.names.items() if end is None or end > self.now}

    # Steps that requests share

    def _emit(self, job: ModelJob, name: str) -> None:
        if job.topic:
            log = self.topics.get(job.topic, ([], 0))[0]
            self.topics[job.topic] = ([*log, (name, job.id)], self.now + self.times.topic)

    def _fence(self, id: str, token: str) -> int:
        if id in self.tombstones:
            return REPEATED if self.tombstones[id][0] == token else LOST
        job = self.jobs.get(id)
        if job is None:
            return LOST
        if job.token == token:
            return DONE
        return REPEATED if job.settled == token else LOST

    def _unlease(self, job: ModelJob) -> None:
        job.token, job.settled = "", job.token

    def _ready(self, job: ModelJob) -> None:
        job.state = "ready"
        self._emit(job, "ready")

    def _schedule(self, job: ModelJob, due: int) -> None:
        job.state, job.due, job.waits = "scheduled", due, None

    def _end(self, job: ModelJob, state: str, reason: str) -> None:
        job.state, job.finished, job.reason = state, self.now, reason
        job.aside = False
        self._ended(job)
        self._emit(job, state)

    def _promote(self) -> int:
        due = [job for job in self.in_state("scheduled") if (job.due if job.waits is None else job.waits) <= self.now]
        promoted = 0
        for job in due:
            if job.apart and not self._has_turn(job):
                job.waits = self.now + TURN
            else:
                self._ready(job)
                promoted += 1
        return promoted

    def _has_turn(self, job: ModelJob) -> bool:
        other = self.jobs.get(self.suspect)
        if other and other is not job and (other.state == "running" or (other.state == "ready" and not other.aside)):
            return False
        self.suspect = job.id
        return True

    def _forget(self, job: ModelJob) -> None:
        self._let_go(job)
        del self.jobs[job.id]

    # Unique names

    def _holder(self, name: str) -> str | None:
        id, until = self.names.get(name, (None, None))
        if id is None or (until is None and (id not in self.jobs or self.jobs[id].state in ENDED)):
            return None
        return id

    def _let_go(self, job: ModelJob) -> None:
        if job.unique and self.names.get(job.unique, ("", None))[0] == job.id:
            del self.names[job.unique]

    def _ended(self, job: ModelJob) -> None:
        if job.hold != "time":
            self._let_go(job)

    def _retake(self, job: ModelJob) -> bool:
        """Whether a dead letter may come back: it has its name again, or needs none."""
        if job.unique and job.hold != "time":
            if self._holder(job.unique) not in (None, job.id):
                return False
            self.names[job.unique] = (job.id, None)
        return True

    # Producers

    def enqueue(
        self,
        ids: Sequence[str],
        *,
        capacity: int | None = None,
        priority: int = 0,
        delay: int = 0,
        expires: int | None = None,
        topic: str = "",
        unique: str = "",
        hold: str = "",
        hold_for: int = 0,
    ) -> list[tuple[bool, str, str]]:
        """(new, state, id of the job that there is now) of each; nothing when over capacity."""
        if capacity is not None:
            fresh = sum(self._find(id, unique) is None for id in ids)
            waiting = len(self.ready()) + len(self.in_state("scheduled"))
            if fresh and waiting + fresh > capacity:
                return []
        found = []
        for id in ids:
            known = self._find(id, unique)
            state = (
                ""
                if known
                else self._create(
                    id, priority=priority, delay=delay, expires=expires, topic=topic, unique=unique, hold=hold
                )
            )
            found.append(known or (True, state, id))
            if known is None and unique:
                self.names[unique] = (id, self.now + hold_for if hold == "time" else None)
        return found

    def _find(self, id: str, unique: str) -> tuple[bool, str, str] | None:
        """What is told of a job that is known already, by its id or by its unique name."""
        if id in self.tombstones:
            return False, "succeeded", id
        if job := self._known(id):
            return False, job.state, id
        first = self._holder(unique) if unique else None
        if first is None or first == id:
            return None
        return self._find(first, "") or (False, "succeeded", first)

    def _known(self, id: str) -> ModelJob | None:
        """None too when it ended so long ago that its id is free."""
        job = self.jobs.get(id)
        if job and job.state in ("cancelled", "expired") and job.finished < self.now - self.times.dedup:
            return None
        return job

    def _create(
        self, id: str, *, priority: int, delay: int, expires: int | None, topic: str, unique: str, hold: str
    ) -> str:
        if id in self.jobs:  # it ended so long ago that its id is free
            self._forget(self.jobs[id])
        self.arrivals += 1
        job = self.jobs[id] = ModelJob(
            id, (-priority, self.arrivals), self.now, topic=topic, unique=unique, hold=hold,
            expires=None if expires is None else self.now + expires,
        )  # fmt: skip
        if delay > 0:
            self._schedule(job, self.now + delay)
            self._emit(job, "scheduled")
        else:
            self._ready(job)
            self.bell = True
        return job.state

    # Workers

    def claim(
        self,
        worker: str,
        token: str,
        wanted: int,
        *,
        succeeded: Iterable[tuple[str, str]] = (),
        keep: int = 0,
        limit: int | None = None,
        repeated: bool = False,
    ) -> tuple[list[int], list[tuple[str, int]]]:
        """What became of the successes, and (id, attempt) of the jobs leased."""
        settled = [self._succeed(id, held, keep) for id, held in succeeded]
        given = []
        if repeated:
            for job in self.in_state("running"):
                if job.token == token:
                    job.lease_until = self.now + self.times.lease
                    given.append((job.id, job.attempt))
            wanted -= len(given)
        self._promote()
        if limit is not None:
            wanted = max(0, min(wanted, limit - len(self.in_state("running"))))
        taken = [] if self.paused else self._take(worker, token, wanted)
        given += taken
        full = limit is not None and len(self.in_state("running")) >= limit
        if len(taken) >= wanted and self.ready() and not full:
            self.bell = True
        return settled, given

    def _take(self, worker: str, token: str, wanted: int) -> list[tuple[str, int]]:
        taken: list[tuple[str, int]] = []
        for job in self.ready():
            if len(taken) >= wanted:
                break
            if job.format > FORMAT:
                job.aside = True
            elif job.expires is not None and not job.attempt and job.expires <= self.now:
                self._end(job, "expired", "expired before its first attempt")
            else:
                job.attempt += 1
                job.state, job.token, job.worker = "running", token, worker
                if job.hold == "started":
                    self._let_go(job)
                job.lease_until = self.now + self.times.lease
                self._emit(job, "running")
                taken.append((job.id, job.attempt))
        return taken

    def _succeed(self, id: str, token: str, keep: int) -> int:
        status = self._fence(id, token)
        if status == DONE:
            job = self.jobs[id]
            self._unlease(job)
            self._emit(job, "succeeded")
            self._ended(job)
            if keep:
                job.state, job.finished = "succeeded", self.now
            else:
                del self.jobs[id]
                self.tombstones[id] = (token, self.now + self.times.dedup)
        return status

    def retry(self, id: str, token: str, delay: int, *, charged: bool, deadline: int | None) -> tuple[int, bool]:
        """Status, and whether it was scheduled."""
        status = self._fence(id, token)
        if status != DONE:
            return status, False
        job = self.jobs[id]
        self._unlease(job)
        job.error = "no"
        if charged:
            job.failures += 1
        else:
            job.snoozes += 1
        if job.cancel is not None:
            self._end(job, "cancelled", job.cancel)
        elif deadline is not None and self.now + delay > job.created + deadline:
            self._end(job, "dead", "its deadline comes before its next attempt")
        else:
            self._schedule(job, self.now + delay)
            self._emit(job, "retrying" if charged else "snoozed")
            return status, True
        return status, False

    def bury(self, id: str, token: str, reason: str) -> int:
        status = self._fence(id, token)
        if status == DONE:
            job = self.jobs[id]
            self._unlease(job)
            job.failures += 1
            job.error = "no"
            self._end(job, "dead", reason)
        return status

    def discard(self, id: str, token: str, reason: str) -> int:
        status = self._fence(id, token)
        if status == DONE:
            job = self.jobs[id]
            self._unlease(job)
            self._end(job, "cancelled", reason if job.cancel is None else job.cancel)
        return status

    def release(self, id: str, token: str) -> int:
        status = self._fence(id, token)
        if status == DONE:
            job = self.jobs[id]
            self._unlease(job)
            job.releases += 1
            self._emit(job, "released")
            if job.cancel is not None:
                self._end(job, "cancelled", job.cancel)
            else:
                self._ready(job)
                self.bell = True
        return status

    def renew(self, id: str, token: str) -> int:
        """1 prolonged, 2 prolonged and asked to stop, -1 lost."""
        if not self.holds(id, token):
            return LOST
        self.jobs[id].lease_until = self.now + self.times.lease
        return 1 if self.jobs[id].cancel is None else 2

    def emit(self, id: str, token: str, names: Sequence[str], batch: int) -> bool:
        if not self.holds(id, token):
            return False
        job = self.jobs[id]
        if job.said != (token, batch):
            job.said = (token, batch)
            for name in names:
                self._emit(job, name)
        return True

    def sweep(self, worker: str, keep: int) -> tuple[int, int, int, list[tuple[str, int, bool]]]:
        """Promoted, purged, left for newer workers, and (id, rescues, buried) of those whose worker vanished."""
        new = worker not in self.workers
        self.workers[worker] = self.now
        if new:  # time to forget old ones
            self.workers = {name: at for name, at in self.workers.items() if at > self.now - self.times.workers}
        promoted = self._promote()
        for job in self.aside():
            if job.format <= FORMAT:
                job.aside = False
                self._ready(job)
                promoted += 1
        if promoted:
            self.bell = True
        late = self.swept is not None and self.now - self.swept > 2 * self.times.sweep
        if late and self.swept is not None and self.grace <= self.swept:
            self.grace = self.now + max(self.times.sweep, self.times.lease // 4)
        self.swept = self.now
        rescued = self._rescue() if self.now >= self.grace else []
        if rescued:
            self.bell = True
        old = [job for job in self.jobs.values() if job.state in ENDED[:3]]
        old = [job for job in old if job.finished <= self.now - self.times.keep]
        kept = self.in_state("succeeded")
        old += kept[: max(0, len(kept) - keep)]
        for job in old:
            self._forget(job)
        return promoted, len(old), len(self.aside()), rescued

    def _rescue(self) -> list[tuple[str, int, bool]]:
        rescued = []
        for job in self.in_state("running"):
            if job.lease_until > self.now:
                continue
            job.token = ""
            job.rescues += 1
            self._emit(job, "rescued")
            poison = job.rescues > self.times.max_rescues
            if poison:
                self._end(job, "dead", f"poison: its worker vanished {job.rescues} times while running it")
            elif job.cancel is not None:
                self._end(job, "cancelled", job.cancel)
            elif job.rescues > 1 and job.rescues >= self.times.max_rescues - 1:
                job.apart = True
                self._schedule(job, self.now)
                self._emit(job, "scheduled")
            else:
                self._ready(job)
            rescued.append((job.id, job.rescues, poison))
        return rescued

    def leave(self, worker: str) -> bool:
        return self.workers.pop(worker, None) is not None

    # People

    def state(self, id: str) -> str | None:
        if id in self.tombstones:
            return "succeeded"
        return self.jobs[id].state if id in self.jobs else None

    def cancel(self, id: str, reason: str) -> str | None:
        job = self.jobs.get(id)
        if job and job.state in ("scheduled", "ready"):
            self._end(job, "cancelled", reason)
        elif job and job.state == "running":
            job.cancel = reason
        return self.state(id)

    def retry_now(self, id: str) -> str | None:
        job = self.jobs.get(id)
        if job and job.state == "scheduled":
            self._ready(job)
            self.bell = True
        return self.state(id)

    def redrive(self, id: str) -> str | None:
        job = self.jobs.get(id)
        if job and job.state == "dead":
            if not self._retake(job):
                return "held"
            self._anew(job)
            self._ready(job)
            self.bell = True
        return self.state(id)

    def _anew(self, job: ModelJob) -> None:
        job.failures = job.rescues = 0
        job.reason, job.cancel, job.apart = "", None, False

    def redrive_all(self, token: str, wanted: int, pace: int | None) -> int:
        """How many. The first batch only: the machine asks for no second one."""
        if self.redriven and self.redriven[0] == token:
            done: int = self.redriven[1]
            return done
        jobs = [job for job in self.in_state("dead")[:wanted] if self._retake(job)]
        for position, job in enumerate(jobs):
            self._anew(job)
            if pace is None:
                self._ready(job)
            else:
                self._schedule(job, self.now + position * pace)
                self._emit(job, "scheduled")
        if jobs:
            self.bell = True
        self.redriven = (token, len(jobs))
        return len(jobs)

    def purge(self, id: str) -> str | None:
        job = self.jobs.get(id)
        if job and job.state not in ENDED:
            return job.state
        if job:
            self._forget(job)
        self.tombstones.pop(id, None)
        return None

    def purge_all(self, state: str, age: int) -> int:
        jobs = [job for job in self.in_state(state) if job.finished <= self.now - age]
        for job in jobs:
            self._forget(job)
        return len(jobs)

    def pause(self) -> bool:
        was, self.paused = self.paused, True
        return not was

    def resume(self) -> bool:
        was, self.paused = self.paused, False
        if self.ready():
            self.bell = True
        return was
