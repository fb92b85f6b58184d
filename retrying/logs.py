"""What the log says of jobs: one record for each transition, and the job in every record of its handler."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .context import current_slot
from .redact import redact, redact_text

if TYPE_CHECKING:
    from .attempt import Attempt

#: One record for each transition of a job. Its attribute ``transition`` has what its text says, as data.
transitions = logging.getLogger("retrying.jobs")

#: Values that need no quotes.
_BARE = re.compile(r"[\w.:/@+-]+", re.ASCII)


def transition(level: int, event: str, attempt: Attempt, **fields: object) -> None:
    """Log that ``event`` happened to the job of ``attempt``; nothing is built when ``level`` is off."""
    told = {"job": attempt.lease.job_id, "channel": attempt.channel, "attempt": attempt.number, **fields}
    log_transition(level, event, told)


def log_transition(level: int, event: str, told: Mapping[str, object]) -> None:
    """``transition`` where there is no attempt; ``told`` has job and channel in it."""
    if transitions.isEnabledFor(level):
        text = " ".join(f"{name}={_value(value)}" for name, value in told.items())
        transitions.log(level, "%s %s", event, text, extra={"transition": {"event": event, **told}})


class JobContext(logging.Filter):
    """Gives every record ``job``, ``channel`` and ``attempt`` ("" and 0 outside of a handler), and ``job_context``:
    `` job=... channel=... attempt=...`` or "", ready to stand at the end of a format.

    Put it on handlers in ``LOGGING``; runworker puts it on handlers that have none.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        told = getattr(record, "transition", None)
        job = _current_job() if told is None else told
        record.job, record.channel, record.attempt = job.get("job", ""), job.get("channel", ""), job.get("attempt", 0)
        text = "".join(f" {name}={value}" for name, value in job.items())
        record.job_context = "" if told is not None else text  # its message says so
        return True


class _Structured(logging.Formatter):
    """One line for each record, without control characters, line breaks or invisible ones, and without secrets.

    ``extra``: names of attributes of records (as of ``logger.info(..., extra={...})``) that are told as well: none by
    default, because they may hold arguments.
    """

    def __init__(self, *, extra: Sequence[str] = ()) -> None:
        super().__init__()
        self._extra = tuple(extra)

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """What there is to tell, secrets left out."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        found: dict[str, Any] = {"time": time.replace("+00:00", "Z"), "level": record.levelname, "logger": record.name}
        told = getattr(record, "transition", None)
        if told is None:
            found |= {"message": record.getMessage(), **_current_job()}
        else:
            found |= told
        found |= {name: getattr(record, name) for name in self._extra if hasattr(record, name)}
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            found["stack"] = record.stack_info
        return redact(found)  # type: ignore[no-any-return]


class KeyValueFormatter(_Structured):
    """``time=... level=INFO logger=retrying.jobs event=retrying job=... channel=... attempt=1 ...``"""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{name}={_value(value)}" for name, value in self.fields(record).items())


class JSONFormatter(_Structured):
    """One JSON object for each record, of ASCII characters only."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.fields(record), default=str).replace("\x7f", "\\u007f")


class _ForPeople(logging.Formatter):
    """As many lines as there are, tracebacks among them, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(super().format(record))


def _current_job() -> dict[str, Any]:
    slot = current_slot.get(None)
    job = slot.current if slot is not None else None
    return {"job": job.id, "channel": job.channel, "attempt": job.attempt} if job else {}


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if value is None or isinstance(value, (bool, int)):
        return json.dumps(value)
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    if _BARE.fullmatch(text):
        return text
    # What can't be seen, line breaks and marks that turn the direction of a line among it, is written as an escape.
    return json.dumps(text, ensure_ascii=not text.isprintable()).replace("\x7f", "\\u007f")


def _is_not_djangos_chatter(record: logging.LogRecord) -> bool:
    """Below warnings, Django's default configuration prints what Django says with DEBUG, and drops it without.

    Two lines for each run of a task are among it. A handler writes one at a time, so threads would wait for each other.
    """
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] != "django"


def install() -> None:
    """Put the filter on the root logger's handlers; give it one to standard error when it has none."""
    root = logging.getLogger()
    if not root.handlers:
        stderr = logging.StreamHandler()
        stderr.setFormatter(_ForPeople("%(asctime)s %(levelname)s %(name)s: %(message)s%(job_context)s"))
        stderr.addFilter(_is_not_djangos_chatter)
        root.addHandler(stderr)
        logging.getLogger("retrying").setLevel(logging.INFO)
    for handler in root.handlers:
        if not any(isinstance(item, JobContext) for item in handler.filters):
            handler.addFilter(JobContext())
