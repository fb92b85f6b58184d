"""Channels: does anybody run what waits there?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .. import jobs
from ..conf import get_settings, task_channels
from ..layers import get_layer
from ..routes import project_application
from .findings import Finding, Severity

#: Seconds that a job may wait, while workers live, before they count as too few.
BACKLOG_SECONDS = 60.0


def examine_channels(extra: Sequence[str], using: str) -> Iterator[Finding]:
    """Every channel that the project names, and ``extra``."""
    named = set(get_settings().CHANNELS)
    try:
        routes = set(jobs.routed(project_application()))
    except Exception as error:  # noqa: BLE001  (whatever importing the project's own modules raises)
        yield Finding(
            Severity.PROBLEM,
            "settings",
            f"The ASGI application can't be loaded, so no worker can start: {type(error).__name__}: {error}.",
            "Set ASGI_APPLICATION to the path of your ProtocolTypeRouter, and see that it can be imported.",
        )
    else:
        for channel in sorted(named - routes - set(task_channels())) if routes else []:
            yield Finding(
                Severity.WARNING,
                "settings",
                f"RETRYING['CHANNELS'] has {channel!r}, and the routers have no application for it.",
                f"Add it to the ChannelNameRouter, or correct the name; it has: {', '.join(sorted(routes))}.",
            )
        named |= routes
    known = {*named, *task_channels(), *extra}
    yield from _examine_all(sorted(known), using)
    store = get_layer(using).store
    in_use: list[str] = store.run(store.channels())
    for channel in sorted(set(in_use) - known):
        yield from _examine_unnamed(channel, using)


def _examine_all(channels: Sequence[str], using: str) -> Iterator[Finding]:
    """One line for all those without work and worker: what matters should not drown in them."""
    idle = []
    for channel in channels:
        found = list(_examine(channel, using))
        yield from found
        if not found and not jobs.workers(channel, using=using):
            idle.append(channel)
    if idle:
        yield Finding(
            Severity.NOTE,
            "channels",
            f"No worker, and no work: {', '.join(idle)}.",
            f"When there is to be some: python manage.py runworker {' '.join(idle)}",
        )


def _examine_unnamed(channel: str, using: str) -> Iterator[Finding]:
    """Somebody sends to it, and the project doesn't name it: mostly a typo."""
    counts = jobs.counts(channel, using=using)
    workers = jobs.workers(channel, using=using)
    if workers or channel.startswith("tasks."):
        yield from _examine(channel, using)
    elif waiting := counts.ready + counts.scheduled + counts.running:
        yield Finding(
            Severity.PROBLEM,
            f"channel {channel}",
            f"{channel} has {waiting} job{'' if waiting == 1 else 's'} and no worker, and the project doesn't know it: "
            "a channel's name is misspelt where it is sent to, or the routers lack it.",
            "Correct the name and send these again (python manage.py retrying jobs "
            f"{channel} --state {'ready' if counts.ready else 'scheduled'}), or add it to the ChannelNameRouter and "
            f"start: python manage.py runworker {channel}",
        )


def _examine(channel: str, using: str) -> Iterator[Finding]:
    counts = jobs.counts(channel, using=using)
    workers = jobs.workers(channel, using=using)
    paused = jobs.paused_seconds(channel, using=using)
    topic = f"channel {channel}"
    waiting = counts.ready + counts.scheduled
    if not workers and (waiting or counts.running):
        yield Finding(
            Severity.PROBLEM,
            topic,
            f"{channel} has no worker: {counts.ready} jobs are ready, {counts.scheduled} scheduled and "
            f"{counts.running} were running when theirs vanished.",
            f"Start one: python manage.py runworker {channel}",
        )
    if paused is not None:
        yield Finding(
            Severity.WARNING,
            topic,
            f"{channel} has been paused for {paused:.0f} s: {waiting} jobs wait.",
            f"When the reason is gone: python manage.py retrying resume {channel}",
        )
    elif workers and counts.ready and counts.oldest_seconds > BACKLOG_SECONDS:
        yield Finding(
            Severity.WARNING,
            topic,
            f"{channel} has a backlog: {counts.ready} jobs are ready, the next one was sent "
            f"{counts.oldest_seconds:.0f} s ago: too few workers ({len(workers)}).",
            f"Start more workers, or give them more --concurrency; see python manage.py retrying stats {channel}",
        )
    if counts.dead:
        yield Finding(
            Severity.WARNING,
            topic,
            f"{channel} has {counts.dead} dead letters: jobs that gave up.",
            f"Read why: python manage.py retrying jobs {channel} --state dead. Then redrive or purge them.",
        )
