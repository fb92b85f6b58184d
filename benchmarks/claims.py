"""What we hold these figures to: each line a ratio within one run, or a bound, met or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .catalogue import OURS, PORTION, Peer
from .measure import Figure
from .results import Key, Results
from .tables import CRASH, SENDING, SPEED, Column, best, markdown, short, shown, whole

DRAIN, CPU = SPEED[0], SPEED[2]
ONE, BULK = SENDING[0], SENDING[2]
RESCUE = CRASH[3]

#: Of a core, or of all of them: what counts as busy. The rest goes to whoever measures, and to the system.
FULL = 0.9
#: Of one process' rate, what two should do.
TWICE = 1.8

Reference = Callable[[Results, dict[str, Peer]], tuple[str, Figure] | None]


@dataclass(frozen=True, slots=True)
class Claim:
    """`ours` over the reference is at least `bound`, or at most where `at_most`. Without a reference: itself."""

    text: str
    ours: tuple[Key, str]
    bound: float
    reference: Reference | None = None
    at_most: bool = False
    difference: bool = False
    unit: str = ""
    #: From the figure's unit to this one.
    scale: float = 1.0
    #: Why this run could not show that it is met; "" if it could.
    excuse: Callable[[Results], str] | None = None
    #: The reference is shown, not divided by.
    shown_only: bool = False

    def row(self, results: Results, peers: dict[str, Peer]) -> list[str] | None:
        """None when one of the figures is missing."""
        figure = results.figure(*self.ours)
        if figure is None:
            return None
        compared, value, beside = figure.median * self.scale, _number(figure.median * self.scale), ""
        if self.reference is not None:
            found = self.reference(results, peers)
            if found is None or not found[1].median:
                return None
            name, other = found
            if not self.shown_only:
                compared = figure.median - other.median if self.difference else figure.median / other.median
            beside = f"{name}: {_number(other.median * self.scale)}"
        unit = self.unit or (" x" if self.reference is not None else "")
        met = compared <= self.bound if self.at_most else compared >= self.bound
        verdict = "yes" if met else (self.excuse and self.excuse(results)) or "**no**"
        aim = f"{'at most' if self.at_most else 'at least'} {self.bound:g}{unit}"
        return [self.text, value, beside, f"{short(compared)}{unit}", aim, verdict]


def _number(value: float) -> str:
    return whole(value) if value >= 1000 else short(value)


def ours(variant: str, measure: str, name: str, persistence: str = "off") -> tuple[Key, str]:
    return Key(OURS, variant, measure, persistence), name


def fastest(column: Column, *, survivors: bool = False) -> Reference:
    return lambda results, peers: best(results, peers, column, survivors=survivors)


def least(column: Column) -> Reference:
    return lambda results, peers: best(results, peers, column, low=True)


def row_of(peer: str, variant: str, measure: str, name: str) -> Reference:
    def found(results: Results, peers: dict[str, Peer]) -> tuple[str, Figure] | None:
        figure = results.figure(Key(peer, variant, measure), name)
        return (f"{shown(peer)} {variant}", figure) if figure else None

    return found


def machine_full(variant: str) -> Callable[[Results], str]:
    """What a second worker process could not have: a server with time left, a core; or a job so cheap that the cores of
    this machine would be enough for two workers and their server. What the figures don't show is no excuse."""

    def said(results: Results) -> str:
        key = Key(OURS, variant, "two")
        busy, server = results.figure(key, "cores"), results.figure(key, "server_cores")
        if busy is None or server is None:
            return ""
        cores = results.runs[results.cells[key].run]["cores"]
        if server.median >= FULL:
            return f"no: Valkey is the limit, {short(server.median)} of its one core busy"
        if busy.median >= FULL * cores:
            return f"no: the machine is full, {short(busy.median)} of {cores} cores busy"
        most = _most_of(cores, results, variant)
        if most is not None and most < TWICE:
            waited = results.figure(key, "server_waiting")
            also = f", Valkey waited for one in {waited.median:.0%} of the time" if waited is not None else ""
            return f"**no**; {cores} cores can give {short(most)} x at most; {short(busy.median)} were busy{also}"
        return ""

    return said


def _most_of(cores: int, results: Results, variant: str) -> float | None:
    """How many times one process' rate these cores can give, by what a job takes of the worker and of the server when
    one process runs: seconds for 1,000 jobs."""
    key = Key(OURS, variant, "drain")
    rate, worker, server = (results.figure(key, name) for name in ("rate", "worker_cpu", "server_cpu"))
    if rate is None or worker is None or server is None:
        return None
    return cores * 1000 / (worker.median + server.median) / rate.median


def server_full(variant: str) -> Callable[[Results], str]:
    """With a core for each worker process only the server can be what two of them wait for."""

    def said(results: Results) -> str:
        server = results.figure(Key(OURS, variant, "portions"), "two_server")
        full = server is not None and server.median >= FULL
        return f"no: Valkey is the limit, {short(server.median)} of its one core busy" if server and full else ""

    return said


def pop_is_slow(results: Results) -> str:
    """What no queue on this machine could have had in this run."""
    floor = results.figure(Key("raw", "pop", "latency"), "p99")
    return "no: the raw pop is over it, too" if floor is not None and floor.median > P99_MILLISECONDS else ""


P99_MILLISECONDS = 2
POP, POP_P99 = row_of("raw", "pop", "latency", "p50"), row_of("raw", "pop", "latency", "p99")
PLAIN_MEMORY = row_of("channels", "await", "latency", "idle_memory")
CONSUMER, ASYNCIO, OWN = "consumer", "consumer-asyncio", "background"
PROCESSES = ((CONSUMER, "AsyncConsumer"), (OWN, "BackgroundConsumer"), ("task-async", "async tasks"))

