"""Deliveries end to end: commands, a real store, a real worker process, a real receiver, the rows they leave."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.contrib.auth.models import User

from project.development.valkey import Valkey
from project.webhooks import actions, present, records
from project.webhooks.models import CHANNEL, Delivery, Endpoint
from project.webhooks.sweep import sweep
from retrying import State, aenqueue, jobs
from retrying.layers import get_layer
from tests.conftest import await_for
from tests.processes import RunWorker

from .conftest import site_environment

MakeWorker = Callable[..., RunWorker]


@pytest.fixture
def make_worker(let_through: Any, tmp_path: Path, user: User, redis_url: str) -> MakeWorker:
    def make(**env: str) -> RunWorker:
        return RunWorker(
            "project.settings", CHANNEL, log=tmp_path / "worker.log", env=site_environment(let_through.origin) | env
        )

    return make


def status(code: str, headers: str = "") -> bytes:
    return f"HTTP/1.1 {code}\r\nContent-Length: 0\r\n{headers}\r\n".encode()


async def submit(user: User, url: str, **more: Any) -> Delivery:
    delivery, queued = await actions.submit(user.pk, url=url, payload='{"a": 1}', **more)
    assert queued
    return delivery


async def finished(delivery: Delivery, state: str) -> dict[str, Any]:
    """The delivery's detail, once it is in this final state."""

    async def row() -> Delivery | None:
        found = await Delivery.objects.select_related("endpoint").aget(pk=delivery.pk)
        return found if found.state != Delivery.State.PENDING else None

    found = await await_for(row, f"delivery {delivery.pk} is {state}")
    assert (found.state, found.reason) == (state, found.reason)
    return await present.detail(found)


def outcomes(detail: dict[str, Any]) -> list[str]:
    return [attempt["outcome"] for attempt in detail["attempts"]]


async def test_a_delivery_fails_twice_and_arrives(make_worker: MakeWorker, let_through: Any, user: User) -> None:
    let_through.answers = [status("503 Busy"), status("500 Oh"), status("200 OK")]
    with make_worker() as worker:
        worker.ready()
        delivery = await submit(user, let_through.origin + "/hook")
        detail = await finished(delivery, "delivered")
    assert outcomes(detail) == ["failed", "failed", "delivered"]
    assert [attempt["number"] for attempt in detail["attempts"]] == [1, 2, 3]
    assert [attempt["status_code"] for attempt in detail["attempts"]] == [503, 500, 200]
    assert {request.headers["webhook-id"] for request in let_through.requests} == {delivery.pk}
    assert len(let_through.requests) == 3


async def test_a_refusal_for_good_ends_it_at_once(make_worker: MakeWorker, let_through: Any, user: User) -> None:
    let_through.answers = [status("404 Not Found")]
    with make_worker() as worker:
        worker.ready()
        detail = await finished(await submit(user, let_through.origin), "failed")
        job = await await_for(lambda: dead(detail), "its job is a dead letter")
    assert (outcomes(detail), detail["reason"]) == (["gave_up"], "404 Not Found: trying again would not help")
    assert job.reason == detail["reason"]
    assert len(let_through.requests) == 1


async def dead(detail: dict[str, Any]) -> Any:
    job = await jobs.aget(CHANNEL, f"{detail['id']}.{detail['generation']}")
    return job if job is not None and job.state == State.DEAD else None


async def test_out_of_retries(make_worker: MakeWorker, let_through: Any, user: User) -> None:
    let_through.answers = [status("500 Oh")]
    with make_worker(DELIVERIES_BACKOFF_SECONDS="0.01") as worker:
        worker.ready()
        detail = await finished(await submit(user, let_through.origin), "failed")
    assert (outcomes(detail), detail["reason"]) == (["failed"] * 9, "500 Internal Server Error")


async def test_retry_after_is_waited_for(make_worker: MakeWorker, let_through: Any, user: User) -> None:
    let_through.answers = [status("429 Slow down", "Retry-After: 1\r\n"), status("200 OK")]
    with make_worker() as worker:
        worker.ready()
        detail = await finished(await submit(user, let_through.origin), "delivered")
    first, second = detail["attempts"]
    assert (first["retry_after"], first["error"]) == (1, "429 Too Many Requests, Retry-After 1 s")
    assert second["started_at"] >= first["ended_at"]
    elapsed = [datetime.fromisoformat(attempt["started_at"]) for attempt in (first, second)]
    assert (elapsed[1] - elapsed[0]).total_seconds() >= 1


async def test_gone_disables_the_endpoint_and_what_still_waits_for_it(
    make_worker: MakeWorker, let_through: Any, user: User
) -> None:
    let_through.answers = [status("410 Gone")]
    first = await submit(user, let_through.origin)
    second = await submit(user, let_through.origin)
    with make_worker() as worker:
        worker.ready()
        await finished(first, "failed")
        await finished(second, "failed")
    assert not (await Endpoint.objects.aget()).enabled
    assert len(let_through.requests) <= 2


