"""``retry``, ``cancel``, ``redrive``, ``purge``: what is done to one job, to several, or to all that match."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

from django.core.management.base import CommandError, CommandParser

from .. import jobs
from ..find import find
from ..job import State
from ..many import BATCH
from ..redact import redact
from ..verbs import VERBS, VERBS_OF, How, Outcome, Verb, jobs_in_words, report
from . import options
from .listing import unknown
from .options import Commands
from .output import Output

#: Names in JSON for how many jobs it was done to.
DONE = {"retry": "retried", "cancel": "cancelled", "redrive": "redriven", "purge": "purged"}
USAGE = 2
#: Jobs that are looked for at once.
PAGE = 1000


def add(commands: Commands) -> None:
    _add(commands.add(retry, "Make scheduled jobs ready now: some, or (--all) all that match."), "retry")
    cancelling = commands.add(cancel, "Cancel jobs: some, or (--all) all that match; running ones are asked to stop.")
    cancelling.add_argument("--reason", default=jobs.CANCELLED_ON_REQUEST)
    _add(cancelling, "cancel")
    redriving = commands.add(redrive, "Make dead letters ready again: some, or (--all) all that match.")
    redriving.add_argument("--rate", type=options.positive, help="so many a second")
    _add(redriving, "redrive")
    _add(commands.add(purge, "Forget jobs that have ended: some, or (--all) all in one state that match."), "purge")


def _add(command: CommandParser, name: str) -> None:
    options.channel(command, optional=True)
    command.add_argument("job", nargs="*", help="ids of jobs of the channel")
    command.add_argument("--all", action="store_true", help="all that match, of the channel or of all")
    states = [state for state, verbs in VERBS_OF.items() if name in verbs]
    default = states[0] if len(states) == 1 else State.DEAD if State.DEAD in states else None
    words = f"with --all; default: {default}" if default else "with --all, which needs it"
    options.states(command, states, words, default)
    options.filters(command)
    command.add_argument("--limit", type=options.whole, help="with --all: at most so many")
    command.add_argument("--dry-run", action="store_true", help="with --all: count them, and do nothing")
    options.noinput(command)


def retry(given: Namespace, out: Output) -> None:
    _do("retry", given, out)


def cancel(given: Namespace, out: Output) -> None:
    _do("cancel", given, out)


def redrive(given: Namespace, out: Output) -> None:
    _do("redrive", given, out)


def purge(given: Namespace, out: Output) -> None:
    _do("purge", given, out)


def _do(name: str, given: Namespace, out: Output) -> None:
    verb = VERBS[name]
    how = How(
        rate=getattr(given, "rate", None), reason=getattr(given, "reason", jobs.CANCELLED_ON_REQUEST), using=given.layer
    )
    if problem := _problem(verb, given):
        raise CommandError(problem, returncode=USAGE)
    if given.all:
        _to_all(verb, how, given, out)
    elif len(given.job) == 1:
        _to_one(verb, given, out)
    else:
        _to_some(verb, how, given, out)


def _problem(verb: Verb, given: Namespace) -> str:
    """What is wrong with the arguments taken together; "" when nothing is."""
    if given.all:
        if given.job:
            return "ids of jobs are not allowed with --all: name jobs, or filters of those that are meant"
        if given.state is None:
            return f"{verb.name} --all takes --state {', '.join(s for s in State if verb.name in VERBS_OF[s])}"
        return ""
    if not given.channel or not given.job:
        return f"{verb.name} takes a channel and ids of its jobs, or --all: one of them is required"
    if options.narrowed(given) or given.limit or given.dry_run:
        return "Filters, --limit and --dry-run are for --all: name jobs, or all that match."
    return ""


# One job: it is said of it what it is now, or why nothing was done


def _to_one(verb: Verb, given: Namespace, out: Output) -> None:
    (job,) = given.job
    if verb.name != "retry" and not given.noinput:
        out.confirm(verb.question.format(f"{job} of {given.channel}"))
    ONE[verb.name](job, given, out)


def _retry(job: str, given: Namespace, out: Output) -> None:
    state = jobs.retry_now(given.channel, job, using=given.layer)
    _changed(state, {State.READY}, "Only a scheduled job can be made ready.", job=job, given=given, out=out)


def _cancel(job: str, given: Namespace, out: Output) -> None:
    state = jobs.cancel(given.channel, job, given.reason, using=given.layer)
    words = "Only a scheduled, ready or running job can be cancelled."
    _changed(state, {State.CANCELLED, State.RUNNING}, words, job=job, given=given, out=out)


def _redrive(job: str, given: Namespace, out: Output) -> None:
    state = jobs.redrive(given.channel, job, using=given.layer)
    _changed(state, {State.READY}, "Only a dead letter can be redriven.", job=job, given=given, out=out)


def _purge(job: str, given: Namespace, out: Output) -> None:
    if jobs.get(given.channel, job, using=given.layer) is None:
        raise unknown(given.channel, job)
    state = jobs.purge(given.channel, job, using=given.layer)
    if state is not None:
        raise CommandError(f"{job} is {state}. Only a job that has ended can be purged: cancel it first.")
    out.report({"purged": 1}, f"{job} purged")


ONE: dict[str, Callable[[str, Namespace, Output], None]] = {
    "retry": _retry, "cancel": _cancel, "redrive": _redrive, "purge": _purge
}  # fmt: skip


def _changed(
    state: State | None, wanted: set[State], otherwise: str, *, job: str, given: Namespace, out: Output
) -> None:
    if state is None:
        raise unknown(given.channel, job)
    if state not in wanted:
        raise CommandError(f"{job} is {state}. {otherwise}")
    words = "is asked to stop" if state is State.RUNNING else f"is {state}"
    out.report({"id": job, "state": state}, f"{job} {words}")


# Several


def _to_some(verb: Verb, how: How, given: Namespace, out: Output) -> None:
    """Those that were named. Raises CommandError when it could be done to none of them."""
    if verb.name != "retry" and not given.noinput:
        out.confirm(verb.question.format(f"{len(given.job)} jobs of {given.channel}"))
    outcome = Outcome()
    by_state: dict[State, list[str]] = {}
    for job_id in dict.fromkeys(given.job):
        job = jobs.get(given.channel, job_id, using=given.layer)
        if job is None or verb.name not in VERBS_OF[job.state]:
            outcome.moved[None if job is None else job.state] += 1
        else:
            by_state.setdefault(job.state, []).append(job_id)
    for state, ids in by_state.items():
        outcome.add(verb.act(given.channel, ids, state, replace(how, due=outcome.due)))
    if not outcome.done:
        raise CommandError(report(verb, outcome))
    _tell(verb, outcome, out)


# All that match


def _to_all(verb: Verb, how: How, given: Namespace, out: Output) -> None:
    channels = options.chosen(given)
    if given.dry_run or not given.noinput:
        count = _count(channels, given)
        what = jobs_in_words(count, given.state, given.channel or "")
        if given.dry_run:
            out.report({"matching": count}, f"{what} match; nothing was done")
            return
        out.confirm(verb.question.format(what))
    outcome = Outcome()
    for channel in channels:
        room = None if given.limit is None else given.limit - outcome.done
        if room != 0:
            outcome.add(_to_channel(verb, channel, room, replace(how, due=outcome.due), given))
    _tell(verb, outcome, out)


def _to_channel(verb: Verb, channel: str, room: int | None, how: How, given: Namespace) -> Outcome:
    """At most ``room`` of one channel. What one script can find and do at once is left to it."""
    if verb.name == "purge" and room is None and not options.narrowed_by_more_than_age(given):
        age = given.older_than.total_seconds() if given.older_than else 0.0
        return Outcome(jobs.purge_all(channel, given.state, older_than=age, using=given.layer))
    if verb.name == "redrive" and not options.narrowed(given) and (how.rate is None or given.channel):
        return Outcome(jobs.redrive_all(channel, limit=room, rate=how.rate, using=given.layer))
    outcome = Outcome(due=how.due)
    ids = islice(_matching(channel, given), room)
    while batch := list(islice(ids, BATCH)):
        outcome.add(verb.act(channel, batch, given.state, replace(how, due=outcome.due)))
    return outcome


def _count(channels: list[str], given: Namespace) -> int:
    if not options.narrowed(given) and given.state not in (State.CANCELLED, State.EXPIRED):
        count = sum(int(getattr(jobs.counts(channel, using=given.layer), given.state)) for channel in channels)
    else:
        count = sum(1 for channel in channels for _ in _matching(channel, given))
    return count if given.limit is None else min(count, given.limit)


def _matching(channel: str, given: Namespace) -> Iterator[str]:
    """Ids of the jobs that match, those that came last first."""
    cursor = None
    while True:
        found = find(
            [channel], given.state, options.match(given), text=given.text, limit=PAGE, cursor=cursor, messages=False,
            shown=redact, using=given.layer,
        )  # fmt: skip
        yield from (row.job.id for row in found.rows)
        cursor = found.cursor
        if cursor is None:
            return


def _tell(verb: Verb, outcome: Outcome, out: Output) -> None:
    out.report({DONE[verb.name]: outcome.done, "left": outcome.left}, report(verb, outcome))
