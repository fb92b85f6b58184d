"""When a failed attempt is tried again: a pure function, so tables and properties."""

from __future__ import annotations

import math
import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrying import Bury, Discard, InvalidPolicy, Job, RetryLater, RetryPolicy, Snooze, State, retry
from retrying.exceptions import AttemptTimeout
from retrying.policy import Exponential, GiveUp, RetryAfter, decide, to_backoff

#: Retry -> seconds before jitter, of the default policy: base 10 s, factor 2, cap 1 h.
SCHEDULE = {1: 10, 2: 20, 3: 40, 4: 80, 5: 160, 6: 320, 7: 640, 8: 1280, 9: 2560, 10: 3600, 11: 3600, 1000: 3600}

exponentials = st.builds(
    lambda base, factor, more: Exponential(base=base, factor=factor, cap=base + more),
    base=st.floats(0.001, 1e5),
    factor=st.floats(1, 100),
    more=st.floats(0, 1e6),
)
retries = st.one_of(st.integers(1, 50), st.integers(1, 10**12))
seeds = st.integers().map(random.Random)


def job(failures: int = 0) -> Job:
    return Job(id="j", channel="work", state=State.RUNNING, attempt=failures + 1, failures=failures)


def after(policy: RetryPolicy, error: BaseException, failures: int = 0) -> float:
    """Seconds until the retry."""
    decision = decide(policy, error, job(failures), random.Random(1))
    assert isinstance(decision, RetryAfter), decision
    return decision.delay


def reason(policy: RetryPolicy, error: BaseException, failures: int = 0) -> str:
    """Why it is given up."""
    decision = decide(policy, error, job(failures), random.Random(1))
    assert isinstance(decision, GiveUp), decision
    return decision.reason


# The schedule


def test_default_schedule() -> None:
    policy = RetryPolicy()
    assert isinstance(policy.backoff, Exponential)
    assert {n: policy.backoff.delay(n) for n in SCHEDULE} == SCHEDULE
    assert (policy.max_retries, policy.timeout) == (5, 600)


@pytest.mark.parametrize("failures", range(5))
def test_default_policy_adds_up_to_a_quarter(failures: int) -> None:
    base = SCHEDULE[failures + 1]
    delays = [
        decide(RetryPolicy(), ValueError(), job(failures), random.Random(seed)).delay  # type: ignore[union-attr]
        for seed in range(2000)
    ]
    assert base <= min(delays) < base * 1.01
    assert base * 1.24 < max(delays) <= base * 1.25
    assert math.isclose(sum(delays) / len(delays), base * 1.125, rel_tol=0.01), "jitter is spread evenly"


def test_default_policy_gives_up_after_five_retries() -> None:
    assert after(RetryPolicy(), ValueError(), failures=4) >= 160
    assert reason(RetryPolicy(), ValueError(), failures=5) == "no attempts left"
    assert "no retries" in reason(RetryPolicy(max_retries=0), ValueError())
    assert after(RetryPolicy(max_retries=None), ValueError(), failures=10**9) <= 3600


@given(exponentials, retries, seeds)
def test_delay_is_never_under_the_base_nor_over_the_cap(backoff: Exponential, retry: int, rng: random.Random) -> None:
    assert backoff.base <= backoff.delay(retry) <= backoff.cap
    assert backoff.base <= backoff.jittered(retry, rng) <= backoff.cap


@given(exponentials, retries, seeds)
def test_jitter_only_adds_and_at_most_a_quarter(backoff: Exponential, retry: int, rng: random.Random) -> None:
    delay, jittered = backoff.delay(retry), backoff.jittered(retry, rng)
    if delay < 0.8 * backoff.cap:
        assert delay <= jittered <= delay * 1.25
    else:
        assert max(backoff.base, 0.8 * backoff.cap) <= jittered <= backoff.cap


@given(exponentials, st.integers(1, 60))
def test_delays_never_shrink(backoff: Exponential, retry: int) -> None:
    assert backoff.delay(retry + 1) >= backoff.delay(retry)


def test_retries_spread_out_at_the_cap() -> None:
    delays = [Exponential().jittered(20, random.Random(seed)) for seed in range(2000)]
    assert 2880 <= min(delays) < 2900
    assert 3580 < max(delays) <= 3600


@pytest.mark.parametrize("n", [1_000, 10**6, 10**18])
def test_huge_retry_numbers_do_not_overflow(n: int) -> None:
    assert Exponential(factor=1e300).delay(n) == 3600
    assert after(RetryPolicy(max_retries=None), ValueError(), failures=n) <= 3600


# The forms of a backoff

