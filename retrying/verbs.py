"""What people can do to jobs, in the control room and by ``manage.py retrying``: to some of one channel at once, and in
which words that is asked and told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from . import many
from .job import State
from .jobs import CANCELLED_ON_REQUEST

#: What can be done to jobs in each state: names of VERBS.
VERBS_OF = {
    State.SCHEDULED: ("retry", "cancel"),
    State.READY: ("cancel",),
    State.RUNNING: ("cancel",),
    State.DEAD: ("redrive", "purge"),
    State.SUCCEEDED: ("purge",),
    State.CANCELLED: ("purge",),
    State.EXPIRED: ("purge",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """``rate``: jobs that are redriven a second; ``due``: when the next of them may start, as the call before told it;
    ``reason``: why they are cancelled; ``using``: alias of the channel layer."""

    rate: float | None = None
    due: str = ""
    reason: str = CANCELLED_ON_REQUEST
    using: str = "default"


@dataclass
class Outcome:
    """Of some jobs: how many it was ``done`` to, and the states of those that had ``moved`` on.

    ``held``: dead letters whose unique name another job holds; ``due``: with a rate, when the next may start.
    """

    done: int = 0
    moved: Counter[State | None] = field(default_factory=Counter)
    held: int = 0
    due: str = ""

    @property
    def left(self) -> int:
        """Jobs that were left alone."""
        return self.held + self.moved.total()

    def add(self, other: Outcome) -> None:
        self.done += other.done
        self.moved += other.moved
        self.held += other.held
        self.due = other.due


@dataclass(frozen=True, slots=True)
class Verb:
    """``act(channel, ids, state, how)``: do it to those of these jobs that still are in ``state``."""

    name: str
    right: Literal["manage", "purge"]
    #: In a question: "Cancel 12 running jobs?"
    question: str
    #: In a report: "12 jobs were cancelled."
    done: str
    #: What it means, for one job as for many.
    detail: str
    act: Callable[[str, Sequence[str], State, How], Outcome]
    destructive: bool = False


def _count(states: Sequence[State | None], wanted: set[State | None]) -> Outcome:
    good = sum(state in wanted for state in states)
    return Outcome(good, Counter(state for state in states if state not in wanted))


def _retry(channel: str, ids: Sequence[str], state: State, how: How) -> Outcome:
    return _count(many.retry_now_many(channel, ids, using=how.using), {State.READY})


def _cancel(channel: str, ids: Sequence[str], state: State, how: How) -> Outcome:
    found = many.cancel_many(channel, ids, how.reason, using=how.using)
    return _count(found, {State.CANCELLED, State.RUNNING})


def _redrive(channel: str, ids: Sequence[str], state: State, how: How) -> Outcome:
    found = many.redrive_many(channel, ids, rate=how.rate, due=how.due, using=how.using)
    outcome = _count(found.states, {State.READY, State.SCHEDULED})
    outcome.held, outcome.due = len(found.held), found.due
    outcome.moved -= Counter({State.DEAD: len(found.held)})
    return outcome


def _purge(channel: str, ids: Sequence[str], state: State, how: How) -> Outcome:
    return _count(many.purge_many(channel, ids, state, using=how.using), {None})


VERBS = {
    verb.name: verb
    for verb in (
        Verb("retry", "manage", "Retry {} now?", "made ready at once", "Without waiting for the due time.", _retry),
        Verb(
            "cancel", "manage", "Cancel {}?", "cancelled, or asked to stop",
            "What waits won't run (again). What runs is asked to stop; its handler may still finish.", _cancel,
            destructive=True,
        ),
        Verb(
            "redrive", "manage", "Redrive {}?", "redriven",
            "To run again, with all retries. What made it fail should be mended first.", _redrive,
        ),
        Verb(
            "purge", "purge", "Purge {} for good?", "purged",
            "Deleted, with arguments and errors: nothing undoes it.", _purge, destructive=True,
        ),
    )
}  # fmt: skip


def jobs_in_words(count: int, state: str, channel: str = "") -> str:
    """``12 dead jobs of “work”``."""
    words = f"{count:,} {state} job{'' if count == 1 else 's'}"
    return f"{words} of “{channel}”" if channel else words


def report(verb: Verb, outcome: Outcome) -> str:
    """What came of it, in a sentence or two."""
    jobs = "1 job was" if outcome.done == 1 else f"{outcome.done:,} jobs were"
    parts = [f"{jobs} {verb.done}." if outcome.done else "Nothing was done."]
    if outcome.held:
        parts.append(
            f"{outcome.held:,} stay{'s' if outcome.held == 1 else ''} dead: another job holds the unique name."
        )
    if outcome.moved:
        states = ", ".join(
            f"{count:,} {'gone' if state is None else state}" for state, count in sorted(outcome.moved.items(), key=str)
        )
        total = outcome.moved.total()
        parts.append(f"{total:,} had moved on and {'was' if total == 1 else 'were'} left alone ({states}).")
    return " ".join(parts)


def apply(verb: Verb, found: Sequence[tuple[str, str]], state: State, how: How) -> Outcome:
    """Do it to jobs of several channels, (channel, id) each, that were in ``state``."""
    outcome = Outcome(due=how.due)
    by_channel: dict[str, list[str]] = {}
    for channel, job_id in found:
        by_channel.setdefault(channel, []).append(job_id)
    for channel, ids in by_channel.items():
        outcome.add(verb.act(channel, ids, state, replace(how, due=outcome.due)))
    return outcome
