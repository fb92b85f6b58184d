"""Rows change only for the attempt that they belong to: a worker that wakes up late finds nothing to change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from project.webhooks import records
from project.webhooks.delivery import Exchange, Outcome, Verdict
from project.webhooks.models import Attempt, Delivery, Endpoint
from project.webhooks.targets import BadInput, Order
from retrying import Job, State

MakeDelivery = Callable[..., Delivery]

DELIVERED = Verdict(outcome=Outcome.DELIVERED)
FAILED = Verdict(outcome=Outcome.FAILED, reason="503 Service Unavailable", retry_after=30.0)
GONE = Verdict(outcome=Outcome.GAVE_UP, reason="410 Gone: the receiver wants no more", endpoint_gone=True)
ORDER = Order(url="https://example.com/hook", payload="{}", send_at=None)


def exchange(status: int) -> Exchange:
    return Exchange(request_headers={"webhook-id": "x"}, duration_ms=12, status_code=status, excerpt="answer")


def start(delivery: Delivery, number: int, worker: str = "host:1:a", generation: int = 1) -> Delivery:
    started = records.start_attempt(delivery.pk, generation, number, worker)
    assert started is not None
    return started


def outcomes(delivery: Delivery) -> list[str]:
    return [attempt.outcome for attempt in delivery.attempts.all()]


def test_an_attempt_that_succeeds_ends_the_delivery(make_delivery: MakeDelivery) -> None:
    started = start(make_delivery(), 1)
    assert records.finish_attempt(started, verdict=DELIVERED, exchange=exchange(200), last=False)
    started.refresh_from_db()
    assert (started.state, started.reason) == (Delivery.State.DELIVERED, "")
    assert started.finished_at is not None
    [attempt] = started.attempts.all()
    assert (attempt.outcome, attempt.status_code, attempt.duration_ms) == ("delivered", 200, 12)
    assert (attempt.response_excerpt, attempt.worker, attempt.error) == ("answer", "host:1:a", "")


def test_a_failure_leaves_it_pending_unless_it_was_the_last(make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()
    records.finish_attempt(start(delivery, 1), verdict=FAILED, exchange=exchange(503), last=False)
    delivery.refresh_from_db()
    assert delivery.state == Delivery.State.PENDING
    records.finish_attempt(start(delivery, 2), verdict=FAILED, exchange=exchange(503), last=True)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.reason) == (Delivery.State.FAILED, "503 Service Unavailable")
    assert [attempt.retry_after for attempt in delivery.attempts.all()] == [30.0, 30.0]


def test_a_stale_worker_cannot_overwrite_a_newer_attempt(make_delivery: MakeDelivery) -> None:
    stale = start(make_delivery(), 1, "host:1:stopped")
    fresh = start(stale, 2, "host:2:rescuer")
    assert outcomes(stale) == ["lost", "running"]
    # The first one wakes up and reports, whatever it has to say: nothing changes.
    for verdict in (DELIVERED, FAILED, GONE):
        assert not records.finish_attempt(stale, verdict=verdict, exchange=exchange(200), last=True)
    fresh.refresh_from_db()
    assert (fresh.state, outcomes(fresh)) == (Delivery.State.PENDING, ["lost", "running"])
    assert fresh.endpoint.enabled
    assert records.finish_attempt(fresh, verdict=FAILED, exchange=exchange(503), last=False)
    assert not records.finish_attempt(stale, verdict=DELIVERED, exchange=exchange(200), last=False)
    fresh.refresh_from_db()
    assert (fresh.state, outcomes(fresh)) == (Delivery.State.PENDING, ["lost", "failed"])


def test_an_attempt_starts_once_and_never_behind_a_newer_one(make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()
    start(delivery, 2)
    assert records.start_attempt(delivery.pk, 1, 2, "host:1:again") is None
    assert records.start_attempt(delivery.pk, 1, 1, "host:1:older") is None
    assert outcomes(delivery) == ["running"]


def test_no_attempt_starts_on_a_finished_delivery_or_for_another_generation(make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()
    assert records.start_attempt(delivery.pk, 2, 1, "host:1:a") is None
    records.finish_attempt(start(delivery, 1), verdict=DELIVERED, exchange=exchange(200), last=False)
    assert records.start_attempt(delivery.pk, 1, 2, "host:1:a") is None
    assert records.start_attempt("nothing", 1, 1, "host:1:a") is None


def test_an_attempt_of_an_older_generation_changes_nothing(make_delivery: MakeDelivery) -> None:
    old = start(make_delivery(), 1)
    records.close(old, Delivery.State.CANCELLED, "by hand")
    old.refresh_from_db()
    assert records.next_generation(old)
    new = start(old, 1, generation=2)
    assert not records.finish_attempt(old, verdict=GONE, exchange=exchange(410), last=True)
    assert records.finish_attempt(new, verdict=DELIVERED, exchange=exchange(200), last=False)
    assert outcomes(new) == ["cancelled", "delivered"]


def test_of_two_starts_at_once_one_wins(make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()
    gate = threading.Barrier(4)
    winners: list[Delivery | None] = []

    def race() -> None:
        gate.wait()
        winners.append(records.start_attempt(delivery.pk, 1, 1, "host:1:racer"))
        connection.close()

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([winner for winner in winners if winner is not None]) == 1
    assert Attempt.objects.count() == 1


def test_a_redelivery_happens_once_for_each_generation_that_was_seen(make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()
    assert not records.next_generation(delivery), "it is pending"
    records.finish_attempt(start(delivery, 1), verdict=FAILED, exchange=exchange(500), last=True)
    delivery.refresh_from_db()
    assert records.next_generation(delivery)
    assert not records.next_generation(delivery), "the second click"
    delivery.refresh_from_db()
    assert (delivery.generation, delivery.attempt, delivery.state) == (2, 0, Delivery.State.PENDING)
    assert (delivery.reason, delivery.finished_at) == ("", None)


def test_gone_disables_the_endpoint_for_new_deliveries(make_delivery: MakeDelivery, user: User) -> None:
    records.finish_attempt(start(make_delivery(), 1), verdict=GONE, exchange=exchange(410), last=False)
    endpoint = Endpoint.objects.get()
    assert not endpoint.enabled
    assert endpoint.disabled_reason.startswith("410 Gone: the receiver wants no more (20")
    with pytest.raises(BadInput, match="this endpoint is disabled: 410 Gone"):
        records.create(user.pk, ORDER, None)
    assert Delivery.objects.count() == 1


def test_the_same_command_makes_one_delivery(user: User) -> None:
    other = User.objects.create_user("bob")
    first = records.create(user.pk, ORDER, "command-1")
    assert records.create(user.pk, ORDER, "command-1") == first
    assert records.create(user.pk, ORDER, "command-2") != first
    assert records.create(other.pk, ORDER, "command-1") != first
    assert Endpoint.objects.count() == 2, "one for each owner and URL, each with a secret of its own"
    assert len(set(Endpoint.objects.values_list("secret", flat=True))) == 2


def test_the_same_command_on_two_sockets_at_once_makes_one_delivery(user: User) -> None:
    gate = threading.Barrier(4)
    made: list[str] = []

    def race() -> None:
        gate.wait()
        made.append(records.create(user.pk, ORDER, "command-1").pk)
        connection.close()

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    assert len(set(made)) == 1


@pytest.mark.parametrize(
    ("state", "row", "attempt"),
    [
        (State.DEAD, Delivery.State.FAILED, "lost"),
        (State.EXPIRED, Delivery.State.FAILED, "lost"),
        (State.CANCELLED, Delivery.State.CANCELLED, "cancelled"),
        (State.RUNNING, Delivery.State.PENDING, "running"),
        (State.SUCCEEDED, Delivery.State.PENDING, "running"),
    ],
)
def test_a_job_that_ended_without_its_row_closes_it(
    make_delivery: MakeDelivery, state: State, row: str, attempt: str
) -> None:
    delivery = start(make_delivery(), 1)
    job = Job(id=delivery.job_id, channel="deliveries", state=state, reason="its worker vanished 3 times")
    changed = row != Delivery.State.PENDING
    assert records.close_by_job(delivery, job) == changed
    delivery.refresh_from_db()
    assert (delivery.state, outcomes(delivery)) == (row, [attempt])
    assert delivery.reason == ("its worker vanished 3 times" if changed else "")
    assert not records.close_by_job(delivery, job), "closed once"


def test_closing_from_outside_respects_an_attempt_that_began_meanwhile(make_delivery: MakeDelivery) -> None:
    seen = make_delivery()
    start(seen, 1)
    assert not records.close(seen, Delivery.State.CANCELLED, "too late", if_idle=True)
    assert not records.close(seen, Delivery.State.CANCELLED, "too late")
    seen.refresh_from_db()
    assert seen.state == Delivery.State.PENDING


def test_times_and_texts_are_cut_to_what_a_row_holds(make_delivery: MakeDelivery) -> None:
    delivery = records.start_attempt(make_delivery().pk, 1, 1, "w" * 500)
    assert delivery is not None
    long: dict[str, Any] = {"verdict": Verdict(outcome=Outcome.FAILED, reason="r" * 5000), "last": True}
    assert records.finish_attempt(delivery, **long)
    [attempt] = delivery.attempts.all()
    assert (len(attempt.worker), len(attempt.error)) == (200, 1000)
