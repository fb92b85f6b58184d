"""What Sentry is told, by its real client; the envelopes stay in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from channels.consumer import AsyncConsumer, SyncConsumer
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from retrying import State, aenqueue, hooks, retry
from retrying.sentry import RetryingIntegration
from tests.retrying.running import CHANNEL, reached, running


class Kept(Transport):
    def __init__(self) -> None:
        super().__init__()
        self.items: list[tuple[str, Any]] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.items += [(str(item.type), item.payload.json) for item in envelope.items]

    def of(self, kind: str) -> list[Any]:
        return [payload for found, payload in self.items if found == kind]


@pytest.fixture
def transport() -> Iterator[Kept]:
    yield Kept()
    sentry_sdk.get_global_scope().set_client(None)
    hooks.observers.clear()


def start(transport: Kept, **options: Any) -> None:
    sentry_sdk.init(
        dsn="http://key@localhost/1", transport=transport, traces_sample_rate=1.0, auto_enabling_integrations=False,
        integrations=[RetryingIntegration(**options)],
    )  # fmt: skip
    RetryingIntegration.setup_once()  # Sentry does so once in a process


class Async(AsyncConsumer):
    @retry(max_retries=1, backoff=0.01)
    async def work_fail(self, message: dict[str, Any]) -> None:
        password = message["secret"]  # noqa: F841  (a local variable in a frame)
        raise ValueError("no: token=abcdef")

    async def work_do(self, message: dict[str, Any]) -> None:
        sentry_sdk.capture_message("hello")


class Sync(SyncConsumer):
    @retry(max_retries=1, backoff=0.01)
    def work_fail(self, message: dict[str, Any]) -> None:
        password = message["secret"]  # noqa: F841  (a local variable in a frame)
        raise ValueError("no: token=abcdef")

    def work_do(self, message: dict[str, Any]) -> None:
        sentry_sdk.capture_message("hello")


@pytest.mark.parametrize("consumer", [Async, Sync])
async def test_the_final_failure_is_reported(consumer: Any, transport: Kept) -> None:
    start(transport)
    async with running(consumer):
        with sentry_sdk.start_transaction(name="request") as request:
            await aenqueue(CHANNEL, {"type": "work.fail", "secret": "hunter2"}, job_id="f")
        await reached("f", State.DEAD)
        await aenqueue(CHANNEL, {"type": "work.do"}, job_id="d")
        await reached("d", State.SUCCEEDED)
    dead, hello = transport.of("event")
    assert [(value["type"], value["value"]) for value in dead["exception"]["values"]] == [
        ("ValueError", "no: token=[redacted]")
    ]
    assert "hunter2" not in str(dead)
    assert dead["contexts"]["retrying"].items() >= {"job": "f", "channel": CHANNEL, "attempt": 2}.items()
    assert dead["tags"]["retrying.outcome"] == "dead"
    assert dead["tags"]["retrying.channel"] == CHANNEL
    assert dead["contexts"]["trace"]["trace_id"] == request.trace_id
    assert hello["tags"]["retrying.job"] == "d"
    assert hello["contexts"]["retrying"]["job"] == "d"

    transactions = transport.of("transaction")
    (sent,) = [item for item in transactions if item["transaction"] == "request"]
    assert [span["op"] for span in sent["spans"]] == ["queue.publish"]
    attempts = [item for item in transactions if item["transaction"] == "work.fail"]
    assert [item["contexts"]["trace"]["trace_id"] for item in attempts] == [request.trace_id] * 2
    assert [item["contexts"]["trace"]["parent_span_id"] for item in attempts] == [sent["spans"][0]["span_id"]] * 2
    assert [item["contexts"]["trace"]["status"] for item in attempts] == ["internal_error"] * 2


async def test_every_failure_when_it_is_wanted(transport: Kept) -> None:
    start(transport, every_failure=True)
    async with running(Async):
        await aenqueue(CHANNEL, {"type": "work.fail", "secret": "hunter2"}, job_id="f")
        await reached("f", State.DEAD)
    assert [event["tags"]["retrying.outcome"] for event in transport.of("event")] == ["retry", "dead"]


async def test_without_the_integration_nothing_is_told(transport: Kept) -> None:
    sentry_sdk.init(dsn="http://key@localhost/1", transport=transport, auto_enabling_integrations=False)
    RetryingIntegration.setup_once()
    async with running(Async):
        await aenqueue(CHANNEL, {"type": "work.do"}, job_id="d")
        await reached("d", State.SUCCEEDED)
    (hello,) = transport.of("event")
    assert "retrying" not in hello["contexts"]
