"""/healthz and /readyz: each part that is missing is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from channels.layers import channel_layers
from django.conf import settings as django_settings
from django.test import Client

from project.development.valkey import Valkey
from project.webhooks.models import CHANNEL
from tests.conftest import wait_for
from tests.processes import RunWorker


@pytest.fixture
def stopped_store(tmp_path: Path, monkeypatch: Any) -> Iterator[None]:
    with Valkey(tmp_path / "valkey") as server:
        monkeypatch.setitem(django_settings.CHANNEL_LAYERS["default"]["CONFIG"], "hosts", [server.url])
    channel_layers.backends.clear()
    yield
    channel_layers.backends.clear()


def test_the_process_answers_whatever_else_is_down(client: Client, stopped_store: None) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"ok": True, "process": "ok"})


@pytest.mark.django_db(transaction=True)
def test_ready_when_database_store_and_worker_answer(client: Client, tmp_path: Path, redis_url: str) -> None:
    response = client.get("/readyz")
    assert response.status_code == 503
    worker = "no worker consumes deliveries: python manage.py runworker deliveries"
    assert response.json() == {"ok": False, "database": "ok", "store": "ok", "worker": worker}
    with RunWorker("project.settings", CHANNEL, log=tmp_path / "worker.log") as worker_process:
        worker_process.ready()
        wait_for(lambda: client.get("/readyz").status_code == 200, "the site is ready")
        assert client.get("/readyz").json() == {"ok": True, "database": "ok", "store": "ok", "worker": "ok"}


@pytest.mark.django_db(transaction=True)
def test_not_ready_without_the_store(client: Client, stopped_store: None) -> None:
    response = client.get("/readyz")
    assert response.status_code == 503
    answer = response.json()
    assert (answer["database"], answer["store"]) == ("ok", "not reachable (StoreUnavailable)")
    assert "redis" not in response.content.decode(), "addresses are nobody's business"


@pytest.mark.django_db(transaction=True)
def test_the_page_says_that_the_store_is_away(client: Client, django_user_model: Any, stopped_store: None) -> None:
    client.force_login(django_user_model.objects.create_user("ann"))
    status = client.get("/api/status/").json()
    assert (status["worker"], status["store"], status["counts"]) == (False, False, {})
