"""When is a failed attempt tried again, and after how long? Data and a pure function; no clock, no I/O."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from .exceptions import AttemptTimeout, Bury, InvalidPolicy, RetryLater

if TYPE_CHECKING:
    from .job import Job

#: Share of the delay that jitter adds at most.
JITTER = 0.25
#: From this share of the cap on, delays are drawn between it and the cap: retries must not march together there.
CAP_SPREAD = 0.8
#: Longest time anything may be told to take: one so far off is a mistake, and dates end somewhere.
MAX_SECONDS = 100 * 365 * 86400
#: Larger exponents overflow a float for any factor > 1.0; the cap was reached long before.
MAX_EXPONENT = 1000

Seconds = float
BackoffFunction = Callable[[BaseException, "Job"], "float | timedelta | None"]
Predicate = Callable[[BaseException], bool]
ExceptionMatch = type[BaseException] | tuple[type[BaseException], ...] | Predicate
Handler = TypeVar("Handler", bound=Callable[..., Any])


def seconds(value: object, *, name: str) -> Seconds:
    """``value`` in seconds. Raises InvalidPolicy naming ``name`` when it isn't a number from 0 to MAX_SECONDS or a
    timedelta."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise InvalidPolicy(f"{name} must be seconds >= 0 or a timedelta, got {value!r}")
    if value > MAX_SECONDS:
        raise InvalidPolicy(f"{name} must be at most {MAX_SECONDS} seconds (100 years), got {value!r}")
    return float(value)


def _jitter(delay: Seconds, base: Seconds, cap: Seconds, rng: random.Random) -> Seconds:
    if delay >= CAP_SPREAD * cap:
        return rng.uniform(max(base, CAP_SPREAD * cap), cap)
    return rng.uniform(delay, delay * (1 + JITTER))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential:
    """The n-th retry waits ``min(cap, base * factor ** (n - 1))`` seconds, plus jitter."""

    base: Seconds = 10.0
    factor: float = 2.0
    cap: Seconds = 3600.0

    def __post_init__(self) -> None:
        seconds(self.base, name="backoff.base")
        seconds(self.cap, name="backoff.cap")
        factor: object = self.factor
        if not isinstance(factor, (int, float)) or not math.isfinite(factor) or factor < 1:
            raise InvalidPolicy(f"backoff.factor must be a number >= 1, got {self.factor!r}")
        if self.cap < self.base:
            raise InvalidPolicy(f"backoff.cap must be at least backoff.base ({self.base} s), got {self.cap!r}")

    def delay(self, retry: int) -> Seconds:
        """Seconds before the ``retry``-th retry (1, 2, ...), without jitter."""
        try:
            return min(self.cap, self.base * self.factor ** min(retry - 1, MAX_EXPONENT))
        except OverflowError:
            return self.cap

    def jittered(self, retry: int, rng: random.Random) -> Seconds:
        """The delay with jitter: never under the base, never over the cap."""
        return _jitter(self.delay(retry), self.base, self.cap, rng)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """The n-th retry waits ``min(cap, base + step * (n - 1))`` seconds, plus jitter."""

    base: Seconds = 10.0
    step: Seconds = 10.0
    cap: Seconds = 3600.0

    def __post_init__(self) -> None:
        for name in ("base", "step", "cap"):
            seconds(getattr(self, name), name=f"backoff.{name}")
        if self.cap < self.base:
            raise InvalidPolicy(f"backoff.cap must be at least backoff.base ({self.base} s), got {self.cap!r}")

    def delay(self, retry: int) -> Seconds:
        """Seconds before the ``retry``-th retry (1, 2, ...), without jitter."""
        return min(self.cap, self.base + self.step * (retry - 1))

    def jittered(self, retry: int, rng: random.Random) -> Seconds:
        """The delay with jitter: never under the base, never over the cap."""
        return _jitter(self.delay(retry), self.base, self.cap, rng)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """The n-th retry waits the n-th of these seconds, the last one again and again, plus jitter of 0-25 %."""

    delays: tuple[Seconds, ...]

    def __post_init__(self) -> None:
        if not self.delays:
            raise InvalidPolicy("backoff must list at least one delay in seconds, got an empty list")

    def delay(self, retry: int) -> Seconds:
        return self.delays[min(retry, len(self.delays)) - 1]

    def jittered(self, retry: int, rng: random.Random) -> Seconds:
        delay = self.delay(retry)
        return rng.uniform(delay, delay * (1 + JITTER))


