"""What the log says of a store that doesn't do as asked."""

from __future__ import annotations

import pytest
from redis.exceptions import NoPermissionError

from retrying import StoreUnavailable
from retrying.link import Link


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NoPermissionError("this user has no permissions"), "refuses a request, trying again channel=work: this user"),
        (StoreUnavailable("no reply"), "does not answer, trying again channel=work: no reply"),
    ],
)
async def test_it_is_said_once_when_it_stops_and_once_when_it_is_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    monkeypatch.setattr("retrying.reconnect.delay", lambda failures: 0.0)
    link = Link("work")

    async def request(failures: int) -> int:
        if failures < 3:
            raise error
        return failures

    assert await link.until_answered(request) == 3
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith(f"the job store {said}")
    assert second == "the job store answers again channel=work"
    assert link.heard_within(5)