#: What a policy's backoff takes -> seconds before each retry, before jitter; docs/settings.md has it too.
FORMS: dict[str, tuple[Any, list[float]]] = {
    "exponential": ({"base": 1, "factor": 3, "cap": 60}, [1, 3, 9, 27, 60, 60]),
    "linear": ({"base": 10, "step": 15, "cap": 60}, [10, 25, 40, 55, 60, 60]),
    "fixed": (30, [30, 30, 30, 30, 30, 30]),
    "list": ([1, 5, 60], [1, 5, 60, 60, 60, 60]),
}


@pytest.mark.parametrize("form", FORMS)
def test_schedule_of_each_form(form: str) -> None:
    given, schedule = FORMS[form]
    policy = RetryPolicy(backoff=to_backoff(given), max_retries=None)
    assert [policy.backoff.delay(n) for n in range(1, 7)] == schedule  # type: ignore[union-attr]


def test_fixed_seconds() -> None:
    for seconds in (30, 30.0, timedelta(seconds=30)):
        policy = RetryPolicy(backoff=to_backoff(seconds))
        assert all(30 <= after(policy, ValueError(), n) <= 37.5 for n in range(5))


def test_list_of_seconds_repeats_its_last() -> None:
    policy = RetryPolicy(backoff=to_backoff([1, timedelta(seconds=5), 60]))
    for failures, low in enumerate([1, 5, 60, 60, 60]):
        assert low <= after(policy, ValueError(), failures) <= low * 1.25


def test_mapping_may_name_only_some() -> None:
    assert to_backoff({"base": 1}) == Exponential(base=1, factor=2, cap=3600)
    assert to_backoff({"base": 7200}) == Exponential(base=7200, factor=2, cap=7200)
    assert to_backoff({"factor": 3, "cap": 50}) == Exponential(base=10, factor=3, cap=50)


def test_callable_gets_the_exception_and_the_job_and_may_give_up() -> None:
    seen: list[Any] = []

    def backoff(error: BaseException, job: Job) -> timedelta | float | None:
        seen.append((error, job))
        return {0: timedelta(minutes=1), 1: 2.5}.get(job.failures)

    policy = RetryPolicy(backoff=backoff)
    error = ValueError()
    assert after(policy, error, 0) == 60
    assert after(policy, error, 1) == 2.5
    assert "gave up" in reason(policy, error, 2)
    assert [(item[0], item[1].failures) for item in seen] == [(error, 0), (error, 1), (error, 2)]


# Which exceptions


def test_retry_on_and_give_up_on() -> None:
    policy = RetryPolicy(retry_on=(OSError, KeyError), give_up_on=FileNotFoundError)
    assert after(policy, ConnectionError())
    assert after(policy, KeyError())
    assert reason(policy, FileNotFoundError()) == "FileNotFoundError is never retried (give_up_on)"
    assert reason(policy, ValueError()) == "ValueError is not among the exceptions to retry (retry_on)"
    assert after(policy, AttemptTimeout()), "a timeout is retried whatever retry_on says"
    assert after(policy, RetryLater()), "and so is what a handler asks for"


def test_predicates() -> None:
    policy = RetryPolicy(retry_on=lambda e: "again" in str(e), give_up_on=lambda e: "never" in str(e))
    assert after(policy, ValueError("again"))
    assert "retry_on" in reason(policy, ValueError("no"))
    assert "give_up_on" in reason(policy, ValueError("never again"))


def test_stray_base_exceptions_are_retried_by_default() -> None:
    assert after(RetryPolicy(), SystemExit(3))


# What exceptions ask for


class Busy(Exception):
    def __init__(self, retry_after: Any) -> None:
        self.retry_after = retry_after


@pytest.mark.parametrize("asked", [7200, 7200.0, timedelta(hours=2)])
def test_retry_after_is_never_shortened_not_even_to_the_cap(asked: Any) -> None:
    assert 7200 <= after(RetryPolicy(), Busy(asked)) <= 9000


def test_retry_after_none_means_the_policy() -> None:
    assert 10 <= after(RetryPolicy(), Busy(None)) <= 12.5


@pytest.mark.parametrize("asked", ["soon", -1, math.nan, math.inf, True])
def test_retry_after_that_is_no_number_is_refused_by_name(asked: Any) -> None:
    with pytest.raises(InvalidPolicy, match=r"Busy.retry_after"):
        decide(RetryPolicy(), Busy(asked), job(), random.Random(1))


def test_retry_later() -> None:
    assert after(RetryPolicy(), RetryLater(3)) == 3
    assert after(RetryPolicy(), RetryLater(timedelta(minutes=2))) == 120
    assert 10 <= after(RetryPolicy(), RetryLater()) <= 12.5
    assert reason(RetryPolicy(max_retries=1), RetryLater(3), failures=1) == "no attempts left"


def test_bury_wins_over_everything() -> None:
    assert reason(RetryPolicy(max_retries=None), Bury("the account is closed")) == "the account is closed"


