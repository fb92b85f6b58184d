"""The sample app, and short delays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import project.insights.tasks  # noqa: F401  (declared with the site's queues, before a test has others)
from tests.tasks.sample import tasks

RETRYING: dict[str, Any] = {
    "LEASE_SECONDS": 10.0,
    "SWEEP_SECONDS": 0.2,
    "POLL_SECONDS": 0.5,
    "DEFAULT_POLICY": {"max_retries": 2, "backoff": 5},
}


@pytest.fixture(autouse=True)
def _sample(settings: Any) -> Iterator[None]:
    settings.RETRYING = RETRYING
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "tests.tasks.sample"]
    tasks.RAN.clear()
    yield
    tasks.RAN.clear()
