"""``/metrics`` for Prometheus: what the store knows of all channels, asked when it is scraped. See docs/observing.md.

Nothing is counted in processes, so jobs cost nothing more, and every web process and worker says the same.
Needs the extra ``metrics`` (prometheus-client).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_safe

from . import stats
from .conf import get_settings
from .exceptions import StoreUnavailable
from .operations import within
from .stats import Alert, ChannelStats, Histogram, Tally

if TYPE_CHECKING:
    from prometheus_client import Metric

#: Labels of the counters, and the counter of a tally for each.
ENDS = ("succeeded", "dead", "cancelled", "expired")
OUTCOMES = ("succeeded", "failed", "snoozed", "released", "rescued")
STATES = ("scheduled", "ready", "running", "dead", "finished")
#: For the store to answer; less than Prometheus' ``scrape_timeout`` of 10 s, so that it learns that the store is down.
PATIENCE_SECONDS = 5.0
INSTALL = "metrics need prometheus-client: pip install django-channels-retrying[metrics]"


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """For who shows ``METRICS_TOKEN`` (``Authorization: Bearer ...``), and for signed-in staff; else 403."""
    user = getattr(request, "user", None)
    if not allowed(request.headers.get("Authorization", "")) and not (user and user.is_active and user.is_staff):
        return HttpResponse("metrics are for staff, or need METRICS_TOKEN as bearer token\n", "text/plain", 403)
    status, content_type, body = exposition(request.headers.get("Accept", ""))
    return HttpResponse(body, content_type, status, headers={"Cache-Control": "no-store"})


def allowed(authorization: str) -> bool:
    """Whether that header shows the token. Without a token nobody does."""
    token = get_settings().METRICS_TOKEN
    return bool(token) and constant_time_compare(authorization, f"Bearer {token}")


def exposition(accept: str, *, using: str = "default") -> tuple[int, str, bytes]:
    """Status, content type and text of the metrics, in the format that ``accept`` asks for."""
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder
    except ImportError:
        return 501, "text/plain", f"{INSTALL}\n".encode()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(using))
    encode, content_type = choose_encoder(accept)
    return 200, content_type, encode(registry)


class Collector:
    """The metrics of one layer's channels, for a registry of prometheus-client."""

    def __init__(self, using: str = "default") -> None:
        self._using = using

    def describe(self) -> Iterable[Metric]:
        """None: registering asks no server."""
        return ()

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        try:
            found, alerts = within(PATIENCE_SECONDS, self._read)
        except StoreUnavailable:
            found, alerts, up = [], [], 0
        else:
            up = 1
        yield GaugeMetricFamily("retrying_store_up", "Whether the job store answered.", value=up)
        if up:
            yield from gauges(found, alerts)
            yield from counters(found)
            yield from histograms(found)

    async def _read(self) -> tuple[Sequence[ChannelStats], Sequence[Alert]]:
        found = await stats.achannels(using=self._using)
        return found, await stats.aalerts(found=found, using=self._using)


def gauges(found: Sequence[ChannelStats], alerts: Sequence[Alert]) -> Iterator[Metric]:
    """What is now."""
    from prometheus_client.core import GaugeMetricFamily

    def gauge(name: str, words: str, values: Iterable[tuple[tuple[str, ...], float]], *labels: str) -> Metric:
        family = GaugeMetricFamily(f"retrying_{name}", words, labels=("channel", *labels))
        for own, value in values:
            family.add_metric(own, value)
        return family

    by_state = (((one.channel, state), getattr(one.counts, state)) for one in found for state in STATES)
    yield gauge("jobs", "Jobs in the store; finished: cancelled, expired, kept successes.", by_state, "state")
    backlog = (((one.channel,), one.backlog) for one in found)
    yield gauge("backlog_jobs", "Jobs that could run now.", backlog)
    oldest = (((one.channel,), one.counts.oldest_seconds) for one in found)
    yield gauge("oldest_job_seconds", "For how long a job has been waiting that could run.", oldest)
    paused = (((one.channel,), one.paused_seconds is not None) for one in found)
    yield gauge("paused", "Whether the channel is paused.", paused)
    yield gauge("workers", "Live workers.", (((one.channel,), len(one.workers)) for one in found))
    slots = (((one.channel,), sum(worker.concurrency for worker in one.workers)) for one in found)
    yield gauge("worker_slots", "Jobs that the live workers can run at a time.", slots)
    raised = Counter((alert.channel, alert.kind) for alert in alerts)
    yield gauge("alerts", "Alerts, see RETRYING['ALERTS'].", raised.items(), "kind")


def counters(found: Sequence[ChannelStats]) -> Iterator[Metric]:
    """What happened since the store began to count."""
    from prometheus_client.core import CounterMetricFamily

    def counter(name: str, words: str, *outcomes: str) -> Metric:
        family = CounterMetricFamily(f"retrying_{name}", words, labels=("channel", "outcome"))
        for one in found:
            for outcome in outcomes:
                family.add_metric((one.channel, outcome), getattr(one.totals, outcome))
        return family

    def plain(name: str, words: str, field: str) -> Metric:
        family = CounterMetricFamily(f"retrying_{name}", words, labels=("channel",))
        for one in found:
            family.add_metric((one.channel,), getattr(one.totals, field))
        return family

    yield plain("enqueued_jobs", "New jobs stored.", "enqueued")
    yield counter("ended_jobs", "Jobs that ended.", *ENDS)
    yield plain("started_attempts", "Attempts that began.", "started")
    yield counter("ended_attempts", "Attempts that ended.", *OUTCOMES)
    yield plain("retries", "Failed attempts whose job waits for another one.", "retried")
    yield plain("redriven_jobs", "Dead letters made ready or scheduled again.", "redriven")


def histograms(found: Sequence[ChannelStats]) -> Iterator[Metric]:
    """How long jobs waited and ran."""
    from prometheus_client.core import HistogramMetricFamily

    for name, words, field in (
        ("wait_seconds", "From ready to the start of an attempt.", "wait"),
        ("run_seconds", "From the start of an attempt to its end.", "run"),
    ):
        family = HistogramMetricFamily(f"retrying_{name}", words, labels=("channel",))
        for one in found:
            histogram = _histogram(one.totals, field)
            family.add_metric((one.channel,), buckets=list(_buckets(histogram)), sum_value=histogram.seconds)
        yield family


def _histogram(tally: Tally, field: str) -> Histogram:
    found: Histogram = getattr(tally, field)
    return found


def _buckets(histogram: Histogram) -> Iterator[tuple[str, float]]:
    """Bounds, and how many times did not exceed them."""
    so_far = 0
    for bound, count in zip(Histogram.BOUNDS, histogram.counts, strict=True):
        so_far += count
        yield "+Inf" if math.isinf(bound) else repr(bound), so_far
