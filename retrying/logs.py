"""The job in every log record that a handler writes."""

from __future__ import annotations

import logging

from .context import current_slot


class JobContext(logging.Filter):
    """Gives every record ``job``, ``channel`` and ``attempt`` ("" and 0 outside of a handler), and ``job_context``:
    `` job=... channel=... attempt=...`` or "", ready to stand at the end of a format.

    Put it on handlers in ``LOGGING``; runworker puts it on handlers that have none.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        slot = current_slot.get(None)
        job = slot.current if slot is not None else None
        record.job = job.id if job else ""
        record.channel = job.channel if job else ""
        record.attempt = job.attempt if job else 0
        record.job_context = f" job={job.id} channel={job.channel} attempt={job.attempt}" if job else ""
        return True


def install() -> None:
    """Put the filter on the root logger's handlers; give it one to standard error when it has none."""
    root = logging.getLogger()
    if not root.handlers:
        stderr = logging.StreamHandler()
        stderr.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s%(job_context)s"))
        root.addHandler(stderr)
        logging.getLogger("retrying").setLevel(logging.INFO)
    for handler in root.handlers:
        if not any(isinstance(item, JobContext) for item in handler.filters):
            handler.addFilter(JobContext())
