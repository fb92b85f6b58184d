"""The pytest plugin: each fixture is the function of its name, on a store of the test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .isolation import JobStore


@pytest.fixture(scope="session")
def job_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the server that tests use, "" for the one of the settings; override it to use another.

    A Valkey of this test run's own when the ``embedded`` extra is installed and the environment has no REDIS_URL.
    """
    from .server import EmbeddedServer, is_installed

    if os.environ.get("REDIS_URL") or not is_installed():
        yield ""
    else:
        with EmbeddedServer(tmp_path_factory.mktemp("valkey")) as server:
            yield server.url


@pytest.fixture
def job_store(job_server: str) -> Iterator[JobStore]:
    """An empty store of the test's own, for every channel layer of this package that the settings have."""
    from .isolation import isolated

    with isolated(job_server) as store:
        yield store


@pytest.fixture
def run_until_idle(job_store: JobStore) -> Callable[..., Any]:
    """``run_until_idle(*channels)``: run jobs; see retrying.testing.running. For sync tests."""
    from .running import run_until_idle

    return run_until_idle


@pytest.fixture
def arun_until_idle(job_store: JobStore) -> Callable[..., Any]:
    """``await arun_until_idle(*channels)``: run jobs; see retrying.testing.running. For async tests."""
    from .running import arun_until_idle

    return arun_until_idle


@pytest.fixture
def advance(job_store: JobStore) -> Callable[..., Any]:
    """``advance(seconds)``: let time pass for jobs; see retrying.testing.clock."""
    from .clock import advance

    return advance


@pytest.fixture
def enqueued(job_store: JobStore) -> Callable[..., Any]:
    """``enqueued(channel)``: messages that wait; see retrying.testing.queues."""
    from .queues import enqueued

    return enqueued


@pytest.fixture
def assert_enqueued(job_store: JobStore) -> Callable[..., Any]:
    """``assert_enqueued(channel, type=..., count=..., **fields)``; see retrying.testing.queues."""
    from .queues import assert_enqueued

    return assert_enqueued


@pytest.fixture
def dead_letters(job_store: JobStore) -> Callable[..., Any]:
    """``dead_letters(channel)``: jobs that were given up; see retrying.testing.queues."""
    from .queues import dead_letters

    return dead_letters
