"""The settings of the workers that tick."""

from tests.faults.settings import *  # noqa: F403

ASGI_APPLICATION = "tests.faults.ticking.application"
