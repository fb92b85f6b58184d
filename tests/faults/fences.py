"""Break each fence once: ``python -m tests.faults.fences [WORD...]`` (only those whose name has one of the words).

A copy of the tree in a temporary directory is broken in one place at a time, and the tests that should notice must
fail there, each of them; unbroken they must pass. Writes its table into docs/guarantees.md when all of them were tried.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.faults.report import PAGE, between

ROOT = Path(__file__).resolve().parents[2]
#: Seconds for the tests of one fence; what is broken may make them wait for nothing.
PATIENCE = 600
#: In the copy, so that a state that never comes is given up sooner.
SHORTER = ("tests/conftest.py", "PATIENCE = 40.0", "PATIENCE = 15.0")


class Fence(NamedTuple):
    """``old`` stands exactly once in ``file``; with ``new`` in its place the fence is broken. ``tests``: ids."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_STORE = "tests/retrying/test_store.py::test_"
_WORKER = "tests/retrying/test_worker.py::test_"
_LUA = "retrying/store/lua/"

FENCES = (
    Fence(
        "an end is accepted whatever token it shows",
        _LUA + "common.lua",
        "if held[1] == token then",
        "if held[1] then",
        (_STORE + "stale_token_ends_nothing", "tests/retrying/test_model.py::test_the_scripts_do_what_the_model_does"),
    ),
    Fence(
        "a renewal is accepted whatever token it shows",
        _LUA + "renew.lua",
        "if job[1] == token then",
        "if job[1] then",
        (_STORE + "renew_and_emit_are_fenced",),
    ),
    Fence(
        "an event is accepted whatever token it shows",
        _LUA + "emit.lua",
        "if job[1] ~= token then",
        "if not job[1] then",
        (_STORE + "renew_and_emit_are_fenced",),
    ),
    Fence(
        "a repeated end counts again",
        _LUA + "common.lua",
        "call('HSET', JOB .. id, 'token', '', 'settled', token)",
        "call('HSET', JOB .. id, 'settled', token)",
        (_STORE + "an_end_repeated_changes_nothing",),
    ),
    Fence(
        "the job is acknowledged before its handler runs",
        "retrying/slot.py",
        "        self._delivery.set_result(message)\n",
        "        self.lane.hand.handler_ended(attempt, SUCCESS)\n        self._delivery.set_result(message)\n",
        (_WORKER + "retried_until_it_succeeds", "tests/retrying/test_faults.py::test_killed_in_a_handler"),
    ),
    Fence(
        "jobs are rescued whose lease has not ended",
        _LUA + "sweep.lua",
        "ipairs(call('ZRANGE', LEASES, '-inf', now, 'BYSCORE', 'LIMIT', 0, LIMIT))",
        "ipairs(call('ZRANGE', LEASES, '-inf', '+inf', 'BYSCORE', 'LIMIT', 0, LIMIT))",
        (_STORE + "living_lease_is_not_reaped",),
    ),
    Fence(
        "no grace for live workers after the server stalled",
        _LUA + "sweep.lua",
        "if some and now >= grace then",
        "if some then",
        (_STORE + "live_workers_get_time_after_the_server_stalled",),
    ),
    Fence(
        "rescues are not counted",
        _LUA + "sweep.lua",
        "call('HINCRBY', JOB .. id, 'rescues', 1)",
        "call('HINCRBY', JOB .. id, 'rescues', 0)",
        (_STORE + "rescue", _STORE + "poison"),
    ),
    Fence(
        "a job that is done leaves no tombstone",
        _LUA + "claim.lua",
        "call('PSETEX', JOB .. id, tombstone, 'succeeded:' .. held)",
        "call('DEL', JOB .. id)",
        (_STORE + "ack_leaves_a_tombstone_and_nothing_else", _STORE + "same_id_is_known_in_every_state[succeeded]"),
    ),
    Fence(
        "a repeated claim takes other jobs",
        _LUA + "claim.lua",
        "if repeated == '1' then",
        "if repeated == 'never' then",
        (_STORE + "lost_reply_of_a_claim_gives_the_same_jobs",),
    ),
    Fence(
        "a known id is stored again",
        _LUA + "enqueue.lua",
        "if call('EXISTS', JOB .. id) == 1 then",
        "if id == 'never' then",
        (_STORE + "same_id_twice_is_one_job",),
    ),
    Fence(
        "a known id is stored again when it comes alone and without options",
        _LUA + "enqueue.lua",
        "if there < 4 then",
        "if there < 8 then",
        (_STORE + "same_id_is_known_in_every_state",),
    ),
    Fence(
        "a retry begins before it is due",
        _LUA + "common.lua",
        "call('ZRANGE', SCHEDULED, '-inf', now, 'BYSCORE', 'LIMIT', 0, limit)",
        "call('ZRANGE', SCHEDULED, '-inf', '+inf', 'BYSCORE', 'LIMIT', 0, limit)",
        (_STORE + "sweep_promotes",),
    ),
    Fence(
        "a snooze is charged",
        "retrying/store/__init__.py",
        '"failures" if charged else "snoozes"',
        '"failures"',
        (_STORE + "snooze_is_not_charged",),
    ),
    Fence(
        "a job given back goes to the end of the line",
        _LUA + "release.lua",
        "make_ready(id, job[1], job[4])",
        "make_ready(id, job[1], string.format('%.0f', job[4] + 2 ^ 40))",
        (_STORE + "released_job_keeps_its_place",),
    ),
    Fence(
        "an expired job is run",
        _LUA + "claim.lua",
        "elseif expires and not attempt and tonumber(expires) <= now then",
        "elseif expires == 'never' then",
        (_STORE + "expires_before_its_first_attempt",),
    ),
    Fence(
        "a job of a newer format is run",
        _LUA + "claim.lua",
        "elseif tonumber(job[5]) > FORMAT then",
        "elseif job[5] == 'never' then",
        ("tests/retrying/test_consumption.py::test_a_job_of_a_newer_format_is_left_for_a_newer_worker",),
    ),
    Fence(
        "more jobs of a channel run than total_concurrency",
        _LUA + "claim.lua",
        "room = math.min(room, limit - call('ZCARD', LEASES))",
        "room = room + 0",
        ("tests/retrying/test_consumption.py::test_total_concurrency_holds_over_all_workers",),
    ),
    Fence(
        "a full server stores half of a request",
        _LUA + "enqueue.lua",
        "#!lua\n",
        "#!lua flags=allow-oom\n",
        (_STORE + "full_server_refuses_new_jobs_whole",),
    ),
    Fence(
        "a full server can't take a success",
        _LUA + "claim.lua",
        "#!lua flags=allow-oom\n",
        "#!lua\n",
        (_STORE + "full_server_refuses_new_jobs_whole",),
    ),
    Fence(
        "a script that the server forgot is not sent again",
        "retrying/store/__init__.py",
        "self._forgotten = isinstance(error, errors.NoScriptError)",
        "self._forgotten = False",
        (_STORE + "scripts_come_back_after_a_flush",),
    ),
    Fence(
        "a topic begins anew with each event",
        _LUA + "common.lua",
        "entry = string.match(last[1], '^%d+') .. '-*'",
        "entry = '*'",
        (_STORE + "a_topic_tells_the_life_of_its_jobs_without_gaps",),
    ),
    Fence(
        "a topic is never forgotten",
        _LUA + "common.lua",
        "call('PEXPIRE', TOPIC .. topic, ARGV[2])",
        "call('EXISTS', TOPIC .. topic)",
        (_STORE + "every_key_has_a_ttl_or_is_on_the_list",),
    ),
    Fence(
        "a batch of reports is stored again when it is repeated",
        _LUA + "emit.lua",
        "if job[4] ~= said then",
        "if said then",
        (_STORE + "a_repeated_batch_of_reports_is_stored_once",),
    ),
    Fence(
        "jobs that may kill their worker run beside each other",
        _LUA + "common.lua",
        "if job[3] and not has_turn(id) then",
        "if job[3] == 'never' then",
        (_STORE + "suspects_run_apart",),
    ),
    Fence(
        "two jobs hold one unique name",
        _LUA + "common.lua",
        "local id = call('GET', UNIQUE .. name)\n  if id then",
        "local id = call('GET', UNIQUE .. name)\n  if id == 'never' then",
        ("tests/retrying/test_unique.py::test_second_gets_the_first_back_and_writes_nothing",),
    ),
    Fence(
        "a slot of a schedule becomes several jobs",
        _LUA + "slot.lua",
        "if slot > mark and slot <= now then",
        "if slot <= now then",
        ("tests/retrying/test_schedule.py::test_a_slot_is_made_a_job_once",),
    ),
    Fence(
        "more jobs begin than the channel's rate allows",
        _LUA + "claim.lua",
        "room = math.min(room, free)",
        "room = math.min(room, free + 1)",
        ("tests/retrying/test_limits.py::test_never_more_than_the_rate_allows",),
    ),
    Fence(
        "nothing renews leases while a handler blocks the event loop",
        "retrying/worker.py",
        "        renewal.start()\n",
        "        renewal.run = lambda: None\n        renewal.start()\n",
        (_WORKER + "handler_that_blocks_the_event_loop_keeps_its_lease",),
    ),
    Fence(
        "a handler is not told that its lease was lost",
        "retrying/hand.py",
        '        self._interrupt(attempt, "lease lost")\n',
        "",
        (_WORKER + "lost_lease_is_told_to_the_handler_and_its_reports_are_refused",),
    ),
    Fence(
        "a handler that swallows its cancellation has succeeded",
        "retrying/hand.py",
        "            self._settle(attempt, ending_of(attempt, error))\n        self._interrupt(attempt, reason)",
        "        self._interrupt(attempt, reason)",
        (_WORKER + "handler_that_swallows_its_cancellation_has_failed_nevertheless",),
    ),
    Fence(
        "a job whose handler never began is charged",
        "retrying/slot.py",
        "            self.lane.hand.refuse(attempt, Ending(End.RELEASE))  # its handler never began",
        "            self.lane.hand.handler_ended(attempt, self._ending(attempt, error))",
        (_WORKER + "job_whose_handler_never_began_is_given_back_uncharged",),
    ),
    Fence(
        "a worker that stops keeps what it can't end",
        "retrying/lane.py",
        "await self._tell(self.store.release(self.channel, left))",
        "pass",
        (_WORKER + "stop_gives_back_uncharged_what_does_not_end",),
    ),
    Fence(
        "a message that can't be read ends the listener",
        "retrying/intake.py",
        '            problem = f"its message can\'t be decoded: {error}"\n',
        "            raise\n",
        (_WORKER + "bad_messages_end_as_dead_letters_and_the_listener_lives",),
    ),
)


