"""Servers to hurt, and the table of docs/guarantees.md, written by the run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from project.development.valkey import Valkey
from tests.faults.proxy import Proxy
from tests.faults.report import Results, write_tables
from tests.faults.rig import Rig


@pytest.fixture
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A server of the test's own, with an append-only file, and what works on it. See both_dispatches."""
    dispatch = getattr(request, "param", "")
    with Valkey(tmp_path / "valkey", appendonly=True) as server, Rig(tmp_path, server, dispatch=dispatch) as found:
        yield found


#: The test is run with a consumer behind Channels' dispatch, and with one that the worker calls directly.
both_dispatches = pytest.mark.parametrize("rig", ["channels", "direct"], indirect=True)


Figure = Callable[[str], None]


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Say what was measured: for the table of numbers in docs/guarantees.md."""

    def say(text: str) -> None:
        record_property("figure", text)
        print(text)

    return say


@pytest.fixture
def proxy(rig: Rig) -> Iterator[Proxy]:
    """Between the rig's server and whoever dials ``proxy.url``."""
    with Proxy(rig.server.port) as found:
        yield found


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("WRITE_GUARANTEES"):  # no option: this file is read too late for one when all tests are run
        config.pluginmanager.register(_Reporter())


class _Reporter:
    """Collects how the tests of the catalogue ended."""

    def __init__(self) -> None:
        self.results = Results()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.failed:
            figures = [str(value) for name, value in report.user_properties if name == "figure"]
            self.results.add(report.nodeid, report.outcome, report.duration, figures)

    def pytest_sessionfinish(self) -> None:
        write_tables(self.results)
