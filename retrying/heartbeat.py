"""Signs of life for probes that must not import the project or dial Redis: two files."""

from __future__ import annotations

import logging
import os
import resource
import sys
from pathlib import Path

logger = logging.getLogger("retrying.worker")


def ready_file(file: Path) -> Path:
    """The second file of a heartbeat."""
    return file.with_name(file.name + ".ready")


class Heartbeat:
    """``file`` is touched while the event loop lives; ``file.ready`` exists while every channel is consumed.

    Liveness probe: ``file`` is younger than, say, 30 s. Readiness probe: ``file.ready`` exists.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._ready = ready_file(file)
        self._failing = False

    def beat(self, *, ready: bool) -> None:
        """Never raises: a full disk is for the probes to notice, while the worker goes on."""
        try:
            self._file.touch()
            if ready:
                self._ready.touch()
            else:
                self._ready.unlink(missing_ok=True)
        except OSError as error:
            if not self._failing:
                logger.error("%s can't be written: %s; the worker goes on", self._file, error)  # noqa: TRY400
            self._failing = True
        else:
            self._failing = False

    def end(self) -> None:
        self._ready.unlink(missing_ok=True)
        self._file.unlink(missing_ok=True)


def memory_mib() -> float:
    """Resident memory of this process now (where /proc has it; else its peak), in MiB."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
    return pages * os.sysconf("SC_PAGE_SIZE") / (1024 * 1024)
