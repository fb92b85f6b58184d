"""Sentry (extra ``sentry``): ``sentry_sdk.init(..., integrations=[RetryingIntegration()])`` in the settings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import sentry_sdk
from sentry_sdk.consts import OP, SPANDATA
from sentry_sdk.integrations import Integration
from sentry_sdk.integrations.logging import ignore_logger
from sentry_sdk.utils import event_from_exception

from .attempt import Attempt, End, Ending
from .hooks import observe
from .redact import redact, redact_text

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

ORIGIN = "auto.queue.retrying"


class RetryingIntegration(Integration):
    """Dead letters are reported, with the job as context and tags; an attempt continues the trace of whoever sent it.

    ``every_failure``: also attempts that are tried again. What the log says of the same ends is not reported twice.
    A job that is dead because its workers vanished raised nothing, and is not reported here.
    """

    identifier = "retrying"

    def __init__(self, *, every_failure: bool = False) -> None:
        self.every_failure = every_failure

    @staticmethod
    def setup_once() -> None:
        for name in ("retrying.jobs", "django.tasks", "django_tasks"):
            ignore_logger(name)
        observe(_OBSERVER)


class _Observer:
    def sending(self, channel: str, job_id: str, message_type: str) -> dict[str, str]:
        if _integration() is None:
            return {}
        with sentry_sdk.start_span(op=OP.QUEUE_PUBLISH, name=channel, origin=ORIGIN) as span:
            _describe(span, channel, job_id)
            found = {"sentry-trace": sentry_sdk.get_traceparent(), "sentry-baggage": sentry_sdk.get_baggage()}
        return {name: value for name, value in found.items() if value}

    def began(self, attempt: Attempt) -> Callable[[Ending], object] | None:
        integration = _integration()
        if integration is None:
            return None
        stack = ExitStack()
        scope = stack.enter_context(sentry_sdk.isolation_scope())
        scope.clear_breadcrumbs()
        scope.add_event_processor(_redacted)
        job_id = attempt.lease.job_id
        scope.set_tag("retrying.channel", attempt.channel)
        scope.set_tag("retrying.type", attempt.message_type)
        scope.set_tag("retrying.job", job_id)
        scope.set_context(
            "retrying", {"job": job_id, "channel": attempt.channel, "attempt": attempt.number, "worker": attempt.worker}
        )
        carried = {"sentry-trace": attempt.carried.get("sentry-trace", "")}
        carried["baggage"] = attempt.carried.get("sentry-baggage", "")
        transaction = sentry_sdk.continue_trace(
            {name: value for name, value in carried.items() if value},
            op=OP.QUEUE_PROCESS, name=attempt.message_type, source="task", origin=ORIGIN,
        )  # fmt: skip
        stack.enter_context(sentry_sdk.start_transaction(transaction))
        _describe(transaction, attempt.channel, job_id)
        transaction.set_data(SPANDATA.MESSAGING_MESSAGE_RETRY_COUNT, attempt.failures)

        def ended(ending: Ending) -> None:
            with stack:
                failed = ending.end in (End.RETRY, End.BURIAL)
                transaction.set_status("internal_error" if failed else "ok")
                if ending.end is End.BURIAL or (failed and integration.every_failure):
                    _report(attempt, ending)

        return ended


def _report(attempt: Attempt, ending: Ending) -> None:
    scope = sentry_sdk.get_isolation_scope()
    scope.set_tag("retrying.outcome", "dead" if ending.end is End.BURIAL else "retry")
    if attempt.error is None:
        sentry_sdk.capture_message(f"{ending.reason}: {ending.error}", level="error")
        return
    event, hint = event_from_exception(
        attempt.error,
        client_options=sentry_sdk.get_client().options,
        mechanism={"type": "retrying", "handled": ending.end is not End.BURIAL},
    )
    sentry_sdk.capture_event(event, hint=hint)


def _redacted(event: Event, _: Hint) -> Event:
    for value in (event.get("exception") or {}).get("values", []):
        value["value"] = redact_text(str(value.get("value") or ""))
        for frame in (value.get("stacktrace") or {}).get("frames", []):
            if "vars" in frame:
                frame["vars"] = redact(frame["vars"])
    return event


def _describe(span: Any, channel: str, job_id: str) -> None:
    span.set_data(SPANDATA.MESSAGING_SYSTEM, "retrying")
    span.set_data(SPANDATA.MESSAGING_DESTINATION_NAME, channel)
    span.set_data(SPANDATA.MESSAGING_MESSAGE_ID, job_id)


def _integration() -> RetryingIntegration | None:
    return sentry_sdk.get_client().get_integration(RetryingIntegration)


_OBSERVER = _Observer()
