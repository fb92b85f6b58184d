"""The websocket benchmark runs, and with it our consumers in both servers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.processes import ROOT


@pytest.mark.long
def test_our_consumer_and_a_bare_one_in_daphne_and_uvicorn() -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.sockets", "--sockets", "40", "--rounds", "1"],
        check=True, capture_output=True, text=True, cwd=ROOT, timeout=110,
    )  # fmt: skip
    rows = [line for line in ran.stdout.splitlines() if line.startswith(("| daphne", "| uvicorn"))]
    assert [row.count("|") for row in rows] == [6, 6, 6, 6]
    assert {row.partition(",")[2].split()[0] for row in rows} == {"bare", "ours"}
