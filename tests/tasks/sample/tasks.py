"""Tasks that do what their test tells them."""

from __future__ import annotations

from typing import Any

from retrying import retry
from tests.tasks.compat import task

#: What ran, in order; of this process.
RAN: list[Any] = []


@task
def add(a: int, b: int = 1) -> int:
    RAN.append((a, b))
    return a + b


@task
async def add_async(a: int, b: int = 1) -> int:
    RAN.append((a, b))
    return a + b


@task
@retry(max_retries=2, backoff=5)
def fails(times: int) -> str:
    RAN.append(times)
    if len(RAN) <= times:
        raise ValueError(f"failure {len(RAN)}")
    return "at last"


@task(takes_context=True)
async def tell(context: Any) -> dict[str, Any]:
    result = context.task_result
    return {"attempt": context.attempt, "id": result.id, "workers": result.worker_ids, "status": result.status}
