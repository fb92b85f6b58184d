"""Jobs as pages show them: redacted and cut; templates escape them and make visible what isn't."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from retrying.find import Row
from retrying.inspection import arguments, as_json
from retrying.job import Job, State
from retrying.redact import redact_text

#: Characters of arguments in a row, and of a text on a job's page; the whole of it can be downloaded.
PREVIEW = 140
SHOWN = 16_000
WHY = 240


@dataclass(frozen=True, slots=True)
class Text:
    """A text as far as it is shown; ``length`` of all of it, in characters."""

    shown: str
    length: int

    @property
    def cut(self) -> bool:
        return len(self.shown) < self.length


def cut(text: str, most: int = SHOWN) -> Text:
    """The beginning of a text."""
    return Text(text[:most], len(text))


def end(text: str, most: int = SHOWN) -> Text:
    """The end of a text: what matters of a traceback."""
    return Text(text[-most:], len(text))


def preview(message: dict[str, Any] | None) -> str:
    """The arguments in one line."""
    if message is None:
        return "can't be decoded"
    kept = arguments(message)
    if isinstance(kept, dict) and kept.keys() == {"args", "kwargs"}:
        words = [as_json(value) for value in kept["args"]]
        words += [f"{name}={as_json(value)}" for name, value in kept["kwargs"].items()]
        line = ", ".join(words)
    else:
        line = as_json(kept) if kept else ""
    return line if len(line) <= PREVIEW else f"{line[:PREVIEW]}…"


def why(job: Job) -> str:
    """In one line: what ended it, or what its last attempt raised."""
    error = redact_text(job.error)
    words = f"{job.reason}: {error}" if job.reason and error and error not in job.reason else job.reason or error
    if job.state is State.RUNNING and job.cancel_requested:
        words = "asked to stop"
    elif job.parked:
        words = f"waits for its key {job.key}"
    line = " ".join(words.split())
    return line if len(line) <= WHY else f"{line[:WHY]}…"


def when(job: Job) -> tuple[str, datetime | None]:
    """What happened last or happens next, and when."""
    if job.state is State.SCHEDULED:
        return "due", job.due_at
    if job.state is State.RUNNING:
        return "started", job.started_at
    if job.state is State.READY:
        return "enqueued", job.created_at
    return "ended", job.finished_at


@dataclass(frozen=True, slots=True)
class Line:
    """A job in a list."""

    job: Job
    name: str
    preview: str
    why: str
    when: str
    at: datetime | None


def line(row: Row) -> Line:
    words, at = when(row.job)
    return Line(row.job, row.name, preview(row.message), why(row.job), words, at)
