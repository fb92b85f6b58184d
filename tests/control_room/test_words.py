"""How numbers, times and text from elsewhere are written."""

from __future__ import annotations

import pytest

from realtime.control_room.words import limit_words, policy_words
from realtime.templatetags.control_room import NOTHING, percent, rate, seconds, visible
from retrying.conf import ChannelSettings
from retrying.policy import RetryPolicy
from retrying.store.throttle import Rate, Throttle


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, NOTHING), (0, "0 s"), (0.0004, "<1 ms"), (0.004, "4 ms"), (0.41, "0.4 s"), (9.96, "10 s"),
        (59.6, "1 min"), (200, "3 min 20 s"), (3600, "1 h"), (7400, "2 h 3 min"), (200000, "2 d 7 h"),
    ],
)  # fmt: skip
def test_spans(value: float | None, words: str) -> None:
    assert seconds(value) == words


@pytest.mark.parametrize(
    ("value", "words"), [(None, NOTHING), (0, "0"), (0.004, "<0.01"), (0.05, "0.05"), (3.42, "3.4"), (1234.5, "1,234")]
)
def test_rates(value: float | None, words: str) -> None:
    assert rate(value) == words


def test_shares() -> None:
    assert [percent(value) for value in (None, 0, 0.004, 0.031, 0.5, 1)] == [
        NOTHING,
        "0 %",
        "0.4 %",
        "3.1 %",
        "50 %",
        "100 %",
    ]


def test_what_cannot_be_seen_is_written_out() -> None:
    assert visible("a\u202eb\x00c\u200bd\n\te") == "a⟨U+202E⟩b⟨U+0000⟩c⟨U+200B⟩d\n\te"


def test_settings_in_words() -> None:
    assert dict(policy_words(RetryPolicy()))["Waits between them"] == "10 s, 20 s, 40 s, 1 min 20 s ... at most 1 h"
    assert dict(policy_words(RetryPolicy(backoff=[1, 5], max_retries=None)))["Retries"] == "without end"
    throttle = Throttle(rate=Rate.parse("100/min"), concurrency_per_key=2, rate_per_key=Rate.parse("5/d", 3))
    holds = ChannelSettings(policy=RetryPolicy(), total_concurrency=4, throttle=throttle)
    assert limit_words(holds) == [
        "4 at a time", "100/min, bursts of 1", "2 at a time for each key", "5/d, bursts of 3, for each key",
    ]  # fmt: skip
    assert limit_words(ChannelSettings(policy=RetryPolicy())) == []