async def test_a_name_that_leads_to_loopback_is_dead_at_once(
    make_worker: MakeWorker, let_through: Any, user: User
) -> None:
    with make_worker() as worker:
        worker.ready()
        url = let_through.origin.replace("127.0.0.1", "localhost")
        detail = await finished(await submit(user, url), "failed")
    assert outcomes(detail) == ["blocked"]
    assert detail["reason"].startswith("blocked address: localhost leads to ")
    assert let_through.connections == 0


async def test_a_killed_worker_is_replaced(make_worker: MakeWorker, let_through: Any, user: User) -> None:
    let_through.answers = [None, status("200 OK")]
    with make_worker() as victim:
        victim.ready()
        delivery = await submit(user, let_through.origin)
        await await_for(lambda: let_through.requests, "the request is out")
        victim.kill()
    with make_worker():
        detail = await finished(delivery, "delivered")
    assert outcomes(detail) == ["lost", "delivered"]
    assert detail["attempts"][0]["worker"] != detail["attempts"][1]["worker"]
    assert detail["attempts"][0]["error"] == "its worker vanished; attempt 2 took over"
    assert {request.headers["webhook-id"] for request in let_through.requests} == {delivery.pk}


async def test_a_worker_that_wakes_up_after_its_rescue_changes_nothing(
    make_worker: MakeWorker, let_through: Any, user: User, tmp_path: Path
) -> None:
    """Stopped in the middle of its call; the second attempt fails for good; then the first one's 200 comes in."""
    answered = asyncio.Event()
    let_through.answers = [answered, status("404 Not Found")]
    with make_worker() as sleeper:
        sleeper.ready()
        delivery = await submit(user, let_through.origin)
        await await_for(lambda: let_through.requests, "the request is out")
        sleeper.signal(signal.SIGSTOP)
        answered.set()
        with make_worker():
            detail = await finished(delivery, "failed")
            assert outcomes(detail) == ["lost", "gave_up"]
        sleeper.signal(signal.SIGCONT)
        await await_for(lambda: "lease lost" in sleeper.text(), "the sleeper learns that it lost its lease")
        sleeper.signal(signal.SIGTERM)
        assert await asyncio.to_thread(sleeper.ended) == 0
    detail = await finished(delivery, "failed")
    assert outcomes(detail) == ["lost", "gave_up"]
    assert detail["reason"] == "404 Not Found: trying again would not help"


async def test_cancelling_what_waits_and_what_is_being_sent(
    make_worker: MakeWorker, let_through: Any, user: User
) -> None:
    let_through.answers = [None]
    with make_worker(DELIVERIES_TIMEOUT_SECONDS="60") as worker:
        worker.ready()
        waiting = await submit(user, let_through.origin)
        await await_for(lambda: let_through.requests, "the request is out")
        running = await actions.cancel(user.pk, waiting.pk)
        assert running.state == Delivery.State.PENDING, "its handler has been asked to stop"
        detail = await finished(waiting, "cancelled")
    assert outcomes(detail) == ["cancelled"]
    assert detail["reason"].startswith("cancelled by its owner")


async def test_commands_that_come_twice(let_through: Any, user: User) -> None:
    """Without a worker: what each command leaves in the row and in the store."""
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    first, second = await asyncio.gather(
        *(submit(user, let_through.origin, send_at=later, command_id="c-1") for _ in range(2))
    )
    assert first.pk == second.pk
    assert (await jobs.acounts(CHANNEL)).scheduled == 1

    await asyncio.gather(*(actions.retry_now(user.pk, first.pk) for _ in range(2)))
    counts = await jobs.acounts(CHANNEL)
    assert (counts.scheduled, counts.ready) == (0, 1)

    results = await asyncio.gather(*(actions.cancel(user.pk, first.pk) for _ in range(2)))
    assert {result.state for result in results} == {Delivery.State.CANCELLED}
    job = await jobs.aget(CHANNEL, first.job_id)
    assert job is not None
    assert (job.state, job.reason) == (State.CANCELLED, "cancelled by its owner")

    again = await asyncio.gather(*(actions.redeliver(user.pk, first.pk, 1) for _ in range(3)))
    assert {(delivery.generation, delivery.state) for delivery, _ in again} == {(2, Delivery.State.PENDING)}
    late, _ = await actions.redeliver(user.pk, first.pk, 1)
    assert late.generation == 2
    counts = await jobs.acounts(CHANNEL)
    assert (counts.scheduled, counts.ready) == (0, 1)


async def test_somebody_elses_delivery_is_out_of_reach(let_through: Any, user: User) -> None:
    delivery = await submit(user, let_through.origin)
    other = await User.objects.acreate(username="eve")
    for action in (actions.retry_now, actions.cancel, actions.redeliver):
        with pytest.raises(actions.NotFound, match="you have no delivery"):
            await action(other.pk, delivery.pk)
    assert (await jobs.acounts(CHANNEL)).ready == 1


async def test_bad_input_stores_nothing(user: User) -> None:
    for url, payload in (("http://127.0.0.1/", "{}"), ("https://example.com/", "{")):
        with pytest.raises(actions.BadInput):
            await actions.submit(user.pk, url=url, payload=payload)
    assert not await Delivery.objects.aexists()
    assert not await Endpoint.objects.aexists()
    assert (await jobs.acounts(CHANNEL)).ready == 0


