"""Wall clocks that are wrong, for whole processes, by libfaketime."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.servers import faketime

HOUR = 3600


class Clock:
    """The wall clock of processes started with ``env``: wrong by ``offset`` seconds, from now on."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.offset = 0
        self.env = {
            "LD_PRELOAD": str(faketime()),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    @property
    def offset(self) -> int:
        return self._offset

    @offset.setter
    def offset(self, seconds: int) -> None:
        self._offset = seconds
        new = self._file.with_suffix(".new")  # never read half-written
        new.write_text(f"{seconds:+d}")
        new.replace(self._file)

    @contextlib.contextmanager
    def jumping(self) -> Iterator[None]:
        """Meanwhile the error changes its sign every 0.7 s."""
        stop = threading.Event()

        def jump() -> None:
            while not stop.wait(0.7):
                self.offset = -self.offset

        thread = threading.Thread(target=jump, name="clock")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
