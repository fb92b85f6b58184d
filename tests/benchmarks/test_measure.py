"""What the benchmarks count with: medians, orders, processes, a server's use."""

import os
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from benchmarks.measure import (
    CONTROL_GROUPS,
    CannotHold,
    Figure,
    Process,
    Server,
    core_waits,
    cpu_seconds,
    held_to,
    interleaved,
    percentile,
    resident,
    tree,
    wait_until,
)

#: A parent whose child works for ever.
FAMILY = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'while True: pass']); time.sleep(60)"


@pytest.mark.parametrize(
    ("values", "median", "spread"),
    [([5.0], 5.0, 0.0), ([90.0, 100.0, 120.0], 100.0, 0.15), ([1.0, 3.0], 2.0, 0.5), ([0.0, 0.0], 0.0, 0.0)],
)
def test_a_figure_is_the_median_with_half_the_range_over_it(values, median, spread):
    figure = Figure.of(values)
    assert (figure.median, figure.rounds) == (median, len(values))
    assert figure.spread == pytest.approx(spread)


@pytest.mark.parametrize(
    ("values", "fraction", "expected"),
    [
        (range(1, 101), 0.5, 50),
        (range(1, 101), 0.99, 99),
        (range(1, 1001), 0.99, 990),
        ([7], 0.99, 7),
        ([2, 1], 1.0, 2),
    ],
)
def test_percentile(values, fraction, expected):
    assert percentile(list(values), fraction) == expected


def test_a_percentile_of_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 0.5)


def test_each_cell_runs_once_a_round_in_an_order_that_changes_and_repeats():
    cells = ["a", "b", "c", "d", "e"]
    run = list(interleaved(3, cells))
    orders = [tuple(cell for number, cell in run if number == wanted) for wanted in (1, 2, 3)]
    assert all(sorted(order) == cells for order in orders)
    assert len(set(orders)) > 1
    assert list(interleaved(3, cells)) == run


def test_processor_time_and_memory_of_a_process_include_its_children(tmp_path):
    with Process([sys.executable, "-c", FAMILY], log=tmp_path / "log") as process:
        assert wait_until(lambda: len(tree(process.pid)) == 2, 10)
        child = tree(process.pid)[1]
        assert wait_until(lambda: cpu_seconds(child) > 0.1, 20)
        assert cpu_seconds(process.pid) > cpu_seconds(process.pid, below=False)
        assert resident(process.pid) > resident(child) > 2**20


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_nothing_of_a_process_outlives_its_end(tmp_path, how):
    process = Process([sys.executable, "-c", FAMILY], log=tmp_path / "log", patience=5)
    with process:
        assert wait_until(lambda: len(tree(process.pid)) == 2, 10)
        child = tree(process.pid)[1]
        before = time.monotonic()
        getattr(process, how)()
        assert time.monotonic() - before < 5
        assert not process.alive
    assert wait_until(lambda: not resident(child), 5)  # a zombie that nobody waits for has no memory


def test_the_use_of_a_server_is_what_was_asked_of_it(tmp_path):
    with Server(directory=tmp_path) as server:
        before = server.use()
        for number in range(10):
            server.client.lpush("list", number)
        server.client.pipeline(transaction=False).get("a").get("b").execute()
        used = server.use() - before
    assert used.commands == {"get": 2, "lpush": 10}
    assert used.command_count == 12
    assert used.reads == 11
    assert used.cpu > 0


@pytest.mark.parametrize(("persistence", "appended"), [("off", "no"), ("everysec", "yes"), ("always", "yes")])
def test_a_server_persists_as_asked(persistence, appended):
    with Server(persistence=persistence) as server:
        kept = server.client.config_get("append*")
        assert kept["appendonly"] == appended
        assert appended == "no" or kept["appendfsync"] == persistence


def test_an_unknown_persistence_is_refused():
    with pytest.raises(ValueError, match="off, everysec, always"):
        Server(persistence="sometimes").__enter__()


def test_a_process_is_held_to_a_part_of_a_core_or_not_at_all():
    spin = [sys.executable, "-c", "while True: pass"]
    groups = set(CONTROL_GROUPS.rglob("benchmark-*"))
    with Process(spin, log=Path(os.devnull), patience=0.1) as spinning:
        assert wait_until(lambda: cpu_seconds(spinning.pid) > 0.2, 20)
        home = Path(f"/proc/{spinning.pid}/cgroup").read_text()
        # Who may make no control group is told, and nothing is left of the attempt.
        with suppress(CannotHold), held_to(0.2, [spinning.pid]):
            began, used = time.monotonic(), cpu_seconds(spinning.pid)
            assert wait_until(lambda: cpu_seconds(spinning.pid) - used > 0.1, 20)
            # The first of its quotas may end at once, and of the last one all may be used.
            assert cpu_seconds(spinning.pid) - used < 0.2 * (time.monotonic() - began) + 0.02
        assert Path(f"/proc/{spinning.pid}/cgroup").read_text() == home
    assert set(CONTROL_GROUPS.rglob("benchmark-*")) == groups


def test_how_long_a_process_waited_for_a_core():
    spin = [sys.executable, "-c", "while True: pass"]
    cores = os.cpu_count() or 1
    with ExitStack() as stack:
        spinning = [
            stack.enter_context(Process(spin, log=Path(os.devnull), patience=0.1)) for _ in range(2 * cores)
        ]  # fmt: skip
        assert wait_until(lambda: sum(core_waits(each.pid) for each in spinning) > 0.1, 20)
    assert core_waits(2**22 + 1) == 0.0  # no process has this number
