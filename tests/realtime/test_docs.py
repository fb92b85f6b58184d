"""The code of docs/consumers.md is code: it runs as it stands there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from channels.consumer import AsyncConsumer

from realtime import consumers
from realtime.consumers import JobTopicsMixin
from retrying.consumers import BackgroundConsumer

PAGE = (Path(__file__).parents[2] / "docs" / "consumers.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the blocks define, one after the other."""
    found: dict[str, Any] = {"AsyncConsumer": AsyncConsumer, "UserJobsConsumer": consumers.UserJobsConsumer}
    for block in BLOCKS:
        exec(compile(block, "docs/consumers.md", "exec"), found)  # noqa: S102 - our own page
    return found


def test_the_consumers_of_the_page_are_consumers(names: dict[str, Any]) -> None:
    assert len(BLOCKS) == 7
    for name in ("MyReports", "ReportsConsumer", "RoomConsumer"):
        assert names[name]().channel == "reports"
    assert list(names["ReportsConsumer"].commands) == ["make"]
    assert issubclass(names["ReportWorker"], BackgroundConsumer)
    assert inspect.iscoroutinefunction(names["ReportWorker"].report_make)


def test_the_table_of_attributes_is_the_mixin() -> None:
    rows = dict(re.findall(r"^\| `(\w+)(?:\(topic\)|\(\))?` \| `?(\w*)", PAGE, re.MULTILINE))
    own = {name for name in vars(JobTopicsMixin) if not name.startswith("_")} - {"accept", "close", "user", "commands"}
    assert rows.keys() == own - {"takes_other_frames"}
    assert rows["max_frame_bytes"] == str(JobTopicsMixin.max_frame_bytes)
    assert rows["sockets_per_user"] == str(JobTopicsMixin.sockets_per_user)
