"""From where on the state of a channel is an alert: ``RETRYING["ALERTS"]``, and ``alerts`` in a channel's entry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """None: never."""

    #: Jobs that are ready.
    backlog: float | None = None
    #: Seconds that a job has been waiting that could run.
    oldest_seconds: float | None = 300.0
    #: Share (0..1) of the attempts of the last five minutes that failed, of at least MIN_ATTEMPTS.
    failure_rate: float | None = 0.5
    #: Seconds that a job has been waiting on a channel without a worker.
    no_worker_seconds: float | None = 60.0
    #: Seconds since the time of a slot that no worker made a job of.
    schedule_missed_seconds: float | None = 120.0

    @classmethod
    def parse(cls, options: object, base: Thresholds | None = None) -> Thresholds:
        """``options`` over ``base``. Raises ValueError and TypeError, in words."""
        if not isinstance(options, Mapping):
            raise TypeError(f"takes a dict of thresholds, got {options!r}")
        names = [field.name for field in fields(cls)]
        for name, value in options.items():
            if name not in names:
                raise ValueError(f"has no threshold {name!r}; it takes {', '.join(names)}")
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and 0 < value < math.inf):
                raise ValueError(f"{name} takes a number above 0, or None, got {value!r}")
        if (options.get("failure_rate") or 0) > 1:
            raise ValueError(f"failure_rate is a share, from 0 to 1, got {options['failure_rate']!r}")
        return replace(base or cls(), **options)
