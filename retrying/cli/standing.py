"""How it goes: ``stats``, ``health``, ``errors``, ``workers`` and ``doctor``."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import asdict, astuple
from functools import partial
from typing import Any

from .. import jobs
from .. import stats as statistics
from ..doctor import Severity, diagnose
from ..exceptions import StoreUnavailable
from ..job import from_ms
from ..layers import get_layer
from ..operations import within
from ..stats import ChannelStats, Health
from . import options
from .options import Commands
from .output import Output, plain

#: ``health`` waits so long for the store: cron jobs and probes run it.
HEALTH_SECONDS = 5.0
#: Groups of dead letters that a channel can have.
MAX_GROUPS = 501


def add(commands: Commands) -> None:
    options.channels(commands.add(stats, "Count jobs by state, and workers; tell rates and how it goes."))
    commands.add(health, "Say in a sentence how it goes; exit status 1 when it does not go well.")
    options.channels(commands.add(errors, "Count dead letters by what they raised and what they were."))
    options.channels(commands.add(workers, "List live workers."))
    words = "Say what is wrong with the server, the settings and the workers."
    options.channels(commands.add(doctor, words), "also these")


def stats(given: Namespace, out: Output) -> None:
    named = given.channels or jobs.named_channels()
    found = [statistics.channel(channel, using=given.layer) for channel in options.chosen(given)]
    shown = [one for one in found if one.channel in named or _used(one)]
    out.table([row(one) for one in shown])
    if not out.as_json:
        _say(statistics.health(found=found, using=given.layer), out)


def _used(one: ChannelStats) -> bool:
    """Whether there is more to it than that somebody once sent to it."""
    return bool(one.workers) or one.paused_seconds is not None or any(astuple(one.counts)[:5])


def row(one: ChannelStats) -> dict[str, Any]:
    """A channel in one line."""
    wait = one.recent.tally.wait.percentile(0.95)
    return {
        "channel": one.channel, **asdict(one.counts), "in_per_second": one.in_per_second,
        "out_per_second": one.out_per_second, "failure_rate": one.failure_rate, "wait_p95_seconds": wait,
        "drain_seconds": one.drain_seconds, "workers": len(one.workers), "paused": one.paused_seconds is not None,
    }  # fmt: skip


def health(given: Namespace, out: Output) -> None:
    try:
        found = within(HEALTH_SECONDS, partial(statistics.ahealth, using=given.layer))
    except StoreUnavailable as error:
        found = Health.without_store(error)
    if out.as_json:
        out.json({
            "healthy": found.ok, "sentence": found.sentence, "advice": found.advice,
            "alerts": [plain(asdict(alert)) for alert in found.alerts],
        })  # fmt: skip
    else:
        _say(found, out)
    if not found.ok:
        sys.exit(1)


def _say(found: Health, out: Output) -> None:
    out.line(found.sentence)
    if found.advice:
        out.line(f"-> {found.advice}")
    for alert in found.alerts[1:]:
        out.line(f"{alert.text}\n-> {alert.advice}")


def errors(given: Namespace, out: Output) -> None:
    store = get_layer(given.layer).store
    rows = []
    for channel in options.chosen(given):
        groups = store.run(store.groups(channel, skip=0, limit=MAX_GROUPS)).groups
        for group in sorted(groups, key=lambda group: -group.count):
            first, last = from_ms(group.first), from_ms(group.last)
            row = {"channel": channel, "error": group.error, "type": group.name, "dead": group.count}
            rows.append({**row, "first": first, "last": last, "newest": group.newest})
    out.table(rows, empty="no dead letters")


def workers(given: Namespace, out: Output) -> None:
    rows = [
        {"channel": channel, **asdict(worker)}
        for channel in options.chosen(given)
        for worker in jobs.workers(channel, using=given.layer)
    ]
    out.table(rows, empty="no live workers: python manage.py runworker CHANNEL")


def doctor(given: Namespace, out: Output) -> None:
    findings = diagnose(given.channels, using=given.layer)
    problems = sum(finding.severity is Severity.PROBLEM for finding in findings)
    if out.as_json:
        out.json({"healthy": not problems, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            out.line(f"{finding.severity.upper():8} {finding.text}")
            if finding.advice:
                out.line(f"{'':8} -> {finding.advice}")
        out.line("Healthy." if not problems else f"{problems} problem{'s' if problems > 1 else ''}.")
    if problems:
        sys.exit(1)
