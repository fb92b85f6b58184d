"""The same project made durable: two lines change."""

import os

from tests.plain.settings import *  # noqa: F403

INSTALLED_APPS = ["retrying", "channels"]
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "retrying.layers.RetryingChannelLayer",
        "CONFIG": {"hosts": [os.environ["REDIS_URL"]]},
    }
}
RETRYING = {
    "LEASE_SECONDS": float(os.environ.get("LEASE_SECONDS", "1")),
    "MAX_RESCUES": int(os.environ.get("MAX_RESCUES", "3")),
    "RECYCLE_AFTER_JOBS": int(os.environ.get("RECYCLE_AFTER_JOBS", "0")),
    "RECYCLE_ABOVE_MIB": int(os.environ.get("RECYCLE_ABOVE_MIB", "0")),
    "SWEEP_SECONDS": float(os.environ.get("SWEEP_SECONDS", "0.3")),
    "DEFAULT_POLICY": {"max_retries": 2, "backoff": 0.2},
}
