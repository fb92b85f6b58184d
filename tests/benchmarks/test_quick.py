"""The guard against jobs that become dearer says what grew, and nothing when nothing did."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from benchmarks.quick import COMMITTED, PYTHON, Cost, grown
from benchmarks.workloads import WORKLOADS

Figures = dict[str, dict[str, Any]]


@pytest.fixture
def committed() -> Figures:
    return {workload.name: {"round trips": 1.0, "commands": 7.0, "turns": {PYTHON: 100.0}} for workload in WORKLOADS}


@pytest.fixture
def found(committed: Figures) -> Figures:
    return copy.deepcopy(committed)


def test_of_several_rounds_the_least_counts_and_the_median_of_processor_time() -> None:
    cost = Cost()
    for trips, commands, turns in ((0.05, 7.02, 0.2449), (0.03, 7.03, 0.1), (0.04, 7.01, 0.9)):
        cost.add(trips, commands, turns)
    assert cost.figures() == {"round trips": 0.03, "commands": 7.01, "turns": {PYTHON: 0.245}}


def test_nothing_grew(found: Figures, committed: Figures) -> None:
    assert grown(found, committed, WORKLOADS) == {}


def test_what_became_cheaper_is_welcome(found: Figures, committed: Figures) -> None:
    found["enqueue_many"] = {"round trips": 0.1, "commands": 1.0, "turns": {PYTHON: 1.0}}
    assert grown(found, committed, WORKLOADS) == {}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("round trips", 2.0, "round trips of a job grew from 1 to 2 (allowed: 1.002)"),
        ("commands", 8.0, "commands of a job grew from 7 to 8 (allowed: 7.026)"),
        ("turns", {PYTHON: 126.0}, "turns of processor time of a job grew from 100 to 126 (allowed: 125)"),
    ],
)
def test_what_grew_is_told(found: Figures, committed: Figures, name: str, value: Any, said: str) -> None:
    found["enqueue_many"][name] = value
    assert grown(found, committed, WORKLOADS) == {"enqueue_many": [said]}


def test_a_quarter_more_processor_time_may_be_the_machine(found: Figures, committed: Figures) -> None:
    found["enqueue_many"]["turns"] = {PYTHON: 124.9}
    assert grown(found, committed, WORKLOADS) == {}


def test_where_threads_share_trips_their_number_varies(found: Figures, committed: Figures) -> None:
    found["SyncConsumer"] |= {"round trips": 1.4, "commands": 7.5}
    assert grown(found, committed, WORKLOADS) == {}
    found["SyncConsumer"]["round trips"] = 1.6
    assert re.match("round trips of a job grew", grown(found, committed, WORKLOADS)["SyncConsumer"][0])


def test_a_python_without_figures_is_held_to_the_counts(found: Figures, committed: Figures) -> None:
    for figures in committed.values():
        figures["turns"] = {"3.10": 1.0}
    assert grown(found, committed, WORKLOADS) == {}
    found["enqueue_many"]["round trips"] = 2.0
    assert list(grown(found, committed, WORKLOADS)) == ["enqueue_many"]


def test_a_workload_without_figures_is_told(found: Figures, committed: Figures) -> None:
    del committed["SyncConsumer"]
    assert grown(found, committed, WORKLOADS) == {"SyncConsumer": ["has no committed figures"]}


def test_every_workload_has_committed_figures() -> None:
    assert json.loads(COMMITTED.read_text()).keys() == {workload.name for workload in WORKLOADS}
