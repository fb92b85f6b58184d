"""The plain project's durable settings, with this folder's handlers."""

import os

from tests.plain.durable_settings import *  # noqa: F403
from tests.plain.durable_settings import RETRYING

ASGI_APPLICATION = "tests.retrying.faulty.asgi.application"
RETRYING = {**RETRYING, "HARD_TIMEOUT_SECONDS": float(os.environ.get("HARD_TIMEOUT_SECONDS", "3600"))}