class Broken(Exception):
    """The test run itself is wrong; in words."""


def copy_tree(target: Path) -> None:
    """What git knows of, as it is now."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607  (as found on the PATH)
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    replace(target, *SHORTER)


def replace(tree: Path, file: str, old: str, new: str) -> str:
    """Put ``new`` in the place of ``old``. Returns the whole text that was there. Raises Broken."""
    before = (tree / file).read_text()
    if before.count(old) != 1:
        raise Broken(
            f"{file} should hold this exactly once, it does {before.count(old)} times:\n  {old.strip()}\n"
            "The code has changed: change tests/faults/fences.py with it"
        )
    (tree / file).write_text(before.replace(old, new))
    return before


def run(tree: Path, tests: tuple[str, ...]) -> dict[str, bool]:
    """Run tests (ids, or their beginnings) in the copy: whether each one passed. Raises Broken when none was found."""
    files = sorted({test.split("::")[0] for test in tests})
    try:
        done = subprocess.run(
            [
                sys.executable, "-m", "pytest", "-q", "-rA", "--tb=line", "-p", "no:cacheprovider", "-p", "no:randomly",
                "--timeout=180", *select(tree, files, tests),
            ],
            cwd=tree, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return dict.fromkeys(tests, False)
    found = re.findall(r"^(PASSED|FAILED|ERROR) (\S+::\S+)", done.stdout, re.MULTILINE)
    if not found:
        raise Broken(f"no test ran of {', '.join(tests)}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    results = {}
    for test in tests:
        mine = [outcome for outcome, id in found if id.startswith(test)]
        if not mine:
            raise Broken(f"{test} is no test (any more); it ran: {', '.join(id for _, id in found)}")
        results[test] = all(outcome == "PASSED" for outcome in mine)
    return results


def select(tree: Path, files: list[str], tests: tuple[str, ...]) -> list[str]:
    """The whole ids of the tests that begin so: pytest itself takes no beginnings."""
    chosen = []
    for file in files:
        for name in re.findall(r"^(?:async )?def (test_\w+)", (tree / file).read_text(), re.MULTILINE):
            chosen += [
                test if "[" in test else f"{file}::{name}"
                for test in tests
                if f"{file}::{name}".startswith(test.split("[")[0])
            ]
    return list(dict.fromkeys(chosen))


def table(rows: list[tuple[Fence, list[str]]]) -> str:
    day = f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}"
    lines = [f"{len(rows)} fences, {day}:", "", "| Broken on purpose | in | Tests that fail then |", "|---|---|---|"]
    for fence, tests in rows:
        names = ", ".join(f"`{test.split('::')[1]}`" for test in tests)
        lines.append(f"| {fence.name} | [{Path(fence.file).name}](../{fence.file}) | {names} |")
    return "\n".join(lines)


def main(words: list[str]) -> int:
    fences = [fence for fence in FENCES if not words or any(word in fence.name for word in words)]
    bad = []
    with tempfile.TemporaryDirectory(prefix="fences-") as directory:
        tree = Path(directory)
        copy_tree(tree)
        whole = run(tree, tuple(dict.fromkeys(test for fence in fences for test in fence.tests)))
        failed = tuple(test for test, passed in whole.items() if not passed)
        if failed and not all(run(tree, failed).values()):  # once more: the machine may be busy
            raise Broken(f"these fail with nothing broken: {', '.join(failed)}")
        print(f"unbroken: {len(whole)} tests pass")
        for fence in fences:
            before = replace(tree, fence.file, fence.old, fence.new)
            unnoticed = [test for test, passed in run(tree, fence.tests).items() if passed]
            (tree / fence.file).write_text(before)
            print(f"{f'NOT NOTICED by {unnoticed}' if unnoticed else 'noticed'}: {fence.name}", flush=True)
            bad += unnoticed
    if bad:
        return 1
    if not words:
        PAGE.write_text(between(PAGE.read_text(), "fences", table([(fence, list(fence.tests)) for fence in fences])))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Broken as error:
        sys.exit(f"fences: {error}")
