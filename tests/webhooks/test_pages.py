"""Signing in and out, the page, the JSON that it reads, and the receivers to try things out on."""

from __future__ import annotations

import importlib
import json
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.core import signing
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import clear_url_caches
from django.utils import timezone

import project.urls
import project.webhooks.urls
from project.webhooks import records
from project.webhooks.delivery import Exchange, Outcome, Verdict
from project.webhooks.links import LinkProblem, make_link, redeem
from project.webhooks.models import CHANNEL, Delivery, Endpoint, ReceiverCall
from project.webhooks.present import PAGE_SIZE
from retrying import enqueue, jobs
from tests.conftest import wait_for
from tests.processes import RunWorker

MakeDelivery = Callable[..., Delivery]


@pytest.fixture
def debug(settings: Any) -> Iterator[Any]:
    """The site with DEBUG: its receivers' URLs exist then."""
    settings.DEBUG = True
    settings.WEBHOOK_RECEIVER_ORIGIN = "http://127.0.0.1:8000"
    _reload_urls()
    yield settings
    settings.DEBUG = False
    _reload_urls()


def _reload_urls() -> None:
    for module in (project.webhooks.urls, project.urls):
        importlib.reload(module)
    clear_url_caches()


@pytest.fixture
def signed_in(client: Client, user: User) -> Client:
    client.force_login(user)
    return client


def path_of(link: str) -> str:
    origin = "http://127.0.0.1:8000"
    assert link.startswith(f"{origin}/sign-in/")
    return link.removeprefix(origin)


# Signing in


def test_a_link_signs_in_once(client: Client, user: User) -> None:
    path = path_of(make_link(user))
    response = client.get(path)
    assert (response.status_code, response["Location"]) == (302, "/")
    assert client.get("/api/status/").status_code == 200
    again = Client().get(path)
    assert again.status_code == 410
    assert "This link was used already" in again.content.decode()


def test_an_expired_link_says_so(client: Client, user: User) -> None:
    with patch.object(signing.time, "time", lambda: timezone.now().timestamp() - 16 * 60):
        path = path_of(make_link(user))
    response = client.get(path)
    assert response.status_code == 410
    assert "This link has expired: it was good for 15 minutes." in response.content.decode()
    assert client.get("/api/status/").status_code == 401


@pytest.mark.parametrize("change", [lambda token: token[:-1], lambda token: "x" + token, lambda token: "nonsense"])
def test_a_changed_link_is_refused(client: Client, user: User, change: Callable[[str], str]) -> None:
    token = make_link(user).rstrip("/").rsplit("/", 1)[1]
    response = client.get(f"/sign-in/{change(token)}/")
    assert response.status_code == 410
    assert "This is not a complete sign-in link." in response.content.decode()


def test_of_two_that_follow_a_link_at_once_one_is_signed_in(user: User) -> None:
    token = make_link(user).rstrip("/").rsplit("/", 1)[1]
    gate = threading.Barrier(4)
    answers: list[str] = []

    def race() -> None:
        gate.wait()
        try:
            redeem(token)
            answers.append("in")
        except LinkProblem:
            answers.append("refused")
        connection.close()

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == ["in", "refused", "refused", "refused"]


def test_a_deactivated_user_is_not_signed_in(client: Client, user: User) -> None:
    path = path_of(make_link(user))
    User.objects.update(is_active=False)
    assert client.get(path).status_code == 410


@pytest.mark.django_db
@pytest.mark.parametrize("debug_on", [False, True])
def test_the_command_prints_a_link_and_makes_the_user(client: Client, settings: Any, debug_on: bool) -> None:
    settings.DEBUG = debug_on
    out = StringIO()
    call_command("sign_in_link", "--user", "zoe", stdout=out)
    user = User.objects.get(username="zoe")
    assert (user.is_staff, user.is_superuser, user.has_usable_password()) == (debug_on, debug_on, False)
    assert client.get(path_of(out.getvalue().strip())).status_code == 302


def test_signing_out_takes_a_post(signed_in: Client) -> None:
    assert signed_in.get("/sign-out/").status_code == 405
    response = signed_in.post("/sign-out/")
    assert response["Location"] == "/sign-in/"
    assert signed_in.get("/api/status/").status_code == 401
    assert Client(enforce_csrf_checks=True).post("/sign-out/").status_code == 403


# The page


def test_the_page_is_for_people_who_signed_in(client: Client, user: User) -> None:
    for path in ("/", "/deliveries/abc/"):
        response = client.get(path)
        assert (response.status_code, response["Location"].split("?")[0]) == (302, "/sign-in/")
    assert "python manage.py sign_in_link" in client.get("/sign-in/").content.decode()
    client.force_login(user)
    for path in ("/", "/deliveries/abc/"):
        assert client.get(path).status_code == 200


