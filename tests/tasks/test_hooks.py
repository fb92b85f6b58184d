"""Observers are told of tasks, in the context of the function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from retrying import hooks
from retrying.attempt import Attempt, Ending
from retrying.testing import run_until_idle
from tests.tasks.sample import tasks

CHANNEL = "tasks.default"


class Witness:
    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    def sending(self, channel: str, job_id: str, message_type: str) -> dict[str, str]:
        self.told.append(("sending", job_id, message_type.rpartition(".")[2]))
        return {"by": "me"}

    def began(self, attempt: Attempt) -> Callable[[Ending], object]:
        tasks.COLOUR.set(attempt.carried["by"])

        def ended(ending: Ending) -> None:
            self.told.append(("ended", attempt.lease.job_id, ending.end, type(attempt.error).__name__))

        return ended


@pytest.fixture
def witness() -> Iterator[Witness]:
    made = Witness()
    hooks.observe(made)
    yield made
    hooks.observers.clear()


@pytest.mark.parametrize("name", ["paints", "paints_in_thread"])
def test_async_and_sync_tasks(name: str, witness: Witness) -> None:
    result = getattr(tasks, name).enqueue("red")
    run_until_idle(CHANNEL)
    result.refresh()
    assert result.return_value == "me"
    assert witness.told == [("sending", result.id, name), ("ended", result.id, "success", "NoneType")]


def test_what_a_task_raised(witness: Witness) -> None:
    result: Any = tasks.raises.enqueue("Bury", "no use")
    run_until_idle(CHANNEL)
    assert witness.told[-1] == ("ended", result.id, "burial", "Bury")
