"""Full garbage collections that do not stop a server of many sockets.

Python looks for cycles of garbage from time to time among all objects, and nothing else runs meanwhile: with 5,500
sockets in daphne that is a million objects and a second, in which no browser hears anything. Nearly all of them are
still needed, as they were the time before.
"""

from __future__ import annotations

import gc
import sys
import time
from typing import Any

#: Objects whose full collection nobody notices (about a hundredth of a second each 10,000).
FEW = 100_000
#: Seconds between two counts of the objects that are left out: counting takes some milliseconds itself.
COUNT_SECONDS = 30.0


def keep_pauses_short() -> None:
    """Leave what has outlived a full collection out of the next ones, until it has doubled; call it in ``asgi.py``.

    Cycles that become garbage among what is left out stay in memory until then: at most as much again as what is in
    use. It concerns the whole process, so it is for the project to decide. From Python 3.14 on it does nothing: there
    a collection is done in small steps.
    """
    if sys.version_info < (3, 14) and _sparing not in gc.callbacks:
        gc.callbacks.append(_sparing)


class Sparing:
    """Called by Python before ("start") and after ("stop") each collection."""

    def __init__(self) -> None:
        self.counted_at = 0.0
        self._kept = 0  # objects that outlived the last look at everything

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        if info["generation"] != 2:
            return
        if phase == "stop":
            gc.freeze()
            self._kept = self._kept or gc.get_freeze_count()
        elif time.monotonic() - self.counted_at >= COUNT_SECONDS:
            self.counted_at = time.monotonic()
            if gc.get_freeze_count() > 2 * max(self._kept, FEW):
                self._kept = 0
                gc.unfreeze()


_sparing = Sparing()