def test_headers_that_protect_every_page(signed_in: Client) -> None:
    for path in ("/", "/sign-in/", "/api/status/", "/healthz"):
        response = signed_in.get(path)
        policy = dict(part.split(" ", 1) for part in response["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
        assert response["X-Frame-Options"] == "DENY"
        assert response["X-Content-Type-Options"] == "nosniff"


# What it reads


def test_the_api_says_401_in_json_to_strangers(client: Client, db: None) -> None:
    for path in ("/api/deliveries/", "/api/deliveries/x/", "/api/status/"):
        response = client.get(path)
        assert (response.status_code, response.json()) == (401, {"message": "You are not signed in."})
    assert client.post("/api/workers/kill/").status_code == 401


def test_pages_of_deliveries_newest_first_without_a_gap(signed_in: Client, make_delivery: MakeDelivery) -> None:
    made = [make_delivery(payload=f"[{number}]").pk for number in range(PAGE_SIZE + 3)]
    first = signed_in.get("/api/deliveries/").json()
    assert (len(first["deliveries"]), first["more"]) == (PAGE_SIZE, True)
    second = signed_in.get("/api/deliveries/", {"before": first["deliveries"][-1]["created_at"]}).json()
    assert (len(second["deliveries"]), second["more"]) == (3, False)
    assert [row["id"] for row in first["deliveries"] + second["deliveries"]] == made[::-1]


@pytest.mark.parametrize("before", ["yesterday", "2030-01-31T12:00:00", "1"])
def test_a_wrong_page_is_refused_in_words(signed_in: Client, before: str) -> None:
    response = signed_in.get("/api/deliveries/", {"before": before})
    assert response.status_code == 400
    assert "before must be a time" in response.json()["message"]


def test_one_delivery_with_its_attempts(signed_in: Client, make_delivery: MakeDelivery) -> None:
    delivery = make_delivery(payload='{"it\'s": "a \\"test\\""}')
    started = records.start_attempt(delivery.pk, 1, 1, "host:1:a")
    assert started is not None
    exchange = Exchange(
        request_headers={"Host": "example.com", "webhook-id": delivery.pk, "webhook-signature": "v1,abc"},
        duration_ms=7,
        status_code=503,
        response_headers={"retry-after": "30"},
        excerpt="busy",
    )
    verdict = Verdict(outcome=Outcome.FAILED, reason="503 Service Unavailable, Retry-After 30 s", retry_after=30)
    records.finish_attempt(started, verdict=verdict, exchange=exchange, last=False)
    response = signed_in.get(f"/api/deliveries/{delivery.pk}/")
    shown = response.json()
    [attempt] = shown["attempts"]
    assert attempt["error"] == "503 Service Unavailable, Retry-After 30 s"
    assert (attempt["status_code"], attempt["retry_after"], attempt["response_excerpt"]) == (503, 30, "busy")
    assert attempt["started_at"].endswith("Z")
    assert shown["curl"].startswith("curl -i -X POST https://example.com/hook -H 'webhook-id: ")
    assert "'v1,abc'" in shown["curl"] or "webhook-signature: v1,abc" in shown["curl"]
    assert "Host:" not in shown["curl"]
    assert Endpoint.objects.get().secret.removeprefix("whsec_") not in response.content.decode()
    assert response["Cache-Control"] == "no-store"


def test_somebody_elses_delivery_is_not_found(client: Client, make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()
    client.force_login(User.objects.create_user("eve"))
    response = client.get(f"/api/deliveries/{delivery.pk}/")
    assert (response.status_code, response.json()) == (404, {"message": "You have no such delivery."})
    assert client.get("/api/deliveries/").json() == {"deliveries": [], "more": False}


def test_the_status_without_debug(signed_in: Client, user: User) -> None:
    status = signed_in.get("/api/status/").json()
    assert (status["worker"], status["store"], status["debug"], status["staff"]) == (False, True, False, False)
    assert (status["receivers"], status["user_topic"]) == ([], f"user.{user.pk}")
    assert set(status["counts"]) >= {"scheduled", "ready", "running", "dead"}


def test_the_status_lists_the_receivers_with_debug(signed_in: Client, debug: Any) -> None:
    receivers = signed_in.get("/api/status/").json()["receivers"]
    names = [receiver["name"] for receiver in receivers]
    assert names == ["succeeds", "fails twice", "busy", "hangs", "always fails"]
    assert all(receiver["url"].startswith("http://127.0.0.1:8000/receivers/") for receiver in receivers)


def test_killing_workers_needs_debug_and_staff_and_a_live_worker(client: Client, user: User, settings: Any) -> None:
    def kill(body: str) -> tuple[int, str]:
        response = client.post("/api/workers/kill/", body, content_type="application/json")
        return response.status_code, response.json()["message"]

    client.force_login(user)
    wanted = json.dumps({"worker": "host:1:a"})
    assert kill(wanted)[0] == 403
    settings.DEBUG = True
    assert kill(wanted)[0] == 403
    User.objects.update(is_staff=True)
    assert kill(wanted) == (404, "There is no such live worker.")
    for nonsense in ("", "[]", "{}", "7", '{"worker": null}', '{"worker": ["a"]}'):
        assert kill(nonsense)[0] in {400, 404}


@pytest.mark.parametrize("process", ["worker", "other"])
def test_a_live_worker_of_this_machine_can_be_killed(
    signed_in: Client, debug: Any, tmp_path: Path, process: str
) -> None:
    User.objects.update(is_staff=True)
    with RunWorker("project.settings", CHANNEL, log=tmp_path / "worker.log") as worker:
        [found] = wait_for(lambda: jobs.workers(CHANNEL), "the worker is known")
        assert found.id.split(":")[1] == str(worker.pid)
        wanted = found.id if process == "worker" else f"elsewhere:{worker.pid}:{found.id.rsplit(':', 1)[1]}"
        response = signed_in.post("/api/workers/kill/", {"worker": wanted}, content_type="application/json")
        if process == "worker":
            assert (response.status_code, response.json()) == (200, {"killed": wanted})
            assert worker.ended() == -signal.SIGKILL
        else:
            assert response.status_code == 404
            assert worker.process.poll() is None


# The receivers


def post(client: Client, path: str, webhook_id: str = "a") -> Any:
    return client.post(path, "{}", content_type="application/json", headers={"webhook-id": webhook_id})


def test_there_are_no_receivers_without_debug(client: Client, db: None) -> None:
    assert post(client, "/receivers/succeeds/").status_code == 404


@pytest.mark.django_db
@pytest.mark.usefixtures("debug")
def test_the_receivers_do_what_their_names_say() -> None:
    client = Client(enforce_csrf_checks=True)
    assert post(client, "/receivers/succeeds/").json() == {"received": "a", "bytes": 2}
    assert [post(client, "/receivers/fails/2/").status_code for _ in range(4)] == [503, 503, 200, 200]
    assert post(client, "/receivers/fails/2/", "b").status_code == 503, "each webhook-id has its own count"
    assert post(client, "/receivers/fails/1/").status_code == 503, "each number of failures too"
    busy = post(client, "/receivers/busy/")
    assert (busy.status_code, busy["Retry-After"]) == (429, "5")
    assert post(client, "/receivers/busy/").status_code == 200
    assert [post(client, "/receivers/always-fails/").status_code for _ in range(3)] == [500] * 3
    assert client.get("/receivers/succeeds/").status_code == 405


@pytest.mark.django_db
@pytest.mark.usefixtures("debug")
def test_old_counts_are_forgotten(client: Client) -> None:
    assert post(client, "/receivers/fails/1/").status_code == 503
    ReceiverCall.objects.update(created_at=timezone.now() - timedelta(days=2))
    assert post(client, "/receivers/fails/1/").status_code == 503


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("debug")
def test_calls_are_counted_over_all_processes() -> None:
    gate = threading.Barrier(4)
    statuses: list[int] = []

    def call() -> None:
        client = Client()
        gate.wait()
        statuses.extend(post(client, "/receivers/fails/5/").status_code for _ in range(3))
        connection.close()

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 7 + [503] * 5


@pytest.mark.django_db
def test_a_delivery_leads_to_its_job_and_the_job_back(client: Client, user: User) -> None:
    endpoint = Endpoint.objects.create(owner=user, url="https://example.com/hooks")
    delivery = Delivery.objects.create(owner=user, endpoint=endpoint, payload="{}")
    enqueue(CHANNEL, {"type": "delivery.attempt", "delivery": delivery.pk}, job_id=delivery.job_id)
    client.force_login(User.objects.create_superuser("admin"))
    job = f"/jobs/job/{CHANNEL}/{delivery.job_id}/"
    row = f"/admin/webhooks/delivery/{delivery.pk}/change/"
    assert f'href="{job}"' in client.get("/admin/webhooks/delivery/").content.decode()
    assert f'href="{job}"' in client.get(row).content.decode()
    assert f'href="{row}"' in client.get(job).content.decode()
    assert "data-job-address" in client.get("/").content.decode()


@pytest.mark.django_db
def test_only_who_may_see_jobs_is_led_to_them(signed_in: Client) -> None:
    assert "data-job-address" not in signed_in.get("/").content.decode()


@pytest.mark.django_db
def test_the_command_can_let_a_user_into_the_control_room(client: Client) -> None:
    call_command("sign_in_link", "--user", "zoe", "--admin", stdout=StringIO())
    user = User.objects.get(username="zoe")
    assert user.is_staff
    assert user.is_superuser