Backoff = Exponential | Linear | Delays | BackoffFunction


def to_backoff(value: object) -> Backoff:
    """A backoff from what people write: a mapping (base, cap, and factor or step), seconds, a list, or a callable.

    Raises InvalidPolicy naming the field that is wrong.
    """
    if isinstance(value, (Exponential, Linear, Delays)):
        return value
    if isinstance(value, Mapping):
        kind = Linear if "step" in value else Exponential
        if unknown := sorted(set(value) - {field.name for field in fields(kind)}):
            raise InvalidPolicy(
                f"backoff takes base, cap, and factor or step (linear), got {', '.join(map(str, unknown))}"
            )
        numbers: dict[str, float] = {
            name: seconds(number, name=f"backoff.{name}") if name != "factor" else number
            for name, number in value.items()
        }
        numbers.setdefault("cap", max(numbers.get("base", 0.0), 3600.0))
        return kind(**numbers)
    if isinstance(value, (int, float, timedelta)):
        return Delays(delays=(seconds(value, name="backoff"),))
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return Delays(delays=tuple(seconds(item, name=f"backoff[{index}]") for index, item in enumerate(value)))
    if callable(value):
        return value
    raise InvalidPolicy(
        "backoff must be seconds, a list of seconds, {'base': s, 'factor': x, 'cap': s} (or 'step' for 'factor') "
        f"or a callable (exception, job) -> seconds | None, got {value!r}"
    )


def _matches(match: ExceptionMatch, error: BaseException) -> bool:
    if isinstance(match, (type, tuple)):
        return isinstance(error, match)
    return bool(match(error))


