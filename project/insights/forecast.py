"""A report that costs seconds of CPU: how long would deliveries take if their receivers failed so often?"""

from __future__ import annotations

import random

from retrying.policy import Exponential

#: Share of attempts that fail in the three cases.
FAILURES = (0.1, 0.5, 0.9)
SHARES = (0.5, 0.9, 0.99)
#: As deliveries are retried by default.
MAX_RETRIES, BACKOFF = 8, Exponential()


def forecast(deliveries: int, seed: int = 0) -> list[dict[str, float | None]]:
    """For each case: the share that arrives, and seconds until half, 90 % and 99 % of those have."""
    rng = random.Random(seed)
    found = []
    for failure in FAILURES:
        waits = sorted(wait for _ in range(deliveries) if (wait := _wait(failure, rng)) is not None)
        row: dict[str, float | None] = {"failure": failure, "arrive": len(waits) / deliveries}
        for share in SHARES:
            row[f"p{share * 100:.0f}"] = round(waits[int(share * (len(waits) - 1))], 1) if waits else None
        found.append(row)
    return found


def _wait(failure: float, rng: random.Random) -> float | None:
    """Seconds that one delivery waits in all; None when it never arrives."""
    total, retries = 0.0, 0
    while rng.random() < failure:
        if retries == MAX_RETRIES:
            return None
        retries += 1
        total += BACKOFF.jittered(retries, rng)
    return total
