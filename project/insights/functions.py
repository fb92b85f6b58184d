"""Calling a function service ("serverless"): slow, throttled, and asked with a key that makes a repeat harmless."""

from __future__ import annotations

from typing import Any

import httpx

#: Functions are slow to start; the service itself ends them sooner than this.
TIMEOUT_SECONDS = 60.0
#: Where the service throttles and doesn't say for how long.
THROTTLED_SECONDS = 5.0


class Throttled(Exception):
    """The service has too much to do. Nothing ran; ``seconds``: when to come back."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"throttled, come back in {seconds:g} s")
        self.seconds = seconds


class ServiceUnavailable(Exception):
    """The service did not answer, or not as it should: whether the function ran is not known."""


class FunctionFailed(Exception):
    """The function ran and failed: it would again."""


async def invoke(url: str, function: str, payload: dict[str, Any], *, key: str) -> Any:
    """What ``function`` makes of ``payload`` (both JSON). ``key``: the same for every try of one call.

    Raises Throttled, ServiceUnavailable, FunctionFailed.
    """
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
            answer = await client.post(
                f"{url}/functions/{function}/invocations", json=payload, headers={"Idempotency-Key": key}
            )
    except httpx.HTTPError as error:
        raise ServiceUnavailable(f"no answer: {error!r}") from error
    if answer.status_code == 429:
        asked = answer.headers.get("retry-after", "")
        raise Throttled(float(asked) if asked.isdecimal() else THROTTLED_SECONDS)
    if answer.status_code != 200:
        raise ServiceUnavailable(f"it answered {answer.status_code}")
    try:
        result = answer.json()
    except ValueError as error:
        raise ServiceUnavailable("its answer is no JSON") from error
    if "x-function-error" in answer.headers:
        raise FunctionFailed(f"{function}: {str(result)[:200]}")
    return result
