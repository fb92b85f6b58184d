"""How `manage.py deliver` shows a delivery: live on a terminal, as plain lines otherwise, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.status import Status

Json = dict[str, Any]

COLOURS = {"delivered": "green", "failed": "red", "cancelled": "yellow"}
NO_WORKER = "no worker is consuming deliveries; start one with: python manage.py runworker deliveries"
NOT_QUEUED = "the job store is not reachable: the delivery is kept and goes out when it is back (sweep_deliveries)"


class Story:
    """The news of a delivery, as sentences, each told once."""

    def __init__(self) -> None:
        self._told: set[tuple[Any, ...]] = set()

    def news(self, delivery: Json) -> Iterator[str]:
        """What ``delivery`` (its detail JSON) tells that it didn't tell before."""
        for attempt in delivery["attempts"]:
            which = attempt["generation"], attempt["number"]
            if self._first(*which, "started"):
                yield f"attempt {attempt['number']} started on {attempt['worker']}"
            if attempt["ended_at"] and self._first(*which, "ended"):
                yield f"attempt {attempt['number']} {_ending(attempt)}"
        job = delivery["job"]
        if job and job["state"] == "scheduled" and self._first("due", job["due_at"]):
            yield f"{_retry(job)} is due at {job['due_at'][11:19]} UTC"
        if delivery["state"] != "pending" and self._first("end", delivery["generation"]):
            why = f": {delivery['reason']}" if delivery["reason"] else ""
            yield f"{delivery['state']} after {delivery['attempt']} attempt(s){why}"

    def _first(self, *key: Any) -> bool:
        new = key not in self._told
        self._told.add(key)
        return new


def waiting_for(delivery: Json, now: datetime) -> str:
    """What happens next, with a countdown that ends at zero."""
    job = delivery["job"]
    if job is None:
        return "waiting for the job store"
    if job["state"] == "running":
        return "waiting for the answer"
    if job["due_at"] is None:
        return "waiting for a worker"
    left = (datetime.fromisoformat(job["due_at"]) - now).total_seconds()
    return f"{_retry(job)} in {left:.0f} s" if left > 0 else "due, waiting for a worker"


def _retry(job: Json) -> str:
    if not job["retries"]:
        return "the first attempt"
    return f"retry {job['retries']}" + (f" of {job['max_retries']}" if job["max_retries"] is not None else "")


def _ending(attempt: Json) -> str:
    took = "" if attempt["duration_ms"] is None else f" ({attempt['duration_ms']} ms)"
    if attempt["outcome"] == "delivered":
        return f"delivered: {attempt['status_code']}{took}"
    return f"{attempt['outcome'].replace('_', ' ')}: {attempt['error']}{took}"


class Watcher:
    """Plain lines; also what the other two have in common. ``out``, ``err``: where to write."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err
        self._story = Story()
        self.id = ""

    def accepted(self, delivery: Json, *, queued: bool) -> None:
        self.id = delivery["id"]
        self.say(f"delivery {delivery['id']} to {delivery['url']}")
        if not queued:
            self.say(NOT_QUEUED)

    def update(self, delivery: Json) -> None:
        for sentence in self._story.news(delivery):
            self.say(sentence)

    def finished(self, delivery: Json) -> None:
        """The last word, also when nobody asked to watch."""

    def refused(self, fields: dict[str, str]) -> None:
        for name, problem in fields.items():
            print(f"{name}: {problem}", file=self._err)

    def interrupted(self) -> None:
        if self.id:
            print(f"The delivery goes on under the id {self.id}.", file=self._err)
        else:
            print("Interrupted before the delivery was accepted.", file=self._err)

    def say(self, sentence: str) -> None:
        print(sentence, file=self._out, flush=True)

    def close(self) -> None:
        """Leave the terminal as it was."""


class LiveWatcher(Watcher):
    """On a terminal: the same lines, and below them what is waited for, with a countdown."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        super().__init__(out, err)
        self._console = Console(file=out, highlight=False)
        self._status: Status | None = None

    def update(self, delivery: Json) -> None:
        super().update(delivery)
        if self._status is None:
            self._status = self._console.status("")
            self._status.start()
        self._status.update(escape(waiting_for(delivery, datetime.now(UTC))))
        if delivery["state"] != "pending":
            self.close()

    def say(self, sentence: str) -> None:
        self._console.print(escape(sentence), style=COLOURS.get(sentence.split(" ", 1)[0], ""), soft_wrap=True)

    def close(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


class JsonWatcher(Watcher):
    """One JSON object at the end: the delivery, or what was wrong with the input."""

    def finished(self, delivery: Json) -> None:
        print(json.dumps(delivery), file=self._out, flush=True)

    def refused(self, fields: dict[str, str]) -> None:
        print(json.dumps({"error": "bad_input", "fields": fields}), file=self._out, flush=True)

    def say(self, sentence: str) -> None:
        pass


def watcher_for(out: TextIO, err: TextIO, *, as_json: bool) -> Watcher:
    """The watcher that fits where the output goes."""
    if as_json:
        return JsonWatcher(out, err)
    return LiveWatcher(out, err) if out.isatty() else Watcher(out, err)