def _check_match(match: object, name: str) -> None:
    classes = match if isinstance(match, tuple) else (match,)
    for item in classes:
        if isinstance(item, type) and not issubclass(item, BaseException):
            raise InvalidPolicy(f"{name} takes exception classes or a predicate, got the class {item.__qualname__}")
        if not isinstance(item, type) and (isinstance(match, tuple) or not callable(item)):
            raise InvalidPolicy(f"{name} takes an exception class, a tuple of them or a predicate, got {item!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How failures of a job are treated.

    The n-th retry waits ``min(cap, base * factor**(n-1))`` seconds plus a jitter of 0-25 %: never less than the base,
    never more than the cap (from 0.8 of the cap on it is drawn between 0.8 and 1.0 of it).
    Defaults: 10 s, 20 s, 40 s, 80 s, 160 s, each up to a quarter longer; then the job is a dead letter.
    """

    #: Retries after the first attempt; None = without end.
    max_retries: int | None = 5
    #: Exponential, Delays, or a callable ``(exception, job) -> seconds | timedelta | None`` (None = give up).
    backoff: Backoff = Exponential()
    #: Only these (and timeouts) are retried: exception class, tuple of classes, or predicate. By default whatever a
    #: handler raises, a stray SystemExit or CancelledError included: they are no reason to give a job up.
    retry_on: ExceptionMatch = BaseException
    #: These are never retried; wins over ``retry_on``.
    give_up_on: ExceptionMatch = ()
    #: Seconds one attempt may take; None = without end.
    timeout: Seconds | None = 600.0
    #: Seconds after it was enqueued from which on the job is not tried again; None = without end.
    deadline: Seconds | None = None

    def __post_init__(self) -> None:
        limit: object = self.max_retries
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise InvalidPolicy(f"max_retries must be a whole number >= 0 or None, got {limit!r}")
        object.__setattr__(self, "backoff", to_backoff(self.backoff))
        for name in ("retry_on", "give_up_on"):
            match = getattr(self, name)
            if isinstance(match, list):
                match = tuple(match)
                object.__setattr__(self, name, match)
            _check_match(match, name)
        for name in ("timeout", "deadline"):
            if (value := getattr(self, name)) is not None:
                if (limit := seconds(value, name=name)) == 0:
                    raise InvalidPolicy(f"{name} must be more than 0 seconds; None means without end")
                object.__setattr__(self, name, limit)

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any], *, base: RetryPolicy | None = None) -> RetryPolicy:
        """``base`` (or the defaults) with ``options`` over it. Raises InvalidPolicy for an unknown name."""
        names = {field.name for field in fields(cls)}
        if unknown := sorted(set(options) - names):
            raise InvalidPolicy(f"a policy takes {', '.join(sorted(names))}; got {', '.join(unknown)}")
        return replace(base or cls(), **options)

    def to_json(self) -> str:
        """The policy as it travels with a single job. Raises InvalidPolicy: a job carries data, not functions."""
        data: dict[str, Any] = {"max_retries": self.max_retries, "timeout": self.timeout, "deadline": self.deadline}
        if isinstance(self.backoff, (Exponential, Linear)):
            data["backoff"] = asdict(self.backoff)
        elif isinstance(self.backoff, Delays):
            data["backoff"] = list(self.backoff.delays)
        else:
            raise InvalidPolicy("a job's own policy is stored as JSON: a callable backoff belongs on the handler")
        if self.retry_on is not BaseException or self.give_up_on != ():
            raise InvalidPolicy("a job's own policy is stored as JSON: retry_on and give_up_on belong on the handler")
        return json.dumps(data)

    def merged_json(self, text: str) -> RetryPolicy:
        """This policy with the data of a job's own (``to_json``) over it."""
        return RetryPolicy.from_mapping(json.loads(text), base=self)


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Decision: try again in ``delay`` seconds."""

    delay: Seconds


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Decision: the job is a dead letter, for this reason."""

    reason: str


Decision = RetryAfter | GiveUp


def decide(policy: RetryPolicy, error: BaseException, job: Job, rng: random.Random) -> Decision:
    """What becomes of ``job`` after ``error``; ``job.failures`` is the number of charged attempts before this one.

    The delay is, first found: ``RetryLater(delay)``; the exception's ``retry_after`` (seconds or timedelta, HTTP
    429/503), lengthened by jitter and not held to the cap; the policy's backoff.
    """
    if isinstance(error, Bury):
        return GiveUp(error.reason)
    if not isinstance(error, RetryLater):
        if _matches(policy.give_up_on, error):
            return GiveUp(f"{type(error).__name__} is never retried (give_up_on)")
        if not isinstance(error, AttemptTimeout) and not _matches(policy.retry_on, error):
            return GiveUp(f"{type(error).__name__} is not among the exceptions to retry (retry_on)")
    if policy.max_retries is not None and job.failures >= policy.max_retries:
        return GiveUp("no attempts left" if policy.max_retries else "failed, and its policy has no retries")
    if isinstance(error, RetryLater) and error.delay is not None:
        return RetryAfter(seconds(error.delay, name="RetryLater.delay"))
    asked = getattr(error, "retry_after", None)
    if asked is not None:
        delay = seconds(asked, name=f"{type(error).__name__}.retry_after")
        return RetryAfter(rng.uniform(delay, delay * (1 + JITTER)))
    if isinstance(policy.backoff, (Exponential, Linear, Delays)):
        return RetryAfter(policy.backoff.jittered(job.failures + 1, rng))
    wanted = policy.backoff(error, job)
    return GiveUp("the backoff function gave up") if wanted is None else RetryAfter(seconds(wanted, name="backoff()"))


def retry(
    *,
    max_retries: int | None = 5,
    backoff: object = Exponential(),
    retry_on: ExceptionMatch = BaseException,
    give_up_on: ExceptionMatch = (),
    timeout: Seconds | None = 600.0,
    deadline: Seconds | None = None,
) -> Callable[[Handler], Handler]:
    """Attach a RetryPolicy to a consumer's handler method or a task function; the same function is returned.

    Raises InvalidPolicy when declared with something wrong, naming the field; TypeError when the thing decorated
    isn't a function (``@retry`` goes under ``@task``).
    """
    policy = RetryPolicy(
        max_retries=max_retries,
        backoff=to_backoff(backoff),
        retry_on=retry_on,
        give_up_on=give_up_on,
        timeout=timeout,
        deadline=deadline,
    )

    def attach(handler: Handler) -> Handler:
        if isinstance(handler, type) or not hasattr(handler, "__code__"):
            raise TypeError(
                f"@retry goes on a function or method, directly above its def (and under @task); got {handler!r}"
            )
        handler.retry_policy = policy  # type: ignore[attr-defined]
        return handler

    return attach
