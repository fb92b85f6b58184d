"""BENCH_LAYER says whose channel layer: `retrying` (default) or `channels`."""

import os

import django

SECRET_KEY = "for benchmarks only"  # noqa: S105
USE_TZ = True
ASGI_APPLICATION = "benchmarks.site.asgi.application"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "WARNING"},
    "loggers": {"django.tasks": {"level": "ERROR"}},  # as the peers' logs
}

if os.environ.get("BENCH_LAYER") == "channels":
    INSTALLED_APPS = ["channels", "benchmarks.site"]
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {
                # Without socket_timeout an idle plain worker dies after 5 s with redis-py >= 8.
                "hosts": [{"address": os.environ["REDIS_URL"], "socket_timeout": None}],
                # It refuses or drops what is more, or older than a minute, by default.
                "capacity": 10_000_000,
                "expiry": 3600,
            },
        }
    }
else:
    INSTALLED_APPS = ["retrying", "channels", "benchmarks.site", *(["django_tasks"] if django.VERSION < (6,) else [])]
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "retrying.layers.RetryingChannelLayer",
            "CONFIG": {"hosts": [os.environ["REDIS_URL"]]},
        }
    }
    TASKS = {
        "default": {
            "BACKEND": "retrying.backends.RetryingBackend",
            "QUEUES": ["default"],
            "OPTIONS": {"RESULT_TTL": 0},  # nobody reads the result of a no-op; the peers keep none either
        }
    }
    RETRYING = {"LEASE_SECONDS": float(os.environ["BENCH_LEASE"])} if "BENCH_LEASE" in os.environ else {}
    if "BENCH_SWEEP" in os.environ:
        RETRYING["SWEEP_SECONDS"] = float(os.environ["BENCH_SWEEP"])
