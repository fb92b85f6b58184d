"""The settings of the workers that the fault tests start; what varies comes from the environment."""

import importlib
import os
import time
from dataclasses import replace

from tests.plain.durable_settings import *  # noqa: F403
from tests.plain.durable_settings import RETRYING

ASGI_APPLICATION = "tests.faults.work.application"
RETRYING |= {
    "DEFAULT_POLICY": {"max_retries": 5, "backoff": float(os.environ.get("BACKOFF", "0.2"))},
    "TOPIC_MAX_EVENTS": 20_000,
    "POLL_SECONDS": 1.0,
}

if skew := float(os.environ.get("CLOCK_SKEW", "0")):
    # This process' wall clock is wrong by so many seconds; the monotonic clock is not, as on a real machine.
    _wall = time.time
    _began = time.monotonic()
    _jumps = os.environ.get("CLOCK_JUMPS")  # the error's sign changes each second

    def _wrong() -> float:
        sign = -1 if _jumps and int(time.monotonic() - _began) % 2 else 1
        return _wall() + sign * skew

    time.time = _wrong

if newer := os.environ.get("JOB_FORMAT"):
    # A worker of a later release: the same scripts, but they know a later format of a job.
    _scripts = importlib.import_module("retrying.store.scripts")
    _store = importlib.import_module("retrying.store")
    _script = _scripts.script

    def _of_later_release(name: str) -> object:
        found = _script(name)
        text = found.text.replace("local FORMAT = 1 ", f"local FORMAT = {int(newer)} ")
        if text == found.text:
            raise RuntimeError("common.lua no longer says 'local FORMAT = 1'")
        return replace(found, text=text, sha=_scripts.hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    _store.script = _of_later_release
