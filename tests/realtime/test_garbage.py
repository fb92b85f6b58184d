"""What full garbage collections look at in a process that asked for short pauses."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, time, weakref
from realtime import garbage

class Node:
    def __init__(self):
        self.me = self
def counted():
    garbage._sparing.counted_at = time.monotonic() - 2 * garbage.COUNT_SECONDS  # as if the last count were long ago

garbage.FEW = 1000
garbage.keep_pauses_short(); garbage.keep_pauses_short()
gc.disable()  # collections come only where this says so
"""


def run(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_what_is_in_use_is_looked_at_once() -> None:
    first, second, new = run("""
kept = [Node() for _ in range(100_000)]
gc.collect(); print(len(gc.get_objects(2)))
gc.collect(); print(len(gc.get_objects(2)))
born = weakref.ref(Node())
gc.collect(); print(born() is None)
""")
    assert max(int(first), int(second)) < 1000
    assert new == "True", "garbage of the time since is collected as ever"


def test_garbage_among_it_goes_once_it_has_doubled() -> None:
    kept, doubled = run("""
gc.collect()
base = gc.get_freeze_count()
nodes = [Node() for _ in range(base // 2)]
one = weakref.ref(nodes[0])
gc.collect()
nodes.clear()
counted(); gc.collect(); print(one() is not None)
more = [Node() for _ in range(2 * base)]
gc.collect(); counted(); gc.collect(); print(one() is None)
""")
    assert (kept, doubled) == ("True", "True")