def test_outcomes_tell_what_they_mean() -> None:
    assert [str(e) for e in (RetryLater(), RetryLater(3), Snooze(5), Bury("b"), Discard("d"))] == [
        "retry later", "retry in 3", "snoozed for 5", "b", "d",
    ]  # fmt: skip


# Mistakes are named when declared


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_retries": -1}, "max_retries must be a whole number >= 0 or None, got -1"),
        ({"max_retries": 1.5}, "max_retries"),
        ({"max_retries": True}, "max_retries"),
        ({"max_retries": "5"}, "max_retries"),
        ({"timeout": 0}, "timeout must be more than 0"),
        ({"timeout": -1}, "timeout must be seconds >= 0"),
        ({"timeout": math.nan}, "timeout"),
        ({"timeout": "1 min"}, "timeout"),
        ({"backoff": -1}, "backoff must be seconds >= 0"),
        ({"backoff": True}, "backoff"),
        ({"backoff": "fast"}, "backoff must be seconds, a list"),
        ({"backoff": None}, "backoff must be seconds, a list"),
        ({"backoff": []}, "backoff must list at least one delay"),
        ({"backoff": [1, -2]}, r"backoff\[1\]"),
        ({"backoff": {"base": -1}}, "backoff.base"),
        ({"backoff": {"base": 10, "cap": 5}}, "backoff.cap must be at least backoff.base"),
        ({"backoff": {"factor": 0.5}}, "backoff.factor must be a number >= 1"),
        ({"backoff": {"factor": "2"}}, "backoff.factor"),
        ({"backoff": {"cap": math.inf}}, "backoff.cap"),
        ({"backoff": {"first": 1}}, "factor or step .linear., got first"),
        ({"retry_on": int}, "retry_on takes exception classes or a predicate, got the class int"),
        ({"retry_on": "ValueError"}, "retry_on takes an exception class"),
        ({"give_up_on": (ValueError, 5)}, "give_up_on takes an exception class"),
        ({"give_up_on": (ValueError, lambda e: True)}, "give_up_on"),
    ],
)
def test_bad_policy_names_the_field(options: dict[str, Any], words: str) -> None:
    for declare in (RetryPolicy.from_mapping, lambda o: retry(**o)):
        with pytest.raises(InvalidPolicy, match=words):
            declare(options)


def test_unknown_name_in_a_policy() -> None:
    with pytest.raises(InvalidPolicy, match="got retries"):
        RetryPolicy.from_mapping({"retries": 3})


def test_policy_is_frozen() -> None:
    with pytest.raises(AttributeError):
        RetryPolicy().max_retries = 9  # type: ignore[misc]


# The decorator


def test_retry_returns_the_same_function_with_its_policy() -> None:
    async def handler(message: object) -> None: ...

    decorated = retry(max_retries=7, backoff={"base": 1}, timeout=5, give_up_on=[KeyError])(handler)
    assert decorated is handler
    policy = handler.retry_policy  # type: ignore[attr-defined]
    assert policy == RetryPolicy(max_retries=7, backoff=Exponential(base=1), timeout=5, give_up_on=(KeyError,))


class TaskLike:
    """What django.tasks' @task returns: an object with a function in it."""

    def __init__(self, func: object) -> None:
        self.func = func

    def __call__(self) -> None: ...


@pytest.mark.parametrize("thing", [TaskLike, TaskLike(print), "text", print])
def test_retry_refuses_what_is_no_function(thing: Any) -> None:
    with pytest.raises(TypeError, match="goes on a function or method"):
        retry()(thing)


# A job's own policy


@pytest.mark.parametrize(
    "policy",
    [
        RetryPolicy(),
        RetryPolicy(max_retries=None, timeout=None),
        RetryPolicy(max_retries=0, backoff=to_backoff([1, 2.5]), timeout=0.5),
        RetryPolicy(backoff=to_backoff({"base": 2, "factor": 3, "cap": 100})),
    ],
)
def test_job_policy_survives_json(policy: RetryPolicy) -> None:
    assert RetryPolicy().merged_json(policy.to_json()) == policy


def test_job_policy_keeps_the_handlers_exceptions() -> None:
    merged = RetryPolicy(give_up_on=KeyError, retry_on=LookupError).merged_json(RetryPolicy(max_retries=1).to_json())
    assert (merged.max_retries, merged.give_up_on, merged.retry_on) == (1, KeyError, LookupError)


@pytest.mark.parametrize(
    "options", [{"backoff": lambda e, j: 1}, {"retry_on": OSError}, {"give_up_on": lambda e: True}]
)
def test_job_policy_carries_no_functions(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidPolicy, match=r"belongs? on the handler"):
        RetryPolicy(**options).to_json()
