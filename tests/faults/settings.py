"""The settings of the workers that the fault tests start; what varies comes from the environment."""

import importlib
import os
from dataclasses import replace

from tests.plain.durable_settings import *  # noqa: F403
from tests.plain.durable_settings import RETRYING

ASGI_APPLICATION = "tests.faults.work.application"
RETRYING |= {
    "DEFAULT_POLICY": {"max_retries": 5, "backoff": float(os.environ.get("BACKOFF", "0.2"))},
    "TOPIC_MAX_EVENTS": 500_000,  # the checks read what happened from there
    "POLL_SECONDS": 1.0,
    "DEDUP_SECONDS": float(os.environ.get("DEDUP_SECONDS", "300")),
}

if newer := os.environ.get("JOB_FORMAT"):
    # A worker of a later release: the same scripts, but they know a later format of a job.
    _scripts = importlib.import_module("retrying.store.scripts")
    _store = importlib.import_module("retrying.store")
    _script = _scripts.script

    def _of_later_release(name: str) -> object:
        found = _script(name)
        text = found.text.replace("local FORMAT = 1 ", f"local FORMAT = {int(newer)} ")
        if "FORMAT" in found.text and text == found.text:
            raise RuntimeError("common.lua no longer says 'local FORMAT = 1'")
        return replace(found, text=text, sha=_scripts.hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    _store.script = _of_later_release
