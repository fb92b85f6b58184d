"""Start a program that doesn't outlive its parent: `python tether.py PARENT_PID SIGNAL PROGRAM [ARGUMENT...]`.

A supervisor that is killed by SIGKILL can't stop its children, so on Linux the kernel does: the death signal is set
here, in a process of its own that then becomes the program. (Popen's `preexec_fn` could set it too, but would run
Python in a fork of a process that may have threads.) Elsewhere the program is started as it is.
Imports only the standard library: it runs with `python -I -S`.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def tethered(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` as a child that dies with this process.

    By SIGKILL: a part that hangs must go as well, and none of them loses acknowledged work by it.
    """
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(signal.SIGKILL)), *command]


def main(parent: int, death_signal: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        # The parent may have died before the signal was set: then nobody would ever send it.
        if os.getppid() != parent:
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - replacing this process is the purpose


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
