"""What sends jobs, the lines that jobs leave, and the rate that is taken from them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bench import Failed, Sending
from benchmarks.cells import rate_together
from benchmarks.effects import LINE_BYTES, Effect, Effects
from benchmarks.roles import Plan, Sender, send_all
from tests.processes import ROOT

RECORD = "from benchmarks.effects import record; record(7); record(8, 'd')"


def test_a_line_says_which_worker_and_which_job(tmp_path: Path) -> None:
    effects = Effects(tmp_path / "effects")
    for worker in ("0", "3"):
        env = {**os.environ, "EFFECTS": str(effects.path), "BENCH_WORKER": worker}
        subprocess.run([sys.executable, "-c", RECORD], check=True, cwd=ROOT, env=env, timeout=30)
    assert effects.path.stat().st_size == 4 * LINE_BYTES
    assert [(each.kind, each.worker, each.n) for each in effects] == [
        ("s", 0, 7), ("d", 0, 8), ("s", 3, 7), ("d", 3, 8),
    ]  # fmt: skip
    times = [each.at for each in effects]
    assert times == sorted(times)
    assert effects.workers() == {0, 3}
    effects.clear()
    assert (effects.count(), effects.workers()) == (0, set())


def lines(worker: int, *times: float) -> list[Effect]:
    return [Effect("s", worker, n, at) for n, at in enumerate(times)]


def test_a_rate_is_that_of_the_time_in_which_all_workers_run_jobs() -> None:
    assert rate_together(lines(0, 1, 2, 3), 3) == 1.0
    # The second starts 10 s later and has its last job 4 s after the first one's: neither counts.
    early, late = lines(0, *range(21)), lines(1, *range(10, 25))
    assert rate_together([*early, *late], 36) == 2.1  # 22 lines in 10 s
    # Never at the same time: all of it.
    assert rate_together([*lines(0, 0, 1), *lines(1, 3, 4)], 4) == 0.75
    for few in ([], lines(0, 1)):
        with pytest.raises(Failed, match="of 9 jobs"):
            rate_together(few, 9)


def test_paced_sends_have_the_same_uneven_pauses_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[list[float]] = []
    for _ in range(2):
        slept.append([])
        monkeypatch.setattr("benchmarks.roles.time.sleep", slept[-1].append)
        plan = Plan("paced", "noop", 200, 10.0, 1, 0.004, str(tmp_path / "times"))
        assert send_all(plan, Sender(lambda kind, n: None))["all"] == 200
    assert slept[0] == slept[1]
    assert 0.003 <= min(slept[0]) < 0.0031
    assert 0.0049 < max(slept[0]) <= 0.005


class Others:
    """What they do in their turns, by a clock of its own: 100 seconds each time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turns = 0

    def readline(self) -> str:
        self.turns += 1
        self.now += 100
        return "\n"

    def one(self, kind: str, n: int) -> None:
        """A send of a second."""
        self.now += 1


def test_the_turns_of_others_are_not_in_a_senders_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    others = Others()
    monkeypatch.setattr(sys, "stdin", others)
    monkeypatch.setattr("benchmarks.roles.time.monotonic", lambda: others.now)
    told = send_all(Plan("one", "noop", 1000, 30.0, 1, 0.0, "", turn=9.0), Sender(others.one))
    assert (told["timed"], told["seconds"]) == (31, 31.0)
    assert others.turns == 1 + 3, "each of ten sends"
    assert capsys.readouterr().out == 4 * "turn\n"


def test_a_sender_ends_with_whom_gives_it_its_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Others, "readline", lambda self: "")
    monkeypatch.setattr(sys, "stdin", Others())
    with pytest.raises(SystemExit, match="nobody gives"):
        send_all(Plan("one", "noop", 10, 1.0, 1, 0.0, "", turn=0.01), Sender(lambda kind, n: None))


IN_TURNS = """
for line in ("hello", "turn", "turn"):
    print(line, flush=True)
    line == "turn" and input()
print('{"all": 3}')
"""


def start(code: str, log: Path) -> subprocess.Popen[str]:
    with log.open("wb") as errors:
        return subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )


def test_a_sender_is_followed_turn_by_turn(tmp_path: Path) -> None:
    with start(IN_TURNS, tmp_path / "log") as process:
        sending = Sending(process, tmp_path / "log")
        assert sending.waits()
        sending.go()
        assert sending.waits()
        sending.go()
        assert not sending.waits()
        assert sending.told() == {"all": 3}


def test_what_a_failed_sender_printed_is_told(tmp_path: Path) -> None:
    with start("raise SystemExit('no server there')", tmp_path / "log") as process:
        sending = Sending(process, tmp_path / "log")
        sending.go()  # it may have ended
        with pytest.raises(Failed, match="ended with 1: no server there"):
            sending.told()
