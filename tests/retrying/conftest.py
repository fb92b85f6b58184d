"""Short delays for the tests of the retry layer, and a store of their own for those of its scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from retrying.store import Limits, Store

#: Longer than a busy machine lets a worker wait for its turn: who loses a lease by that runs a job twice.
LEASE = 10.0
SWEEP = 0.3

QUICK: dict[str, Any] = {
    "LEASE_SECONDS": LEASE,
    "SWEEP_SECONDS": SWEEP,
    "POLL_SECONDS": 0.5,
    "DEFAULT_POLICY": {"max_retries": 2, "backoff": 0.05},
}


@pytest.fixture(autouse=True)
def _quick(settings: Any) -> None:
    settings.RETRYING = QUICK


@pytest.fixture
def _short_lease(_quick: None, settings: Any) -> None:
    """Where a lease is to end, or to be renewed often."""
    settings.RETRYING = {**QUICK, "LEASE_SECONDS": 2.0}


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    """The scripts, without Django. Leases and sweeps are long: what time does, a test says itself."""
    found = Store({"address": redis_url}, prefix="retrying:test", limits=Limits(lease=60, sweep=3600))
    yield found
    found.connections.close()
