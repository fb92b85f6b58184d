"""What is wrong with channels, workers and schedules, the worst first, and all of it in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from .. import schedule
from ..conf import get_settings
from ..exceptions import StoreUnavailable
from ..job import from_ms
from ..layers import get_layer
from ..operations import Steps, ask, awaitable, blocking
from ..thresholds import Thresholds
from .channels import ChannelStats, _channels
from .workers import merged

#: The worst first.
KINDS = ("no_worker", "schedule_missed", "oldest", "failure_rate", "backlog")
#: Attempts that a failure rate is of, at least.
MIN_ATTEMPTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """``value`` is past ``threshold``, in the unit of the threshold's name."""

    #: One of KINDS.
    kind: str
    channel: str
    #: The schedule that it is about; "" for a channel's.
    schedule: str = ""
    #: What is wrong, and what to do.
    text: str
    advice: str = ""
    value: float = 0.0
    threshold: float = 0.0
    #: When a worker noticed it; None when none has yet.
    since: datetime | None = None

    @property
    def name(self) -> str:
        """By which the store knows it."""
        return " ".join(word for word in (self.kind, self.channel, self.schedule) if word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The state of everything: ``sentence`` says it, ``advice`` what to do, "" when nothing is."""

    ok: bool
    sentence: str
    advice: str
    alerts: list[Alert]

    @classmethod
    def without_store(cls, error: StoreUnavailable) -> Health:
        advice = "see that it runs and that CHANNEL_LAYERS names it; workers go on by themselves when it is back"
        return cls(ok=False, sentence=str(error), advice=advice, alerts=[])


@blocking
def alerts(*, found: Sequence[ChannelStats] | None = None, using: str = "default") -> Steps[list[Alert]]:
    """What is past its threshold (``RETRYING["ALERTS"]``), the worst first.

    ``found``: what ``channels()`` has just said, so as not to ask again. Raises StoreUnavailable, InvalidSchedule.
    """
    return _alerts(found, using)


aalerts = awaitable(alerts)


@blocking
def health(*, found: Sequence[ChannelStats] | None = None, using: str = "default") -> Steps[Health]:
    """How it goes, in a sentence. A store that doesn't answer is said so, too."""
    return _health(found, using)


ahealth = awaitable(health)


def _alerts(found: Sequence[ChannelStats] | None, using: str) -> Steps[list[Alert]]:
    if found is None:
        found = yield from _channels(("minute", 0), using)
    settings = get_settings()
    alerts = [alert for one in found for alert in _of_channel(one, settings.channel(one.channel).alerts)]
    statuses = yield from schedule.actions._statuses(using)
    now = max((one.now for one in found), default=datetime.now(UTC))
    for status in statuses:
        alerts += _of_schedule(status, now, settings.channel(status.channel).alerts)
    raised = yield from ask(get_layer(using).store.alerts())
    known = [replace(alert, since=from_ms(raised[alert.name])) if alert.name in raised else alert for alert in alerts]
    return sorted(known, key=lambda alert: (KINDS.index(alert.kind), alert.channel))


def _of_channel(one: ChannelStats, limits: Thresholds) -> Iterator[Alert]:
    name, counts = one.channel, one.counts
    if one.paused_seconds is None:  # else somebody wants its jobs to wait
        oldest = counts.oldest_seconds
        if not one.workers and (limit := limits.no_worker_seconds) is not None and oldest > limit:
            waiting = counts.ready or counts.scheduled or counts.running
            text = f"{name} has {_jobs(waiting)} and no worker, the oldest waits for {_duration(oldest)}"
            yield Alert(
                kind="no_worker",
                channel=name,
                text=text,
                advice=f"python manage.py runworker {name}",
                value=oldest,
                threshold=limit,
            )
        elif (limit := limits.oldest_seconds) is not None and oldest > limit:
            text = f"a job of {name} has been waiting for {_duration(oldest)}"
            yield Alert(kind="oldest", channel=name, text=text, advice=_more_hands(one), value=oldest, threshold=limit)
        if (limit := limits.backlog) is not None and one.backlog > limit:
            text = f"{name} has a backlog of {_jobs(one.backlog)}"
            yield Alert(
                kind="backlog", channel=name, text=text, advice=_more_hands(one), value=one.backlog, threshold=limit
            )
    rate, tally = one.failure_rate or 0.0, one.recent.tally
    attempts = tally.failed + tally.succeeded
    if (limit := limits.failure_rate) is not None and rate > limit and attempts >= MIN_ATTEMPTS:
        text = f"{100 * rate:.0f} % of the last {attempts} attempts of {name} failed"
        advice = f"look at what they raised: python manage.py retrying jobs {name} --state scheduled (or dead)"
        yield Alert(kind="failure_rate", channel=name, text=text, advice=advice, value=rate, threshold=limit)


def _of_schedule(status: schedule.Status, now: datetime, limits: Thresholds) -> Iterator[Alert]:
    limit = limits.schedule_missed_seconds
    if status.overdue is None or limit is None:
        return
    late = (now - status.overdue).total_seconds()
    if late > limit:
        yield Alert(
            kind="schedule_missed",
            channel=status.channel,
            schedule=status.name,
            text=f"the schedule {status.name} missed {status.overdue:%Y-%m-%d %H:%M:%S %Z}, {_duration(late)} ago",
            advice=f"python manage.py runworker {status.channel}"
            if not status.workers
            else "restart its workers with the code that declares it",
            value=late,
            threshold=limit,
        )


def _more_hands(one: ChannelStats) -> str:
    if one.workers and all(worker.quiet or worker.stopping for worker in one.workers):
        return "all its workers are quiet or stopping: let one work again, or start another"
    if one.drain_seconds is None:
        return "it doesn't shrink: more workers, or a higher --concurrency"
    return f"at the present rate it is gone in {_duration(one.drain_seconds)}; more workers make it faster"


def _health(found: Sequence[ChannelStats] | None, using: str) -> Steps[Health]:
    try:
        if found is None:
            found = yield from _channels(("minute", 0), using)
        problems = yield from _alerts(found, using)
    except StoreUnavailable as error:
        return Health.without_store(error)
    if problems:
        worst, others = problems[0], len(problems) - 1
        more = f" (and {others} more alert{'s' if others > 1 else ''})" if others else ""
        return Health(ok=False, sentence=f"{worst.text}{more}", advice=worst.advice, alerts=problems)
    workers = len(merged([(one.channel, worker) for one in found for worker in one.workers]))
    oldest = max((one.counts.oldest_seconds for one in found if one.paused_seconds is None), default=0.0)
    waits = f"oldest job {_duration(oldest)}" if oldest else "no job waits"
    paused = [one.channel for one in found if one.paused_seconds is not None]
    apart = f", paused: {', '.join(paused)}" if paused else ""
    hands = f"{workers} worker{'s' if workers != 1 else ''}" if workers else "no worker"
    return Health(ok=True, sentence=f"Healthy: {hands}, {waits}{apart}", advice="", alerts=[])


def _jobs(count: float) -> str:
    return f"{count:,.0f} job{'s' if count != 1 else ''}"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
