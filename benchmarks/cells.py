"""The measurements: each takes one variant of one queue beside a new server, and gives figures by name."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from .bench import Bench, Failed, Values
from .catalogue import OURS, PORTION
from .effects import SLEEP_SECONDS, Effect
from .measure import Process, Use, core_waits, cpu_seconds, held_to, percentile, resident, wait_until

#: Sends of one measurement of the rate, unless its time is over before.
SENDS = 20_000
#: What one sender has at a time where several are compared.
TURN_SECONDS = 0.06
#: A drain stops after so many seconds with work left; the rate is that of what ran.
DRAIN_SECONDS = 8.0
#: Jobs of a millisecond for each worker process.
SPINS = 2_500
SLEEPS, SLEEPS_ONE_BY_ONE = 2_000, 40
SLEEP_LIMIT = 20.0
#: Sends to an idle worker: as many as a 99th percentile needs, in so many seconds at most.
PACED, PACED_SECONDS = 2_000, 12.0
#: How long an idle worker is watched; ours over two sweeps, beside plain Channels.
IDLE_SECONDS, IDLE_OURS_SECONDS = 1.5, 9.0
CRASHES, CRASH_AFTER = 600, 300
#: Longest wait for what was running when the worker was killed.
RESCUE_SECONDS = 150.0
#: What a worker has left to acknowledge when its last job began.
SETTLE_SECONDS = 0.25


def enqueue(benches: Sequence[Bench]) -> list[Values]:
    """How fast one process sends: one after another, many at once, many by the queue's own call. Round trips, commands
    and processor seconds are those of sending one after another; `bytes` stay in the server for each job. Several, each
    beside its own server, send in turns of some hundredths of a second: what the machine does differently from one
    second to the next meets all of them."""
    empty = [bench.server.memory() for bench in benches]
    before = [bench.server.use() for bench in benches]
    sent = _send_in_turns([(bench, "one") for bench in benches])
    values = []
    for bench, earlier, told in zip(benches, before, sent, strict=True):
        values.append({"one": _rate(told), "producer_cpu": told["cpu"] / told["timed"] * 1000})
        if bench.peer.on_redis:
            values[-1].update(_per_job(bench.server.use() - earlier, told["all"]))
    ways = [(place, how) for place, bench in enumerate(benches) for how in bench.ways[1:]]
    counts = [told["all"] for told in sent]
    for (place, how), told in zip(ways, _send_in_turns([(benches[place], how) for place, how in ways]), strict=True):
        values[place][how] = _rate(told)
        counts[place] += told["all"]
    for bench, stored, kept, count in zip(benches, values, empty, counts, strict=True):
        if bench.peer.on_redis:
            stored["bytes"] = (bench.server.memory() - kept) / count
    return values


def _send_in_turns(senders: Sequence[tuple[Bench, str]]) -> list[Values]:
    """What each has sent, in the way that is named."""
    turn = TURN_SECONDS if len(senders) > 1 else 0.0
    with ExitStack() as stack:
        sending = [
            stack.enter_context(
                bench.sending(how, "noop", bench.scaled(SENDS * 3 if how == "many" else SENDS), turn=turn)
            )
            for bench, how in senders
        ]
        waiting = [each for each in sending if each.waits()]
        while waiting:
            for each in list(waiting):
                each.go()
                if not each.waits():
                    waiting.remove(each)
        return [each.told() for each in sending]


def _rate(sent: Values) -> float:
    return sent["timed"] / sent["seconds"]


def _per_job(used: Use, count: float) -> Values:
    return {
        "trips": used.reads / count,
        "commands": used.command_count / count,
        "server_cpu": used.cpu / count * 1000,
    }


def drain(
    bench: Bench, *, kind: str = "noop", jobs: int = 0, processes: int = 1, portion: float | None = None
) -> Values:
    """How fast jobs run that wait: from the first one's beginning to the last one's. The processor seconds per
    1,000 jobs, trips and commands leave out the worker's start. Of several workers the rate is that of the time in
    which all of them run jobs. `cores`: how many of the machine's the workers and the server kept busy meanwhile,
    `waiting`: how many more they could have used, ready to run while every core was taken; `server_...`: the server's
    share of both. `portion`: of a core, all that each worker may use."""
    count = bench.fill(kind, bench.scaled((jobs or bench.variant.jobs) * processes))
    with bench.working("drain", processes=processes) as workers, ExitStack() as stack:
        if portion is not None:
            stack.enter_context(held_to(portion, [worker.pid for worker in workers]))
        bench.await_all(count, workers)
        began, first = bench.effects.count(), _Moment.now(bench, workers)
        bench.await_effects(count, DRAIN_SECONDS, workers)
        full = _Moment.now(bench, workers) - first
        time.sleep(SETTLE_SECONDS)
        ended, used = bench.effects.count(), _Moment.now(bench, workers) - first
        memory = sum(resident(worker.pid) for worker in workers)
    seen = list(bench.effects)
    values = {
        "rate": rate_together(seen, count),
        "repeats": len(seen) - len({effect.n for effect in seen}),
        "left": max(0, count - len(seen)),
        "memory": memory / 2**20,
        "cores": (full.workers + full.server.cpu) / full.at,
        "server_cores": full.server.cpu / full.at,
        "waiting": full.waiting / full.at,
        "server_waiting": full.server_waiting / full.at,
    }
    if ended > began:
        values["worker_cpu"] = used.workers / (ended - began) * 1000
        if bench.peer.on_redis:
            values.update(_per_job(used.server, ended - began))
    return values


def rate_together(seen: Sequence[Effect], count: int) -> float:
    """Jobs per second from when every worker has begun its first one to when one of them has begun its last one; over
    all of the time if they never ran together (too few jobs). Raises Failed when that is none."""
    spans: dict[int, tuple[float, float]] = {}
    for effect in seen:
        first, last = spans.get(effect.worker, (effect.at, effect.at))
        spans[effect.worker] = min(first, effect.at), max(last, effect.at)
    firsts, lasts = [first for first, _ in spans.values()], [last for _, last in spans.values()]
    began, ended = max(firsts, default=0.0), min(lasts, default=0.0)
    if ended <= began and spans:
        began, ended = min(firsts), max(lasts)
    if ended <= began:
        raise Failed(f"only {len(seen)} of {count} jobs ran")
    return (sum(began <= effect.at <= ended for effect in seen) - 1) / (ended - began)


@dataclass(frozen=True, slots=True)
class _Moment:
    """Seconds of the clock, processor seconds of the workers, use of the server, seconds for which all of them and the
    server were ready to run and had no core; so far, or between two of them."""

    at: float
    workers: float
    server: Use
    waiting: float
    server_waiting: float

    @classmethod
    def now(cls, bench: Bench, workers: list[Process]) -> Self:
        server = core_waits(bench.server.pid)
        waiting = server + sum(core_waits(worker.pid) for worker in workers)
        return cls(time.monotonic(), _cpu(workers), bench.server.use(), waiting, server)

    def __sub__(self, before: Self) -> _Moment:
        return _Moment(
            self.at - before.at, self.workers - before.workers, self.server - before.server,
            self.waiting - before.waiting, self.server_waiting - before.server_waiting,
        )  # fmt: skip


def _cpu(workers: list[Process]) -> float:
    return sum(cpu_seconds(worker.pid) for worker in workers)


def two(bench: Bench) -> Values:
    """The same with two worker processes."""
    return drain(bench, processes=2)


def busy(bench: Bench) -> Values:
    """Jobs that take a millisecond of processor time each, with one worker process and with two: what a second one is
    worth where the machine has a core for it. Of no-op jobs one worker and the server can take two cores already."""
    rates: Values = {}
    for name, processes in (("one", 1), ("two", 2)):
        values = drain(bench, kind="spin", jobs=SPINS, processes=processes)
        if values["left"]:
            raise Failed(f"{values['left']:.0f} jobs were not run within {DRAIN_SECONDS:.0f} s")
        rates.update({name: values["rate"], f"{name}_cores": values["cores"]})
        bench.reset()
    return rates


def portions(bench: Bench) -> Values:
    """No-op jobs with one worker process and with two, each held to a portion of one core, beside a server that has the
    other one to itself: what a second process is worth where there is a core, if a slow one, for each of the three."""
    rates: Values = {}
    for name, processes in (("one", 1), ("two", 2)):
        with bench.server.apart():
            values = drain(bench, processes=processes, portion=PORTION)
        rates.update({name: values["rate"], f"{name}_cores": values["cores"], f"{name}_server": values["server_cores"]})
        bench.reset()
    return rates


def latency(bench: Bench) -> Values:
    """What an idle worker costs, and then the milliseconds from just before a send to its job's beginning, one
    after another with pauses in which a worker is idle again."""
    bench.send("one", "noop", 1)
    with bench.working("latency") as workers:
        bench.await_first(workers)
        time.sleep(0.5)
        cpu, use, began = _cpu(workers), bench.server.use(), time.monotonic()
        time.sleep(IDLE_OURS_SECONDS if bench.peer.name in (OURS, "channels") else IDLE_SECONDS)
        took, used = time.monotonic() - began, bench.server.use() - use
        values = {
            "idle_cpu": (_cpu(workers) - cpu) / took * 100,
            "idle_trips": used.reads / took,
            "idle_commands": used.command_count / took,
            "idle_memory": sum(resident(worker.pid) for worker in workers) / 2**20,
        }
        count = int(bench.send("paced", "noop", bench.scaled(PACED), limit=PACED_SECONDS)["all"])
        if not bench.await_effects(1 + count, 10.0, workers):
            raise Failed(f"{bench.effects.count() - 1} of {count} jobs sent to an idle worker ran")
    sent = array("q")
    sent.frombytes(bench.times.read_bytes())
    started: dict[int, float] = {}
    for effect in list(bench.effects)[1:]:
        started.setdefault(effect.n, effect.at)
    waits = [(started[n] - at / 1e9) * 1000 for n, at in enumerate(sent)]
    return {**values, "p50": percentile(waits, 0.5), "p99": percentile(waits, 0.99), "sends": count}


def sleep(bench: Bench) -> Values:
    """2,000 jobs of 50 ms at 100 at once: seconds from the first one's beginning to the last one's end; a second is
    ideal. Who takes one at a time gets 40, scaled."""
    at_once = bench.variant.at_once("sleep")
    count = bench.fill("sleep", bench.scaled(SLEEPS if at_once > 1 else SLEEPS_ONE_BY_ONE))
    with bench.working("sleep") as workers:
        bench.await_first(workers)
        bench.await_effects(count, SLEEP_LIMIT, workers)
    times = sorted(effect.at for effect in bench.effects)
    if len(times) < count:
        raise Failed(f"{len(times)} of {count} sleeping jobs began within {SLEEP_LIMIT:.0f} s")
    return {"wall": (times[-1] - times[0] + SLEEP_SECONDS) * SLEEPS / count}


def crash(bench: Bench) -> Values:
    """Jobs of 20 ms; kill -9 for the whole worker after 300 with some under way, a new worker at once."""
    count = bench.fill("crash", bench.scaled(CRASHES))
    enough = bench.scaled(CRASH_AFTER)
    with bench.working("crash") as workers:
        bench.await_first(workers)
        # Two lines a job that is done. Some are between their two lines whenever it is.
        wait_until(lambda: bench.effects.count() >= 2 * enough, RESCUE_SECONDS, every=0.001)
        workers[0].kill()
        killed = time.monotonic()
    before = list(bench.effects)
    begun, done = Counter(e.n for e in before if e.kind == "s"), {e.n for e in before if e.kind == "d"}
    orphans = set(begun) - done
    with bench.working("crash") as workers:
        complete = wait_until(
            lambda: (
                bench.effects.count() >= 2 * count + len(orphans)
                and {effect.n for effect in bench.effects if effect.kind == "d"} >= set(range(count))
            ),
            RESCUE_SECONDS,
            every=0.05,
        )
        if complete:
            time.sleep(1.0)  # whatever still runs twice
    after = list(bench.effects)[len(before) :]
    again = [e for e in after if e.kind == "s"]
    values: Values = {
        "orphans": len(orphans),
        "lost": count - len(done | {e.n for e in after if e.kind == "d"}),
        # Jobs that had ended and ran again; the orphans' second run is what was asked for.
        "doubled": len({e.n for e in again} & done),
    }
    if complete and again:
        # What the dead worker had taken without beginning it comes back, too, and last.
        values["rescue"] = max(e.at for e in again) - killed
    return values


def persistence(bench: Bench) -> Values:
    """Sending one after another and in the quickest way, and a drain, on a server that persists."""
    values = {how: _rate(bench.send(how, "noop", bench.scaled(SENDS))) for how in {"one", bench.ways[-1]}}
    bench.server.client.flushall()
    return {**values, "rate": drain(bench)["rate"]}


#: Those that take several variants at a time are given those that are compared closely together.
IN_TURNS: dict[str, Callable[[Sequence[Bench]], list[Values]]] = {"enqueue": enqueue}
MEASUREMENTS: dict[str, Callable[[Bench], Values]] = {
    "drain": drain,
    "two": two,
    "busy": busy,
    "portions": portions,
    "latency": latency,
    "sleep": sleep,
    "crash": crash,
    "persistence": persistence,
}
