"""REDIS_URL is the server; SWEEP_SECONDS, LEASE_SECONDS and CHANNELS may be set."""

import os

import django

SECRET_KEY = "for measurements only"  # noqa: S105
USE_TZ = True
INSTALLED_APPS = ["retrying", "channels", "benchmarks.noop", *(["django_tasks"] if django.VERSION < (6,) else [])]
ASGI_APPLICATION = "benchmarks.noop.asgi.application"
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "retrying.layers.RetryingChannelLayer",
        "CONFIG": {"hosts": [os.environ["REDIS_URL"]]},
    }
}
TASKS = {"default": {"BACKEND": "retrying.backends.RetryingBackend"}}
RETRYING = {
    "LEASE_SECONDS": float(os.environ.get("LEASE_SECONDS", "30")),
    "SWEEP_SECONDS": float(os.environ.get("SWEEP_SECONDS", "5")),
    "DEFAULT_POLICY": {"max_retries": 2, "backoff": 60},
}
