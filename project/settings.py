"""Settings of the site: safe as they are; `make run` turns DEBUG on for one's own machine.

Environment: DJANGO_DEBUG (0), DJANGO_SECRET_KEY (else kept in var/secret_key), ALLOWED_HOSTS (comma separated),
REDIS_URL, DATABASE_URL, VAR_DIR, SITE_ORIGIN, WEBHOOK_RECEIVER_ORIGIN (only with DEBUG), FEED_URL, FUNCTIONS_URL,
LEASE_SECONDS, SWEEP_SECONDS, DELIVERIES_BACKOFF_SECONDS, DELIVERIES_TIMEOUT_SECONDS, STREAMING_BACKOFF_SECONDS,
STREAMING_WORD_SECONDS, BULK_RATE.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import dj_database_url
import django

from project.environment import Environment, kept_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(os.environ.get("VAR_DIR") or BASE_DIR / "var").resolve()
environment = Environment(VAR_DIR / "environment")

DEBUG = environment.flag("DJANGO_DEBUG")
SECRET_KEY = environment.text("DJANGO_SECRET_KEY") or kept_secret_key(VAR_DIR / "secret_key")
ALLOWED_HOSTS = environment.words("ALLOWED_HOSTS") or ["localhost", "127.0.0.1", "[::1]"]
REDIS_URL = environment.text("REDIS_URL", "redis://127.0.0.1:6379/0")

INSTALLED_APPS = [
    "retrying",  # before channels: its runworker wins
    "realtime",
    "daphne",
    "channels",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "csp",
    "project.webhooks",
    "project.streaming",
    "project.insights",
]
if django.VERSION < (6,):
    INSTALLED_APPS.append("django_tasks")  # the backport of Django's tasks

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ASGI_APPLICATION = "asgi.application"
ROOT_URLCONF = "project.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# Background work

CHANNEL_LAYERS = {
    "default": {"BACKEND": "retrying.layers.RetryingChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}},
}

TASKS = {"default": {"BACKEND": "retrying.backends.RetryingBackend", "QUEUES": ["default", "bulk", "reports"]}}

#: Cap of one HTTP call to a receiver, in seconds, from the look-up of its name to the last byte read.
WEBHOOK_TIMEOUT_SECONDS = environment.seconds("DELIVERIES_TIMEOUT_SECONDS", 20)

_deliveries: dict[str, Any] = {
    "max_retries": 8,
    # Longer than the call's own cap: the end of the call is what gets recorded, not the end of the attempt.
    "timeout": WEBHOOK_TIMEOUT_SECONDS + 10,
    "concurrency": 50,
    "backoff": {"base": 10, "factor": 2, "cap": 3600},
}
if environment.text("DELIVERIES_BACKOFF_SECONDS"):
    _deliveries["backoff"] = environment.seconds("DELIVERIES_BACKOFF_SECONDS", 10)

#: Pace of a story, seconds a word.
STREAMING_WORD_SECONDS = environment.seconds("STREAMING_WORD_SECONDS", 0.08)

_stories: dict[str, Any] = {
    "concurrency": 20,
    "timeout": 300,
    "backoff": environment.seconds("STREAMING_BACKOFF_SECONDS", 4),
}

#: Very many small inserts: spread over time, so that everything else on the database goes on as before.
_bulk: dict[str, Any] = {"concurrency": 10, "rate": environment.text("BULK_RATE", "200/s")}

RETRYING: dict[str, Any] = {
    "DEFAULT_POLICY": {"max_retries": 5, "backoff": {"base": 10, "factor": 2, "cap": 3600}},
    "CHANNELS": {
        "deliveries": _deliveries,
        "stories": _stories,
        "tasks.default": {"concurrency": 5},
        "tasks.bulk": _bulk,
    },
    "LEASE_SECONDS": environment.seconds("LEASE_SECONDS", 30),
    "SWEEP_SECONDS": environment.seconds("SWEEP_SECONDS", 5),
}

#: Where people reach the site; goes into sign-in links.
WEBHOOK_RECEIVER_ORIGIN = environment.text("WEBHOOK_RECEIVER_ORIGIN").rstrip("/") if DEBUG else ""
SITE_ORIGIN = (environment.text("SITE_ORIGIN") or WEBHOOK_RECEIVER_ORIGIN or "http://127.0.0.1:8000").rstrip("/")
#: Where project.insights polls and calls functions; "": nowhere. While developing the site stands in for them.
FEED_URL = environment.text("FEED_URL") or (
    f"{WEBHOOK_RECEIVER_ORIGIN}/stand-in/search/repositories" if WEBHOOK_RECEIVER_ORIGIN else ""
)
FUNCTIONS_URL = environment.text("FUNCTIONS_URL") or (
    f"{WEBHOOK_RECEIVER_ORIGIN}/stand-in" if WEBHOOK_RECEIVER_ORIGIN else ""
)
SIGN_IN_LINK_SECONDS = 15 * 60

# Data

DATABASES = {"default": dj_database_url.parse(environment.text("DATABASE_URL", f"sqlite:///{VAR_DIR / 'db.sqlite3'}"))}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # Readers never wait for the writer (WAL); a transaction takes its write lock at its start, so that it waits for
    # its turn instead of failing half-way.
    DATABASES["default"]["OPTIONS"] = {
        "init_command": "PRAGMA journal_mode=WAL",
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
    }
    Path(DATABASES["default"]["NAME"]).parent.mkdir(parents=True, exist_ok=True)

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"

# Security

LOGIN_URL = "sign-in"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not DEBUG
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024

_SELF = "'self'"
_NONE = "'none'"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [_NONE],
        "script-src": [_SELF],
        "style-src": [_SELF],
        "img-src": [_SELF, "data:"],
        "font-src": [_SELF],
        "connect-src": [_SELF],
        "form-action": [_SELF],
        "base-uri": [_NONE],
        "frame-ancestors": [_NONE],
    }
}


def _not_meant(record: logging.LogRecord) -> bool:
    """False for answers that are no errors of the site: "not ready", and what fails because it is to."""
    path = getattr(getattr(record, "request", None), "path", "")
    return not path.startswith(("/readyz", "/receivers/", "/stand-in/"))


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "job": {"()": "retrying.logs.JobContext"},
        "not_meant": {"()": "django.utils.log.CallbackFilter", "callback": _not_meant},
    },
    "formatters": {"line": {"()": "retrying.logs.KeyValueFormatter"}},  # for JSON: retrying.logs.JSONFormatter
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["job"]}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        # They log whole URLs at INFO, and a webhook's URL may hold a secret.
        "httpx": {"level": "WARNING"},
        "httpcore": {"level": "WARNING"},
        # Two lines for each task; the worker has its own.
        "django.tasks": {"level": "WARNING"},
        "django_tasks": {"level": "WARNING"},
        "django": {"level": "INFO"},  # without the handlers that Django gives it: root has one
        "django.request": {"filters": ["not_meant"]},
        # One line for each request is daphne's own access log.
        "django.channels.server": {"level": "WARNING"},
    },
}