CLAIMS = (
    Claim("unmodified AsyncConsumer beside the fastest peer", ours(CONSUMER, "drain", "rate"), 1.8, fastest(DRAIN)),
    Claim(
        "... beside the fastest that survives kill -9",
        ours(CONSUMER, "drain", "rate"), 4, fastest(DRAIN, survivors=True),
    ),
    Claim("the same without uvloop", ours(ASYNCIO, "drain", "rate"), 1.3, fastest(DRAIN)),
    Claim(
        "... beside the fastest that survives kill -9",
        ours(ASYNCIO, "drain", "rate"), 3, fastest(DRAIN, survivors=True),
    ),
    Claim("BackgroundConsumer beside the fastest peer", ours(OWN, "drain", "rate"), 4, fastest(DRAIN)),
    Claim("async tasks", ours("task-async", "drain", "rate"), 2.5, fastest(DRAIN)),
    Claim("unmodified SyncConsumer", ours("sync-consumer", "drain", "rate"), 0.8, fastest(DRAIN)),
    Claim("sync tasks", ours("task-sync", "drain", "rate"), 0.8, fastest(DRAIN)),
    *(
        Claim(
            f"two processes beside one, jobs of 1 ms of processor, {name}",
            ours(variant, "busy", "two"), TWICE, row_of(OURS, variant, "busy", "one"),
        )
        for variant, name in PROCESSES
    ),
    *(
        Claim(
            f"two processes beside one, no-op jobs, {PORTION:.0%} of a core each, {name}",
            ours(variant, "portions", "two"), TWICE, row_of(OURS, variant, "portions", "one"),
            excuse=server_full(variant),
        )
        for variant, name in PROCESSES
    ),
    *(
        Claim(
            f"two processes beside one, no-op jobs, {name}",
            ours(variant, "two", "rate"), TWICE, row_of(OURS, variant, "drain", "rate"), excuse=machine_full(variant),
        )
        for variant, name in PROCESSES
    ),
    Claim("enqueue(), one after another", ours(CONSUMER, "enqueue", "one"), 1, fastest(ONE)),
    Claim("async_to_sync(layer.send) in a view", ours("view", "enqueue", "one"), 0.5, fastest(ONE)),
    Claim("await aenqueue(), 100 at once", ours("aenqueue", "enqueue", "gather"), 3, fastest(BULK)),
    Claim("enqueue_many()", ours(CONSUMER, "enqueue", "many"), 3, fastest(BULK)),
    Claim("idle latency, p50, unmodified consumer", ours(CONSUMER, "latency", "p50"), 4.5, POP, at_most=True),
    Claim("idle latency, p50, BackgroundConsumer", ours(OWN, "latency", "p50"), 3, POP, at_most=True),
    *(
        Claim(
            f"idle latency, p99, {name}", ours(variant, "latency", "p99"), P99_MILLISECONDS, POP_P99,
            at_most=True, shown_only=True, unit=" ms", excuse=pop_is_slow,
        )
        for variant, name in ((CONSUMER, "unmodified consumer"), (OWN, "BackgroundConsumer"))
    ),
    Claim("kill -9: jobs not run", ours("crash", "crash", "lost"), 0, at_most=True),
    Claim("kill -9: jobs that were done, run again", ours("crash", "crash", "doubled"), 0, at_most=True),
    Claim("kill -9: all back, defaults", ours("crash", "crash", "rescue"), 35, at_most=True, unit=" s"),
    Claim("kill -9: all back, lease of 2 s", ours("crash-2s", "crash", "rescue"), 3, at_most=True, unit=" s"),
    Claim(
        "idle worker's memory above plain Channels'",
        ours(CONSUMER, "latency", "idle_memory"), 15, PLAIN_MEMORY, at_most=True, difference=True, unit=" MiB",
    ),
    Claim("a queued job in the server", ours(CONSUMER, "enqueue", "bytes"), 400, at_most=True, unit=" bytes"),
    Claim("an idle worker's processor", ours(CONSUMER, "latency", "idle_cpu"), 0.5, at_most=True, unit=" %"),
    Claim("an idle worker's round trips", ours(CONSUMER, "latency", "idle_trips"), 5, at_most=True, unit="/s"),
    Claim(
        "an idle worker's commands, those inside scripts too",
        ours(CONSUMER, "latency", "idle_commands"), 5, at_most=True, unit="/s",
    ),
    *(
        Claim(
            f"worker CPU per 1,000 jobs, {name}",
            ours(variant, "drain", "worker_cpu"), bound, at_most=True, unit=" ms", scale=1000,
        )
        for variant, name, bound in (
            (CONSUMER, "unmodified consumer", 60),
            (ASYNCIO, "unmodified consumer, no uvloop", 90),
            (OWN, "BackgroundConsumer", 25),
        )
    ),
    *(
        Claim(
            f"worker CPU per job, {name}, beside the least of the peers",
            ours(variant, "drain", "worker_cpu"), bound, least(CPU), at_most=True, scale=1000,
        )
        for variant, name, bound in ((CONSUMER, "unmodified consumer", 0.6), (OWN, "BackgroundConsumer", 0.25))
    ),
    Claim(
        "worker CPU of a BackgroundConsumer beside an unmodified AsyncConsumer's",
        ours(OWN, "drain", "worker_cpu"), 0.75, row_of(OURS, CONSUMER, "drain", "worker_cpu"), at_most=True, scale=1000,
    ),
)  # fmt: skip


def claims(results: Results, peers: dict[str, Peer]) -> str:
    """The table of them; those whose figures are missing are left out."""
    rows = [row for claim in CLAIMS if (row := claim.row(results, peers)) is not None]
    return markdown(["", "measured", "beside", "that is", "aim", "met"], rows)
