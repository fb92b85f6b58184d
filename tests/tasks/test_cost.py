"""A task costs at most a quarter more than the same work as a plain consumer message."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.processes import ROOT


@pytest.mark.long
@pytest.mark.alone
def test_a_task_costs_at_most_a_quarter_more_than_a_message(redis_url: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.tasks.cost", redis_url],
        check=True, capture_output=True, text=True, cwd=ROOT, timeout=100,
    )  # fmt: skip
    cost = json.loads(ran.stdout)
    print(f"microseconds of CPU time per job: {cost}")
    assert cost["task"] <= 1.25 * cost["message"]
    assert cost["sync task"] <= 1.25 * cost["sync message"]
