"""OpenTelemetry's spans of jobs, made by its real SDK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from channels.consumer import AsyncConsumer, SyncConsumer
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from retrying import RetryLater, State, aenqueue, current_job, hooks
from retrying.tracing import OpenTelemetry
from tests.retrying.running import CHANNEL, reached, running

PROVIDER = TracerProvider()


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    processor = SimpleSpanProcessor(exporter)
    PROVIDER.add_span_processor(processor)
    hooks.observe(OpenTelemetry(PROVIDER))
    yield exporter
    hooks.observers.clear()
    processor.shutdown()


def work() -> None:
    with PROVIDER.get_tracer("handler").start_as_current_span("inside"):
        if current_job().attempt == 1:
            raise RetryLater(0.01) from ValueError("password=hunter2")


class Async(AsyncConsumer):
    async def work_do(self, message: dict[str, Any]) -> None:
        work()


class Sync(SyncConsumer):
    def work_do(self, message: dict[str, Any]) -> None:
        work()


@pytest.mark.parametrize("consumer", [Async, Sync])
async def test_send_and_attempts(consumer: Any, spans: InMemorySpanExporter) -> None:
    async with running(consumer):
        with PROVIDER.get_tracer("view").start_as_current_span("request") as request:
            await aenqueue(CHANNEL, {"type": "work.do", "secret": "s3cret"}, job_id="j")
        await reached("j", State.SUCCEEDED)
    assert not trace.get_current_span().get_span_context().is_valid
    found = {(span.name, (span.attributes or {}).get("retrying.attempt")): span for span in spans.get_finished_spans()}
    inside = [span for span in spans.get_finished_spans() if span.name == "inside"]
    send, first, second = (found[key] for key in (("send work", None), ("process work", 1), ("process work", 2)))
    assert (send.kind, first.kind, second.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.CONSUMER)

    of_request = request.get_span_context().trace_id
    assert send.parent is not None
    assert send.parent.span_id == request.get_span_context().span_id
    assert first.parent is not None
    assert (first.parent.span_id, first.context.trace_id) == (send.context.span_id, of_request)
    assert second.parent is None
    assert second.context.trace_id != of_request
    assert [link.context.span_id for link in second.links] == [send.context.span_id]
    assert [span.parent and span.parent.span_id for span in inside] == [first.context.span_id, second.context.span_id]

    assert (first.status.status_code, second.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert first.attributes is not None
    assert first.attributes["error.type"] == "retrying.exceptions.RetryLater"
    assert first.attributes["retrying.outcome"] == "retry"
    assert first.attributes["messaging.message.id"] == "j"
    told = " ".join(span.to_json() for span in (send, first, second))
    assert "ValueError: password=[redacted]" in told
    assert "hunter2" not in told
    assert "s3cret" not in told
