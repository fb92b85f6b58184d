"""``python -m benchmarks.instructions [JOBS]``: instructions of the worker's process for one no-op job, by C function.

valgrind's callgrind counts them: the same on a busy machine as on a quiet one, so a change of a hundredth shows. What
the worker needs to start is taken off: it runs twice, with some jobs and with three times as many.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import django

from .environments import ROOT
from .measure import Server
from .workloads import WORKLOADS, work

#: The channel that each workload's jobs wait in.
CHANNELS = {"BackgroundConsumer": "noop-direct", "async task": "tasks.default", "AsyncConsumer": "noop"}
CONCURRENCY = 100
JOBS = 500
#: Functions that are named; the rest is one line.
NAMED = 16
#: A line of callgrind_annotate: the count, the source file, the function, and at times the library.
LINE = re.compile(r"^\s*([\d,]+)\s+\S*?:(\S.*?)(?: \[\S+\])?$", re.MULTILINE)


def prepared() -> None:
    """Django, with what `Server` has in the environment."""
    django.setup()
    logging.getLogger("retrying").addHandler(logging.NullHandler())
    logging.getLogger("django.tasks").setLevel(logging.ERROR)  # as in `make bench`: else each task makes two records


def tool(name: str) -> str:
    if found := shutil.which(name):
        return found
    raise SystemExit(f"there is no {name} here; on Debian: apt-get install valgrind")


def counted(workload: str, jobs: int) -> Counter[str]:
    """Instructions by function, of a worker that runs so many jobs, which wait already."""
    with tempfile.TemporaryDirectory(prefix="instructions-") as directory:
        out = Path(directory, "callgrind.out")
        subprocess.run(
            [tool("valgrind"), "--tool=callgrind", f"--callgrind-out-file={out}", sys.executable, "-W", "ignore", "-m",
             "benchmarks.instructions", CHANNELS[workload], str(jobs)],
            check=True, cwd=ROOT, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        command = [tool("callgrind_annotate"), "--threshold=100", "--auto=no", "--show-percs=no", str(out)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return read(told)


def read(annotated: str) -> Counter[str]:
    """What callgrind_annotate says; steps of a recursion count as one function."""
    found: Counter[str] = Counter()
    for count, function in LINE.findall(annotated):
        found[re.sub(r"'\d+$", "", function)] += int(count.replace(",", ""))
    return found


def of_a_job(workload: str, jobs: int) -> Mapping[str, float]:
    prepare = next(each.prepare for each in WORKLOADS if each.name == workload)
    few, many = jobs, 3 * jobs
    counts = []
    for number in (few, many):
        prepare(number)
        counts.append(counted(workload, number))
    return {key: (counts[1][key] - counts[0][key]) / (many - few) for key in counts[1]}


def main(jobs: int) -> None:
    with Server() as server:
        os.environ.update(
            DJANGO_SETTINGS_MODULE="benchmarks.noop.settings", REDIS_URL=server.url,
            SWEEP_SECONDS="600", LEASE_SECONDS="3600", PYTHONHASHSEED="0",
        )  # fmt: skip
        prepared()
        for workload in CHANNELS:
            found = of_a_job(workload, jobs)
            whole = sum(found.values())
            print(f"\n{workload}: {whole:,.0f} instructions a job")
            largest = sorted(found.items(), key=lambda item: -item[1])[:NAMED]
            for function, count in largest:
                print(f"{count:10,.0f}  {count / whole:5.1%}  {function}")
            print(f"{whole - sum(count for _, count in largest):10,.0f}  the others")


if __name__ == "__main__":
    if len(sys.argv) == 3:  # under callgrind
        prepared()
        work(sys.argv[1], CONCURRENCY, int(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else JOBS)
