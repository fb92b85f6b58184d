"""What callgrind_annotate says, as it is read."""

from __future__ import annotations

from benchmarks.instructions import read

ANNOTATED = """\
--------------------------------------------------------------------------------
Profile data file 'callgrind.out' (creator: callgrind-3.19.0)
--------------------------------------------------------------------------------
I1 cache:
Timerange: Basic block 0 - 1234
Events recorded:  Ir
--------------------------------------------------------------------------------
Ir
--------------------------------------------------------------------------------
1,002,003  PROGRAM TOTALS

--------------------------------------------------------------------------------
Ir       file:function
--------------------------------------------------------------------------------
700,000  ???:_PyEval_EvalFrameDefault'2 [/usr/lib/libpython3.13.so.1.0]
300,000  ???:_PyEval_EvalFrameDefault [/usr/lib/libpython3.13.so.1.0]
  2,000  ???:malloc [/usr/lib/x86_64-linux-gnu/libc.so.6]
      3  ???:0x0000000000001100 [???]
"""


def test_every_function_is_counted_once_and_nothing_else() -> None:
    assert read(ANNOTATED) == {
        "_PyEval_EvalFrameDefault": 1_000_000,
        "malloc": 2_000,
        "0x0000000000001100": 3,
    }
