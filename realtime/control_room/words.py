"""Settings in words."""

from __future__ import annotations

import math

from retrying.conf import ChannelSettings
from retrying.policy import Delays, Exponential, Linear, RetryPolicy
from retrying.store.throttle import Rate

from ..templatetags.control_room import rate, seconds

UNITS = (("s", 1), ("min", 60), ("h", 3600), ("d", 86400))


def policy_words(policy: RetryPolicy) -> list[tuple[str, str]]:
    """What a policy says, a name and words each."""
    retries = "without end" if policy.max_retries is None else str(policy.max_retries)
    return [
        ("Retries", retries),
        ("Waits between them", _backoff_words(policy)),
        ("An attempt may take", "any time" if policy.timeout is None else seconds(policy.timeout)),
        (
            "Tried for at most",
            "any time" if policy.deadline is None else f"{seconds(policy.deadline)} after its sending",
        ),
    ]


def limit_words(holds: ChannelSettings) -> list[str]:
    """What limits a channel over all workers; nothing when nothing does."""
    words = []
    if holds.total_concurrency is not None:
        words.append(f"{holds.total_concurrency:,} at a time")
    if (limits := holds.throttle) is not None:
        if limits.rate is not None:
            words.append(_rate_words(limits.rate))
        if limits.ordered_by_key:
            words.append("one by one, in order, for each key")
        elif limits.concurrency_per_key is not None:
            words.append(f"{limits.concurrency_per_key:,} at a time for each key")
        if limits.rate_per_key is not None:
            words.append(f"{_rate_words(limits.rate_per_key)}, for each key")
    return words


def _rate_words(limit: Rate) -> str:
    """In the unit that it was written in, as far as that can be told: the first in which it is a whole number."""
    in_units = [(limit.per_second * size, unit) for unit, size in UNITS]
    whole = [found for found in in_units if round(found[0]) >= 1 and math.isclose(found[0], round(found[0]))]
    number, unit = (whole or [found for found in in_units if found[0] >= 1] or in_units[-1:])[0]
    return f"{f'{number:,.0f}' if whole else rate(number)}/{unit}, bursts of {limit.burst:,}"


def _backoff_words(policy: RetryPolicy) -> str:
    backoff = policy.backoff
    if isinstance(backoff, Delays):
        return ", ".join(seconds(delay) for delay in backoff.delays[:6]) + (" ..." if len(backoff.delays) > 6 else "")
    if isinstance(backoff, Exponential | Linear):
        first = [seconds(backoff.delay(number)) for number in range(1, 5)]
        return f"{', '.join(first)} ... at most {seconds(backoff.cap)}"
    return "what its function says"