async def test_a_wiped_store_loses_nothing(make_worker: MakeWorker, let_through: Any, user: User, valkey: Any) -> None:
    """The job is gone after an attempt failed; the sweep makes it again, and its attempts are counted on."""
    let_through.answers = [status("503 Busy"), status("200 OK")]
    with make_worker(DELIVERIES_BACKOFF_SECONDS="600") as worker:
        worker.ready()
        delivery = await submit(user, let_through.origin)
        await await_for(lambda: scheduled(delivery), "its retry is scheduled")
        await get_layer().store.connections.async_().flushall()
        done = await database_sync_to_async(sweep)()
        assert (done.looked_at, done.enqueued, done.closed) == (1, 1, 0)
        detail = await finished(delivery, "delivered")
    assert [(attempt["number"], attempt["outcome"]) for attempt in detail["attempts"]] == [
        (1, "failed"),
        (2, "delivered"),
    ]


async def test_a_store_that_goes_away_and_comes_back(
    own_valkey: Valkey, make_worker: MakeWorker, let_through: Any, user: User
) -> None:
    """What was queued, what was being sent and what was made meanwhile: all of it arrives."""
    gate = asyncio.Event()
    let_through.answers = [gate, status("503 Busy"), status("200 OK")]
    with make_worker() as worker:
        worker.ready()
        sending = await submit(user, let_through.origin)
        await await_for(lambda: let_through.requests, "the request is out")
        waiting = await submit(user, let_through.origin, send_at=(datetime.now(UTC) + timedelta(seconds=1)).isoformat())
        own_valkey.stop()
        meanwhile, queued = await actions.submit(user.pk, url=let_through.origin, payload="{}")
        assert not queued
        gate.set()
        await finished(sending, "delivered")
        own_valkey.start()
        assert (await database_sync_to_async(sweep)(again_after=timedelta(0))).enqueued == 1
        for delivery in (waiting, meanwhile):
            await finished(delivery, "delivered")
    assert len({request.headers["webhook-id"] for request in let_through.requests}) == 3


async def scheduled(delivery: Delivery) -> bool:
    job = await jobs.aget(CHANNEL, delivery.job_id)
    return job is not None and job.state == State.SCHEDULED


async def test_a_job_that_counts_lower_than_its_row_catches_up(
    make_worker: MakeWorker, let_through: Any, user: User
) -> None:
    """The store was restored from older data: its next attempt has a number that the row has seen."""
    delivery = await submit(user, let_through.origin)
    await Delivery.objects.filter(pk=delivery.pk).aupdate(attempt=2)
    with make_worker() as worker:
        worker.ready()
        detail = await finished(delivery, "delivered")
    assert [(attempt["number"], attempt["outcome"]) for attempt in detail["attempts"]] == [(3, "delivered")]


async def test_a_left_over_job_of_a_closed_row_sends_nothing(
    make_worker: MakeWorker, let_through: Any, user: User
) -> None:
    cancelled = await submit(user, let_through.origin)
    await Delivery.objects.filter(pk=cancelled.pk).aupdate(state=Delivery.State.CANCELLED, reason="by hand")
    deleted = await submit(user, let_through.origin)
    await Delivery.objects.filter(pk=deleted.pk).adelete()
    with make_worker() as worker:
        worker.ready()

        async def ended() -> list[State] | None:
            found = [await jobs.aget(CHANNEL, delivery_id) for delivery_id in (cancelled.job_id, f"{deleted_id}.1")]
            states = [job.state for job in found if job is not None]
            return states if not {State.READY, State.RUNNING} & set(states) else None

        deleted_id = deleted.job_id.split(".", maxsplit=1)[0]
        assert await await_for(ended, "both jobs ended") == [State.CANCELLED, State.DEAD]
    assert let_through.requests == []


async def test_the_page_closes_a_row_whose_job_died_without_it(user: User, let_through: Any) -> None:
    delivery = await submit(user, let_through.origin)
    await jobs.acancel(CHANNEL, delivery.job_id, "by somebody else")
    shown = await present.summary(await records_find(user, delivery))
    assert (shown["state"], shown["reason"], shown["job"]) == ("cancelled", "by somebody else", None)


async def records_find(user: User, delivery: Delivery) -> Delivery:
    found = await database_sync_to_async(records.find)(user.pk, delivery.pk)
    assert found is not None
    return found


async def test_the_job_carries_ids_only(user: User, let_through: Any) -> None:
    """The row is the truth: neither the payload nor the URL nor the secret is in the queue."""
    delivery = await submit(user, let_through.origin + "/secret-path")
    message = actions.job_of(delivery)["message"]
    assert message == {"type": "deliver", "delivery": delivery.pk, "generation": 1, "after": 0}
    assert json.dumps(message)
    first = await aenqueue(**actions.job_of(delivery))
    assert first.id == delivery.job_id
    assert (await jobs.acounts(CHANNEL)).ready == 1
