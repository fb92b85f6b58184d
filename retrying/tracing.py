"""OpenTelemetry (extra ``otel``): a span for each send and each attempt. Needs the API only; the project brings an SDK.

``retrying.hooks.observe(OpenTelemetry())`` in an ``AppConfig.ready()``, in web processes and workers.
"""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, TracerProvider

from .attempt import Attempt, End, Ending
from .redact import redact_text

SYSTEM = "retrying"


class OpenTelemetry:
    """Names and attributes are those of OpenTelemetry's conventions for messaging, which are still in development.

    ``send CHANNEL`` (producer) marks the moment in the sender's trace. ``process CHANNEL`` (consumer) is an attempt:
    the first one belongs to the sender's trace, later ones, which may run hours later, are traces of their own with a
    link to the send. Arguments are never in a span; error texts are redacted.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        """Default: the process' own."""
        self._tracer = trace.get_tracer("retrying", tracer_provider=tracer_provider)

    def sending(self, channel: str, job_id: str, message_type: str) -> dict[str, str]:
        span = self._tracer.start_span(
            f"send {channel}", kind=SpanKind.PRODUCER, attributes=_attributes("send", channel, job_id, message_type)
        )
        carried: dict[str, str] = {}
        propagate.inject(carried, context=trace.set_span_in_context(span))
        span.end()
        return carried

    def began(self, attempt: Attempt) -> Callable[[Ending], object]:
        remote = propagate.extract(attempt.carried, context=context.Context())
        sent = trace.get_current_span(remote).get_span_context()
        is_first = attempt.number == 1
        around = remote if is_first else context.Context()
        attributes = _attributes("process", attempt.channel, attempt.lease.job_id, attempt.message_type)
        span = self._tracer.start_span(
            f"process {attempt.channel}",
            context=around,
            kind=SpanKind.CONSUMER,
            attributes={**attributes, "messaging.client.id": attempt.worker, "retrying.attempt": attempt.number},
            links=[Link(sent)] if sent.is_valid and not is_first else [],
        )
        token = context.attach(trace.set_span_in_context(span, around))

        def ended(ending: Ending) -> None:
            span.set_attribute("retrying.outcome", ending.end.value)
            if ending.end in (End.RETRY, End.BURIAL):
                kind, _, text = ending.trace.partition("\n")
                span.set_attribute("error.type", kind)
                event = {"exception.type": kind, "exception.message": ending.error}
                span.add_event("exception", {**event, "exception.stacktrace": redact_text(text)})
                span.set_status(Status(StatusCode.ERROR, ending.error or ending.reason))
            span.end()
            context.detach(token)

        return ended


def _attributes(operation: str, channel: str, job_id: str, message_type: str) -> dict[str, str]:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.type": operation,
        "messaging.operation.name": operation,
        "messaging.destination.name": channel,
        "messaging.message.id": job_id,
        "retrying.message_type": message_type,
    }
