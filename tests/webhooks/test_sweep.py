"""The sweep: rows and jobs that lost each other find together again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from project.development.valkey import Valkey
from project.webhooks import actions
from project.webhooks.models import CHANNEL, Delivery
from project.webhooks.sweep import sweep
from retrying import State, jobs
from tests.conftest import wait_for
from tests.processes import ROOT

from .conftest import database_url

MakeDelivery = Callable[..., Delivery]
AT_ONCE = timedelta(0)


def test_a_row_whose_process_died_before_the_enqueue_gets_its_job(make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()
    assert jobs.get(CHANNEL, delivery.job_id) is None
    assert sweep().enqueued == 1
    job = jobs.get(CHANNEL, delivery.job_id)
    assert job is not None
    assert (job.state, job.topic) == (State.READY, delivery.topic)
    done = sweep(again_after=AT_ONCE)
    assert (done.looked_at, done.enqueued) == (1, 0), "its job lives"
    assert jobs.counts(CHANNEL).ready == 1


def test_a_row_that_waits_for_its_time_goes_on_waiting(make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()
    Delivery.objects.update(send_at=timezone.now() + timedelta(hours=1))
    sweep()
    job = jobs.get(CHANNEL, delivery.job_id)
    assert job is not None
    assert job.state == State.SCHEDULED


def test_a_row_whose_time_has_passed_is_sent_at_once(make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()
    Delivery.objects.update(send_at=timezone.now() - timedelta(days=1))
    sweep()
    job = jobs.get(CHANNEL, delivery.job_id)
    assert job is not None
    assert job.state == State.READY


@pytest.mark.parametrize("end", ["cancelled", "delivered"])
def test_finished_rows_are_left_alone(make_delivery: MakeDelivery, end: str) -> None:
    make_delivery()
    Delivery.objects.update(state=end)
    assert sweep().looked_at == 0


def test_a_row_is_closed_with_the_reason_of_its_job(make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()
    sweep()
    jobs.cancel(CHANNEL, delivery.job_id, "stopped by an operator")
    assert sweep(again_after=AT_ONCE).closed == 1
    delivery.refresh_from_db()
    assert (delivery.state, delivery.reason) == (Delivery.State.CANCELLED, "stopped by an operator")
    assert sweep(again_after=AT_ONCE).looked_at == 0


def test_batches_are_bounded_and_get_round_to_every_row(make_delivery: MakeDelivery) -> None:
    for _ in range(5):
        make_delivery()
    assert [sweep(batch=2).enqueued for _ in range(4)] == [2, 2, 1, 0]
    assert [sweep(batch=2, again_after=AT_ONCE).looked_at for _ in range(3)] == [2, 2, 2]
    assert jobs.counts(CHANNEL).ready == 5


def test_a_store_that_is_away_stops_the_sweep_and_loses_nothing(
    make_delivery: MakeDelivery, own_valkey: Valkey
) -> None:
    delivery = make_delivery()
    own_valkey.stop()
    done = sweep()
    assert (done.looked_at, done.enqueued, done.store_away) == (0, 0, True)
    with pytest.raises(CommandError, match="the job store did not answer"):
        call_command("sweep_deliveries", stdout=StringIO())
    own_valkey.start()
    out = StringIO()
    call_command("sweep_deliveries", stdout=out)
    assert out.getvalue() == "looked at 1, enqueued again 1, closed 0\n"
    assert jobs.get(CHANNEL, delivery.job_id) is not None


async def test_a_delivery_made_while_the_store_is_away_is_kept(user: Any, own_valkey: Valkey) -> None:
    own_valkey.stop()
    delivery, queued = await actions.submit(user.pk, url="https://example.com/", payload="{}")
    assert not queued
    again, queued = await actions.redeliver(user.pk, delivery.pk)
    assert (again.generation, queued) == (1, False)
    cancelled = await actions.cancel(user.pk, delivery.pk)
    assert cancelled.state == Delivery.State.CANCELLED, "nothing was sent yet, so the row alone decides"


def test_the_command_runs_until_it_is_told_to_stop(make_delivery: MakeDelivery, redis_url: str, tmp_path: Path) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "VAR_DIR": str(tmp_path),
        "DATABASE_URL": database_url(),
        "REDIS_URL": redis_url,
    }
    command = [sys.executable, str(ROOT / "manage.py"), "sweep_deliveries", "--every", "0.05"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            for _ in range(2):
                delivery = make_delivery()
                wait_for(lambda wanted=delivery: jobs.get(CHANNEL, wanted.job_id), "the delivery has a job")
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()
        assert process.stderr is not None
        assert "had no job; enqueued again" in process.stderr.read()


@pytest.mark.django_db
def test_a_wrong_interval_is_refused() -> None:
    with pytest.raises(CommandError, match="--every takes seconds > 0"):
        call_command("sweep_deliveries", "--every", "0")
