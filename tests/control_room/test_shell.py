"""The frame of the control room: who sees it, its first line, and what a browser without scripts is given."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

pytestmark = pytest.mark.django_db


def test_a_stranger_is_asked_to_sign_in() -> None:
    answer = Client().get("/jobs/")
    assert (answer.status_code, answer["Location"]) == (302, "/sign-in/?next=/jobs/")


def test_who_is_not_staff_is_refused() -> None:
    client = Client()
    client.force_login(User.objects.create_user("somebody"))
    assert client.get("/jobs/").status_code == 403
    assert client.get("/jobs/parts/overview/").status_code == 403


def test_the_first_line_is_a_sentence(admin: Client) -> None:
    page = admin.get("/jobs/").content.decode()
    assert '<p class="headline' in page
    assert page.index('id="headline"') < page.index("<h1>")


def test_a_part_without_what_was_seen(admin: Client) -> None:
    first = admin.get("/jobs/parts/overview/").json()
    assert first["html"]
    again = admin.get("/jobs/parts/overview/", {"seen": first["digest"]}).json()
    assert again == {"digest": first["digest"], "ok": True, "problem": ""}


def test_nothing_inline(admin: Client) -> None:
    page = admin.get("/jobs/").content.decode()
    assert "<style" not in page
    assert "style=" not in page
    assert "onclick" not in page
    assert all("src=" in tag for tag in page.split("<script")[1:])
