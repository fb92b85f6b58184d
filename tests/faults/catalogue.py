"""The faults that a queue must survive: number, what happens, what must follow, and the tests that show it."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """``tests``: pytest ids, or their beginnings; those in test_catalogue.py are found by the number in their name."""

    number: int
    fault: str
    expected: str
    tests: tuple[str, ...] = ()


_WORKER = "tests/retrying/test_worker.py::"
_STORE = "tests/retrying/test_store.py::"
_SOCKETS = "tests/streams/test_sockets.py::"

FAULTS = (
    Fault(
        1,
        "a worker is killed in a handler, again and again",
        "0 lost; every rerun follows a kill; rescued within lease + sweep + 1 s",
        ("tests/faults/test_kills.py::",),
    ),
    Fault(
        2,
        "it dies between claim and start",
        "the job runs elsewhere, nothing charged",
        (_WORKER + "test_job_whose_handler_never_began", _STORE + "test_lost_reply_of_a_claim"),
    ),
    Fault(3, "it dies after the effect, before the ack", "run again, `current_job().id` is the same"),
    Fault(4, "it is stopped for three leases, then goes on", "every late call refused, one success a job"),
    Fault(
        5,
        "a handler blocks the event loop",
        "the lease is kept",
        (_WORKER + "test_handler_that_blocks_the_event_loop",),
    ),
    Fault(
        6, "SIGTERM under load", "no new jobs, running ones end or are given back, exit 0", (_WORKER + "test_stop_",)
    ),
    Fault(7, "a second SIGTERM", "running jobs given back at once, exit status not 0"),
    Fault(8, "the server restarts (SHUTDOWN, SIGKILL), AOF on", "0 acknowledged jobs lost"),
    Fault(9, "power loss: the AOF ends anywhere", "no half transition, nothing stuck"),
    Fault(10, "SCRIPT FLUSH each 50 ms", "0 errors"),
    Fault(11, "the server stalls for three leases", "nothing is rescued, no two runs at once"),
    Fault(12, "CLIENT KILL in a loop", "reconnect, no claim lost"),
    Fault(13, "CLIENT PAUSE", "workers wait, producers with a short timeout fail fast"),
    Fault(14, "the reply is lost, for every script", "repeating changes nothing", ("tests/retrying/test_model.py::",)),
    Fault(15, "a blackhole", "the worker stops its handlers before the server gives the jobs away"),
    Fault(16, "half-closed connections, truncated replies", "the connection is dropped, never reused"),
    Fault(17, "1000 cancellations in flight", "no reply to another's question"),
    Fault(18, "a slow network: 200 ms, 5 % 2 s", "slower, no spurious rescue"),
    Fault(19, "a replica takes over (Sentinel, Cluster)", "consuming again within 5 s of the switch"),
    Fault(20, "a split primary", "stale ends are refused or run again, never stuck"),
    Fault(21, "Cluster: slots move", "MOVED, ASK and TRYAGAIN are followed"),
    Fault(22, "maxmemory reached", "new jobs refused whole, running ones settle", (_STORE + "test_full_server",)),
    Fault(
        23,
        "an evicting server",
        "said loudly by the worker and by `check --deploy`",
        ("tests/retrying/test_checks.py::test_eviction",),
    ),
    Fault(24, "the server's disk is full", "said, and over when there is room again"),
    Fault(25, "a worker's clock is wrong, or jumps, by an hour", "nothing early, no lease lost"),
    Fault(26, "the server's clock jumps by 10 minutes", "early rescues are fenced, nothing stuck"),
    Fault(
        27, "a job that kills its worker", "a dead letter after 3 rescues, others unharmed", (_STORE + "test_poison",)
    ),
    Fault(
        28,
        "messages that can't be read or have no handler",
        "dead letters with a reason, the worker lives",
        (_WORKER + "test_bad_messages",),
    ),
    Fault(29, "giant messages, deep nesting, an error text of 50 MiB", "refused whole; cut with a marker"),
    Fault(30, "1000 jobs fail at once", "their retries spread out (chi-square)"),
    Fault(
        31,
        "SystemExit, KeyboardInterrupt, CancelledError, GeneratorExit, StopConsumer",
        "classified, the worker lives",
        (_WORKER + "test_handlers_cannot_take",),
    ),
    Fault(32, "the doorbell is lost", "found by the poll within a second", (_WORKER + "test_lost_bell",)),
    Fault(33, "the doorbell and the same id 100 times over", "one run"),
    Fault(
        35,
        "10,000 events of 2 KiB beside a browser that reads a byte a second",
        "the server's memory is flat, the socket is closed with 4503, its neighbour misses nothing",
        (_SOCKETS + "test_a_browser_that_reads",),
    ),
    Fault(
        36,
        "5,000 idle and 500 busy sockets on one daphne process",
        "under 40 KiB a socket above daphne's own, an event reaches 1,000 of them within a second (p99)",
        (
            _SOCKETS + "test_what_an_idle_socket_takes",
            _SOCKETS + "test_more",
            _SOCKETS + "test_one_event",
            "tests/streams/test_latency.py::",
        ),
    ),
    Fault(
        37,
        "sockets cut a thousand times at random, tabs frozen, pages reloaded, daphne killed (once under 2,000 sockets)",
        "every browser sees every event once and in order, every command is one job",
        (
            "tests/streams/test_reconnects.py::",
            "tests/streams/test_commands.py::",
            _SOCKETS + "test_a_storm",
        ),
    ),
    Fault(
        39,
        "workers of two releases side by side",
        "a newer job waits for the newer worker",
        ("tests/retrying/test_consumption.py::test_a_job_of_a_newer_format",),
    ),
    Fault(
        40,
        "the database and the store part ways",
        "rows without a job are enqueued again, once",
        ("tests/webhooks/test_sweep.py::",),
    ),
    Fault(
        41,
        "two schedulers and more: one stopped for 10 s of 60, killed, cut off, their clocks an hour off",
        "each slot becomes one job; a slot's handler starts within 100 ms (p99)",
    ),
    Fault(42, "soak: all of it mixed", "no invariant is broken, nothing grows: see below"),
)


def tests_of(fault: Fault, nodeid: str) -> bool:
    """Whether the test with this id shows ``fault``."""
    name = nodeid.rsplit("::", 1)[-1]
    return name.startswith(f"test_{fault.number:02}_") or nodeid.startswith(fault.tests)


#: What `make faults` runs beside tests/faults.
ELSEWHERE = sorted({prefix for fault in FAULTS for prefix in fault.tests if not prefix.startswith("tests/faults")})
