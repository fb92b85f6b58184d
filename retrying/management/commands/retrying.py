"""``manage.py retrying``: look at jobs and act on them, for people and (``--json``) for machines."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any

from channels.exceptions import InvalidChannelLayerError
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from msgspec import structs

from retrying import jobs, schedule, stats
from retrying.doctor import Severity, diagnose
from retrying.exceptions import InvalidJob, RetryingError, StoreUnavailable
from retrying.find import Match, find
from retrying.job import Job, State, from_ms
from retrying.layers import get_layer
from retrying.many import BATCH, purge_many, redrive_many
from retrying.message import check_channel
from retrying.operations import within
from retrying.stats import ChannelStats, Health

EPILOG = """exit status: 0 done, or healthy; 1 the store does not answer, no such job, the job's state does not
allow it, or (doctor, health) there are problems; 2 wrong arguments; 3 not confirmed"""

NOT_CONFIRMED = 3
#: ``health`` waits so long for the store: cron jobs and probes run it.
HEALTH_SECONDS = 5.0
#: What a worker can be told, and what it then does, with its next sweep.
STEER = {
    "quiet": (jobs.quiet_worker, "begins no more jobs"),
    "wake": (jobs.wake_worker, "begins jobs again"),
    "stop": (jobs.stop_worker, "ends when its running jobs have, or their time is over"),
}
#: Groups of dead letters that a channel can have.
MAX_GROUPS = 501
#: The number in ``10m`` is multiplied by this.
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Command(BaseCommand):
    """Each subcommand is one method of this class; see ``--help``."""

    help = "Look at jobs, act on them, and ask what is wrong."
    #: ``doctor`` tells what the checks say, and must not be stopped by them.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.epilog = EPILOG
        commands = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")

        def add(action: Callable[[Namespace], None], words: str, *, channel: str | None = "CHANNEL") -> CommandParser:
            command: CommandParser = commands.add_parser(action.__name__, help=words, description=words, epilog=EPILOG)
            command.set_defaults(act=action)
            if channel == "CHANNEL":
                command.add_argument("channel", type=_channel)
            elif channel is not None:
                command.add_argument("channels", nargs="*", type=_channel, metavar="CHANNEL", help=channel)
            command.add_argument("--json", action="store_true", help="print JSON")
            command.add_argument("--layer", default="default", help="alias of the channel layer")
            return command

        every = "default: those of the settings and the routers"
        add(self.stats, "Count jobs by state, and workers; tell rates and how it goes.", channel=every)
        add(self.health, "Say in a sentence how it goes; exit status 1 when it does not go well.", channel=None)
        listing = add(self.jobs, "List jobs of one state, those that came last first.")
        listing.add_argument("--state", choices=list(State), type=State, default=State.DEAD, help="default: dead")
        listing.add_argument("--limit", type=_whole, default=50, help="at most so many (50)")
        listing.add_argument("--cursor", help="go on where a page ended")
        _filters(listing)
        add(self.errors, "Count dead letters by what they raised and what they were.", channel=every)
        job_help = "id of the job"
        add(self.show, "Show a job.").add_argument("job", help=job_help)
        add(self.retry, "Make a scheduled job ready now.").add_argument("job", help=job_help)
        cancel = add(self.cancel, "Cancel a job; a running one is asked to stop.")
        cancel.add_argument("job", help=job_help)
        cancel.add_argument("--reason", default=jobs.CANCELLED_ON_REQUEST)
        redrive = add(self.redrive, "Make a dead letter ready again, or (--all) all that match.")
        _one_or_all(redrive)
        _filters(redrive)
        redrive.add_argument("--limit", type=_whole, help="with --all: at most so many")
        redrive.add_argument("--rate", type=_positive, help="with --all: so many a second")
        purge = add(self.purge, "Forget a job that has ended, or (--all) all in one state that match.")
        _one_or_all(purge)
        _filters(purge)
        purge.add_argument(
            "--state", choices=list(jobs.ENDED), type=State, default=State.DEAD, help="with --all; default: dead"
        )
        for destructive in (cancel, redrive, purge):
            destructive.add_argument("--noinput", "--no-input", action="store_true", help="don't ask")
        for many in (redrive, purge):
            many.add_argument("--dry-run", action="store_true", help="with --all: count them, and do nothing")
        add(self.pause, "Let no worker begin jobs of a channel.")
        add(self.resume, "Let workers begin jobs of a paused channel again.")
        add(self.workers, "List live workers.", channel=every)
        steer = add(self.worker, "Let a worker begin no more jobs (quiet), or again (wake), or stop it.", channel=None)
        steer.add_argument("what", choices=list(STEER))
        steer.add_argument("worker", help="its id, as `workers` tells it")
        steer.add_argument("--noinput", "--no-input", action="store_true", help="don't ask")
        slots = add(self.schedule, "List schedules; pause or resume one, or run one now.", channel=None)
        slots.add_argument("what", nargs="?", choices=["list", "pause", "resume", "run"], default="list")
        slots.add_argument("name", nargs="?", help="the schedule to pause, resume or run")
        add(self.doctor, "Say what is wrong with the server, the settings and the workers.", channel="also these")

    def handle(self, *args: Any, **options: Any) -> None:
        given = Namespace(**options)
        try:
            given.act(given)
        except (RetryingError, ImproperlyConfigured, InvalidChannelLayerError, ValueError) as error:
            raise CommandError(str(error)) from error

    # Looking

    def stats(self, given: Namespace) -> None:
        named = given.channels or jobs.named_channels()
        found = [stats.channel(channel, using=given.layer) for channel in _channels(given)]
        shown = [one for one in found if one.channel in named or _used(one)]
        self._table(given, [_stats_row(one) for one in shown])
        if not given.json:
            self._say(stats.health(found=found, using=given.layer))

    def health(self, given: Namespace) -> None:
        try:
            found = within(HEALTH_SECONDS, partial(stats.ahealth, using=given.layer))
        except StoreUnavailable as error:
            found = Health.without_store(error)
        if given.json:
            self._print_json({
                "healthy": found.ok, "sentence": found.sentence, "advice": found.advice,
                "alerts": [_plain(asdict(alert)) for alert in found.alerts],
            })  # fmt: skip
        else:
            self._say(found)
        if not found.ok:
            sys.exit(1)

    def _say(self, found: Health) -> None:
        self.stdout.write(found.sentence)
        if found.advice:
            self.stdout.write(f"-> {found.advice}")
        for alert in found.alerts[1:]:
            self.stdout.write(f"{alert.text}\n-> {alert.advice}")

    def jobs(self, given: Namespace) -> None:
        found: list[Job] = []
        cursor = given.cursor
        match = _match(given)
        while len(found) < given.limit:
            page = find(
                [given.channel], given.state, match, text=given.text, limit=given.limit - len(found), cursor=cursor,
                using=given.layer,
            )  # fmt: skip
            found += [row.job for row in page.rows]
            cursor = page.cursor
            if cursor is None:
                break
        if given.json:
            self._print_json({"jobs": [_plain(structs.asdict(job)) for job in found], "cursor": cursor})
            return
        self._table(given, [_row(job) for job in found], empty=f"no {given.state} jobs in {given.channel}")
        if cursor is not None:
            self.stdout.write(f"there are more: --cursor {cursor}")

    def errors(self, given: Namespace) -> None:
        store = get_layer(given.layer).store
        rows = []
        for channel in _channels(given):
            groups = store.run(store.groups(channel, skip=0, limit=MAX_GROUPS)).groups
            for group in sorted(groups, key=lambda group: -group.count):
                first, last = from_ms(group.first), from_ms(group.last)
                row = {"channel": channel, "error": group.error, "type": group.name, "dead": group.count}
                rows.append({**row, "first": first, "last": last, "newest": group.newest})
        self._table(given, rows, empty="no dead letters")

    def show(self, given: Namespace) -> None:
        job = jobs.get(given.channel, given.job, using=given.layer)
        if job is None:
            raise _unknown(given)
        values = _plain(structs.asdict(job))
        del values["duplicate"]  # says something of what enqueue returns only
        if given.json:
            self._print_json(values)
            return
        width = max(map(len, values))
        for name, value in values.items():
            if value not in (None, ""):
                self.stdout.write(f"{name:{width}}  {value}")

    def workers(self, given: Namespace) -> None:
        rows = [
            {"channel": channel, **asdict(worker)}
            for channel in _channels(given)
            for worker in jobs.workers(channel, using=given.layer)
        ]
        self._table(given, rows, empty="no live workers: python manage.py runworker CHANNEL")

    def doctor(self, given: Namespace) -> None:
        findings = diagnose(given.channels, using=given.layer)
        problems = sum(finding.severity is Severity.PROBLEM for finding in findings)
        if given.json:
            self._print_json({"healthy": not problems, "findings": [asdict(finding) for finding in findings]})
        else:
            for finding in findings:
                self.stdout.write(f"{finding.severity.upper():8} {finding.text}")
                if finding.advice:
                    self.stdout.write(f"{'':8} -> {finding.advice}")
            self.stdout.write("Healthy." if not problems else f"{problems} problem{'s' if problems > 1 else ''}.")
        if problems:
            sys.exit(1)

    def schedule(self, given: Namespace) -> None:
        if (given.name is None) != (given.what == "list"):
            raise CommandError("schedule takes pause, resume or run and a schedule's name, or nothing: it lists them")
        if given.what == "list":
            found = schedule.statuses(using=given.layer)
            self._table(given, [asdict(status) for status in found], empty="no function has @periodic")
        elif given.what == "run":
            job = schedule.run(given.name, using=given.layer)
            self._report(given, {"id": job}, f"{given.name} runs now, as job {job}")
        else:
            pausing = given.what == "pause"
            changed = (schedule.pause if pausing else schedule.resume)(given.name, using=given.layer)
            words = (
                f"{given.name} is paused" + ("" if changed else " (it was already)")
                if pausing
                else f"{given.name} " + ("goes on with its next slot" if changed else "was not paused")
            )
            self._report(given, {"paused": pausing, "changed": changed}, words)

    # One job, or many

    def retry(self, given: Namespace) -> None:
        state = jobs.retry_now(given.channel, given.job, using=given.layer)
        self._changed(given, state, State.READY, "Only a scheduled job can be made ready.")

    def cancel(self, given: Namespace) -> None:
        self._confirm(given, f"Cancel {given.job} of {given.channel}?")
        state = jobs.cancel(given.channel, given.job, given.reason, using=given.layer)
        words = "Only a scheduled, ready or running job can be cancelled."
        self._changed(given, state, State.RUNNING if state is State.RUNNING else State.CANCELLED, words)

    def redrive(self, given: Namespace) -> None:
        if not _all(given):
            self._confirm(given, f"Run {given.job} of {given.channel} again?")
            state = jobs.redrive(given.channel, given.job, using=given.layer)
            self._changed(given, state, State.READY, "Only a dead letter can be redriven.")
            return
        if not self._sure(given, State.DEAD, "Run {} dead letters of {} again?"):
            return
        if not _narrowed(given):
            done = jobs.redrive_all(given.channel, limit=given.limit, rate=given.rate, using=given.layer)
            self._report(given, {"redriven": done}, f"{done} dead letters redriven")
            return
        done, left, due = 0, 0, ""
        for ids in _batches(_matching(given, State.DEAD)):
            found = redrive_many(given.channel, ids, rate=given.rate, due=due, using=given.layer)
            redriven = sum(state in (State.READY, State.SCHEDULED) for state in found.states)
            done, left, due = done + redriven, left + len(ids) - redriven, found.due
        words = f"; {left} left alone: they moved on, or another job holds their unique name" if left else ""
        self._report(given, {"redriven": done, "left": left}, f"{done} dead letters redriven{words}")

    def purge(self, given: Namespace) -> None:
        if not _all(given):
            self._confirm(given, f"Forget {given.job} of {given.channel}?")
            if jobs.get(given.channel, given.job, using=given.layer) is None:
                raise _unknown(given)
            state = jobs.purge(given.channel, given.job, using=given.layer)
            if state is not None:
                raise CommandError(f"{given.job} is {state}. Only a job that has ended can be purged: cancel it first.")
            self._report(given, {"purged": 1}, f"{given.job} purged")
            return
        if not self._sure(given, given.state, f"Forget {{}} {given.state} jobs of {{}}?"):
            return
        if not _narrowed(given):
            done = jobs.purge_all(given.channel, given.state, using=given.layer)
            self._report(given, {"purged": done}, f"{done} {given.state} jobs purged")
            return
        done = left = 0
        for ids in _batches(_matching(given, given.state)):
            states = purge_many(given.channel, ids, given.state, using=given.layer)
            done, left = done + states.count(None), left + len(ids) - states.count(None)
        words = f"; {left} left alone: they moved on" if left else ""
        self._report(given, {"purged": done, "left": left}, f"{done} {given.state} jobs purged{words}")

    def _sure(self, given: Namespace, state: State, question: str) -> bool:
        """Count what matches, and ask whether to go on. With --dry-run that is all."""
        if given.noinput and not given.dry_run:
            return True
        if state is State.DEAD and not _narrowed(given):
            dead = jobs.counts(given.channel, using=given.layer).dead
            count = min(dead, getattr(given, "limit", None) or dead)
        else:
            count = sum(1 for _ in _matching(given, state))
        if given.dry_run:
            self._report(given, {"matching": count}, f"{count} {state} jobs match; nothing was done")
            return False
        self._confirm(given, question.format(count, given.channel))
        return True

    def pause(self, given: Namespace) -> None:
        changed = jobs.pause(given.channel, using=given.layer)
        words = f"{given.channel} is paused" + ("" if changed else " (it was already)")
        self._report(given, {"paused": True, "changed": changed}, words)

    def resume(self, given: Namespace) -> None:
        changed = jobs.resume(given.channel, using=given.layer)
        words = f"{given.channel} is consumed again" if changed else f"{given.channel} was not paused"
        self._report(given, {"paused": False, "changed": changed}, words)

    def worker(self, given: Namespace) -> None:
        tell, words = STEER[given.what]
        if given.what == "stop":
            self._confirm(given, f"Stop worker {given.worker}?")
        found = [one for one in stats.workers(using=given.layer) if one.id == given.worker]
        if not any(tell(channel, given.worker, using=given.layer) for one in found for channel in one.channels):
            raise CommandError(f"There is no live worker {given.worker}: see python manage.py retrying workers")
        self._report(given, {"worker": given.worker, "told": given.what}, f"{given.worker} {words}")

    # Printing and asking

    def _changed(self, given: Namespace, state: State | None, wanted: State, otherwise: str) -> None:
        if state is None:
            raise _unknown(given)
        if state is not wanted:
            raise CommandError(f"{given.job} is {state}. {otherwise}")
        words = "is asked to stop" if state is State.RUNNING else f"is {state}"
        self._report(given, {"id": given.job, "state": state}, f"{given.job} {words}")

    def _report(self, given: Namespace, values: Mapping[str, Any], words: str) -> None:
        if given.json:
            self._print_json(values)
        else:
            self.stdout.write(words)

    def _print_json(self, value: object) -> None:
        self.stdout.write(json.dumps(value, indent=2))

    def _table(self, given: Namespace, rows: Sequence[Mapping[str, Any]], *, empty: str = "no channels") -> None:
        if given.json:
            self._print_json([_plain(row) for row in rows])
        elif not rows:
            self.stdout.write(empty)
        else:
            lines = [list(rows[0])] + [[_cell(value) for value in row.values()] for row in rows]
            widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
            for line in lines:
                cells = (f"{cell:{width}}" for cell, width in zip(line, widths, strict=True))
                self.stdout.write("  ".join(cells).rstrip())

    def _confirm(self, given: Namespace, question: str) -> None:
        if given.noinput:
            return
        try:
            answer = input(f"{question} [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was done. (--noinput does not ask.)", returncode=NOT_CONFIRMED)


def _used(one: ChannelStats) -> bool:
    """Whether there is more to it than that somebody once sent to it."""
    return bool(one.workers) or one.paused_seconds is not None or any(astuple(one.counts)[:5])


def _stats_row(one: ChannelStats) -> dict[str, Any]:
    wait = one.recent.tally.wait.percentile(0.95)
    return {
        "channel": one.channel, **asdict(one.counts), "in_per_second": one.in_per_second,
        "out_per_second": one.out_per_second, "failure_rate": one.failure_rate, "wait_p95_seconds": wait,
        "drain_seconds": one.drain_seconds, "workers": len(one.workers), "paused": one.paused_seconds is not None,
    }  # fmt: skip


def _filters(parser: CommandParser) -> None:
    parser.add_argument("--type", default="", help="of this message type, or task")
    parser.add_argument("--error", default="", help="whose last attempt raised this class, e.g. TimeoutError")
    parser.add_argument("--key", default="", help="with this key")
    parser.add_argument("--text", default="", help="with this text in their arguments, which are all read")
    parser.add_argument("--older-than", type=_age, help="since their end, or since they were enqueued: e.g. 10m")
    parser.add_argument("--younger-than", type=_age, help="likewise")


def _narrowed(given: Namespace) -> bool:
    return any((given.type, given.error, given.key, given.text, given.older_than, given.younger_than))


def _all(given: Namespace) -> bool:
    """Raises CommandError: what belongs to --all without it."""
    if not given.all and (_narrowed(given) or given.dry_run):
        raise CommandError("Filters and --dry-run are for --all: name one job, or all that match.")
    return bool(given.all)


def _match(given: Namespace) -> Match:
    return Match(
        key=given.key, error=given.error, name=given.type,
        older=_milliseconds(given.older_than), newer=_milliseconds(given.younger_than),
    )  # fmt: skip


def _matching(given: Namespace, state: State) -> Iterator[str]:
    """Ids of the jobs that match, those that came last first; at most --limit."""
    return islice(_ids(given, state), getattr(given, "limit", None))


def _ids(given: Namespace, state: State) -> Iterator[str]:
    cursor = None
    while True:
        found = find(
            [given.channel], state, _match(given), text=given.text, limit=BATCH, cursor=cursor, messages=False,
            using=given.layer,
        )  # fmt: skip
        yield from (row.job.id for row in found.rows)
        cursor = found.cursor
        if cursor is None:
            return


def _batches(ids: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(ids, BATCH)):
        yield batch


def _one_or_all(parser: CommandParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("job", nargs="?", help="id of the job")
    which.add_argument("--all", action="store_true", help="all that there are")


def _channels(given: Namespace) -> list[str]:
    return given.channels or jobs.channels(using=given.layer)


def _unknown(given: Namespace) -> CommandError:
    return CommandError(f"{given.channel} has no job {given.job}: it never had, it was purged, or succeeded long ago.")


def _row(job: Job) -> dict[str, Any]:
    """A job in one line: what one looks for in a list."""
    when = job.finished_at or job.due_at or job.started_at or job.created_at
    why = job.reason or job.error or job.worker
    return {"id": job.id, "attempt": job.attempt, "failures": job.failures, "time": when, "why": why}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """With times as ISO 8601 text."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    return " ".join(str(value).split())[:100]


def _channel(text: str) -> str:
    try:
        check_channel(text)
    except InvalidJob as error:
        raise ArgumentTypeError(str(error)) from error
    return text


def _milliseconds(age: timedelta | None) -> int | None:
    return None if age is None else round(1000 * age.total_seconds())


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


def _age(text: str) -> timedelta:
    number, unit = (text[:-1], text[-1:]) if text[-1:] in UNITS else (text, "s")
    if not number.isdecimal():
        raise ArgumentTypeError(f"expected a time like 90s, 10m, 12h or 7d, got {text!r}")
    try:
        return timedelta(seconds=int(number) * UNITS[unit])
    except OverflowError as error:
        raise ArgumentTypeError(f"{text!r} is longer than time goes back") from error
