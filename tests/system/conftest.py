"""Signals as a person's terminal has them, however the test run itself was started."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _signals_are_heard() -> Iterator[None]:
    """`nohup make test &` ignores SIGHUP and SIGINT, and every process started from it would, too."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT)}
    for number, handler in before.items():
        if handler is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL if number is signal.SIGHUP else signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
