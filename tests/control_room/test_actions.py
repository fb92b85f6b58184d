"""What people do to jobs from the pages: asked, POSTed, refused without the right, told after, and written down."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client

from retrying import jobs
from retrying.job import State
from tests.control_room.store import CHANNEL, kill, put, succeed, take
from tests.control_room.test_jobs import text

pytestmark = pytest.mark.django_db


def state(job_id: str, channel: str = CHANNEL) -> State | None:
    job = jobs.get(channel, job_id)
    return None if job is None else job.state


def post(client: Client, verb: str, job_id: str, seen: str, *, sure: bool = True) -> Any:
    data = {"seen": seen, "next": f"/jobs/job/{CHANNEL}/{job_id}/", **({"sure": "1"} if sure else {})}
    return client.post(f"/jobs/job/{CHANNEL}/{job_id}/{verb}/", data, follow=True)


def act(client: Client, do: str, *ticked: str, sure: bool = True, rate: str = "", **filters: str) -> Any:
    data: dict[str, Any] = {"do": do, "job": [f"{CHANNEL}/{id}" for id in ticked], "rate": rate, "next": "/jobs/list/"}
    data |= {f"filter-{name}": value for name, value in {"state": "dead", **filters}.items()}
    return client.post("/jobs/act/", {**data, **({"sure": "1"} if sure else {})}, follow=True)


def run(client: Client, answer: Any) -> Any:
    """Press "Continue" until the run is over."""
    while token := re.search(r'name="run" value="([^"]+)"', answer.content.decode()):
        answer = client.post("/jobs/run/", {"run": html.unescape(token[1])})
        assert answer.status_code == 200
    return answer


# One


def test_each_verb_does_what_it_says(admin: Client) -> None:
    kill("dead", "worse")
    put("later", "never", delay=60)
    assert "The job was redriven." in text(post(admin, "redrive", "dead", "dead"))
    assert state("dead") is State.READY
    assert "The job was made ready at once." in text(post(admin, "retry", "later", "scheduled"))
    assert state("later") is State.READY
    assert "The job was cancelled" in text(post(admin, "cancel", "never", "scheduled"))
    assert state("never") is State.CANCELLED
    assert "The job was purged." in text(post(admin, "purge", "worse", "dead")), "on the list: its page is gone"
    assert state("worse") is None


def test_what_can_not_be_taken_back_is_asked(admin: Client) -> None:
    kill("a")
    for verb, question in (("purge", "Purge this dead job for good?"), ("redrive", "Redrive this dead job?")):
        answer = post(admin, verb, "a", "dead", sure=False)
        assert question in text(answer)
        assert state("a") is State.DEAD
    put("b")
    assert "Cancel this ready job?" in text(post(admin, "cancel", "b", "ready", sure=False))
    assert state("b") is State.READY
    assert LogEntry.objects.count() == 0


def test_a_job_that_moves_on_while_its_button_is_pressed(admin: Client) -> None:
    kill("a", "b", "c")
    for id in "ab":
        jobs.redrive(CHANNEL, id)
    leases = take(2)
    succeed(next(lease for lease in leases if lease.job_id == "a"))
    jobs.purge(CHANNEL, "c")
    assert "It has just succeeded; nothing was done." in text(post(admin, "purge", "a", "dead"))
    assert "It has just started; nothing was done." in text(post(admin, "redrive", "b", "dead"))
    assert "It has just gone; nothing was done." in text(post(admin, "redrive", "c", "dead"))
    assert state("a") is State.SUCCEEDED, "a tombstone is no dead letter: its id stays known"
    assert LogEntry.objects.count() == 0


def test_a_dead_letter_whose_name_another_job_holds_stays_dead(admin: Client) -> None:
    kill("a", unique="n")
    put("b", unique="n")
    assert "It stays dead: another job holds its unique name" in text(post(admin, "redrive", "a", "dead"))
    assert "Nothing was done. 1 stays dead" in text(act(admin, "redrive selected", "a"))
    assert state("a") is State.DEAD


def test_everything_done_is_in_the_admins_log(admin: Client) -> None:
    kill("a", "b", "c")
    post(admin, "redrive", "a", "dead")
    act(admin, "purge selected", "b")
    run(admin, act(admin, "purge all", error="ValueError"))
    entries = [(e.object_id, e.change_message, e.is_deletion()) for e in LogEntry.objects.order_by("id")]
    assert entries == [
        ("work/a", "redrive: The job was redriven.", False),
        ("all channels: dead", "purge, 1 dead job selected: 1 job was purged. work/b", True),
        ("all channels: dead, error ValueError", "purge, all that match: begun", True),
        ("all channels: dead, error ValueError", "purge, all that match: 1 job was purged.", True),
    ]
    assert {entry.user.get_username() for entry in LogEntry.objects.all()} == {"admin"}


# Those that were ticked


def test_the_selected_are_counted_asked_and_reported(admin: Client) -> None:
    kill("a", "b", "c", "d")
    jobs.redrive(CHANNEL, "b")
    jobs.purge(CHANNEL, "c")
    assert "Purge 3 dead jobs for good?" in text(act(admin, "purge selected", "a", "b", "c", sure=False))
    assert state("a") is State.DEAD
    words = text(act(admin, "purge selected", "a", "b"))
    assert "1 job was purged. 1 had moved on and was left alone (1 ready)." in words
    assert (state("a"), state("b"), state("d")) == (None, State.READY, State.DEAD)


def test_a_success_among_the_selected_keeps_its_tombstone(admin: Client) -> None:
    kill("a")
    jobs.redrive(CHANNEL, "a")
    succeed(*take())
    assert "Nothing was done. 1 had moved on and was left alone (1 succeeded)." in text(
        act(admin, "purge selected", "a")
    )
    assert state("a") is State.SUCCEEDED


@pytest.mark.parametrize(
    ("do", "options", "words"),
    [
        ("purge selected", {}, "No job was selected"),
        ("redrive all", {"state": "ready"}, "Redrive is nothing that could be done to ready jobs"),
        ("redrive all", {"state": "nonsense"}, "There is no state “nonsense”"),
        ("redrive all", {"rate": "fast"}, "“fast” is no rate"),
        ("redrive all", {"rate": "-1"}, "“-1” is no rate"),
        ("redrive all", {"rate": "nan"}, "“nan” is no rate"),
        ("purge all", {"error": "Nothing"}, "Nothing matches any more"),
    ],
)
def test_forms_that_make_no_sense_do_nothing(admin: Client, do: str, options: dict[str, str], words: str) -> None:
    kill("a")
    sure = "Nothing matches" not in words
    assert words in text(act(admin, do, sure=sure, **options))
    assert state("a") is State.DEAD


def test_other_nonsense_is_refused(admin: Client) -> None:
    kill("a")
    assert admin.post("/jobs/act/", {"do": "explode all"}).status_code == 400
    assert admin.post("/jobs/act/").status_code == 400
    assert admin.post(f"/jobs/job/{CHANNEL}/a/explode/").status_code == 404
    assert admin.post("/jobs/run/", {"run": "forged"}).status_code == 400
    assert state("a") is State.DEAD


# All that match


def test_all_that_match_and_only_those(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrying.find.LOOK_SECONDS", 30.0)  # on a busy machine it counted "180 at least" in a tenth
    kill(*(f"a{n:03}" for n in range(450)), error="OSError: torn")
    kill("other", error="ValueError: no")
    kill("elsewhere", channel="other", error="OSError: torn")
    question = text(act(admin, "redrive all", sure=False, channel=CHANNEL, error="OSError"))
    assert "Redrive 450 dead jobs of “work”?" in question
    assert "They match: error OSError." in question
    answer = act(admin, "redrive all", channel=CHANNEL, error="OSError")
    assert "It goes on in pieces" in text(answer)
    assert jobs.counts(CHANNEL).ready == 0, "nothing is done before the first piece"
    assert "Done. 450 jobs were redriven." in text(run(admin, answer))
    assert jobs.counts(CHANNEL).ready == 450
    assert (state("other"), state("elsewhere", "other")) == (State.DEAD, State.DEAD)


def test_a_redrive_keeps_to_its_rate(admin: Client) -> None:
    kill(*(f"a{n:03}" for n in range(300)))
    question = text(act(admin, "redrive all", sure=False, rate="100"))
    assert "100 a second: that takes 3 s" in question
    assert "300 jobs were redriven" in text(run(admin, act(admin, "redrive all", rate="100")))
    due = sorted(job.due_at for job in jobs.search(CHANNEL, "scheduled", limit=1000).jobs if job.due_at)
    assert len(due) == 300
    assert 2.9 < (due[-1] - due[0]).total_seconds() < 3.1


def test_all_with_a_text_in_their_arguments(admin: Client) -> None:
    kill("a", "b", arguments={"order": "A-1001"})
    kill("c", arguments={"order": "B-2"})
    assert "Purge 2 dead jobs for good?" in text(act(admin, "purge all", sure=False, text="a-1001"))
    assert "Done. 2 jobs were purged." in text(run(admin, act(admin, "purge all", text="a-1001")))
    assert [job.id for job in jobs.search(CHANNEL, "dead").jobs] == ["c"]


@pytest.mark.parametrize(("before", "verb", "after"), [
    ("scheduled", "retry", State.READY), ("scheduled", "cancel", State.CANCELLED), ("ready", "cancel", State.CANCELLED),
    ("running", "cancel", State.RUNNING), ("cancelled", "purge", None), ("succeeded", "purge", None),
])  # fmt: skip
def test_every_state_has_its_verbs(admin: Client, before: str, verb: str, after: State | None) -> None:
    put("a", delay=60 if before == "scheduled" else None)
    if before == "cancelled":
        jobs.cancel(CHANNEL, "a")
    if before in ("running", "succeeded"):
        leases = take()
        if before == "succeeded":
            succeed(*leases, keep=5)
    assert "1 job was" in text(run(admin, act(admin, f"{verb} all", state=before)))
    assert state("a") is after


def test_a_run_belongs_to_who_began_it(admin: Client, client_of: Callable[..., Client]) -> None:
    kill("a")
    answer = act(admin, "purge all")
    token = re.search(r'name="run" value="([^"]+)"', answer.content.decode())
    assert token is not None
    assert client_of("purge").post("/jobs/run/", {"run": html.unescape(token[1])}).status_code == 400
    assert state("a") is State.DEAD


# Who may


@pytest.mark.parametrize("verb", ["retry", "cancel", "redrive", "purge"])
def test_the_server_refuses_who_lacks_the_right(client_of: Callable[..., Client], verb: str) -> None:
    right = "purge" if verb == "purge" else "manage"
    before = "scheduled" if verb in ("retry", "cancel") else "dead"
    if before == "dead":
        kill("a")
    else:
        put("a", delay=60)
    others = [client_of("view"), client_of("manage" if right == "purge" else "purge"), client_of()]
    for client in (*others, client_of("view", "manage", "purge", staff=False)):
        assert post(client, verb, "a", before).status_code == 403
        assert act(client, f"{verb} selected", "a", state=before).status_code == 403
        assert act(client, f"{verb} all", state=before).status_code == 403
    assert post(Client(), verb, "a", before).redirect_chain[0][0].startswith("/sign-in/")
    assert state("a") == before
    assert post(client_of(right), verb, "a", before).status_code == 200
    assert state("a") != before


def test_a_right_that_is_taken_away_ends_a_run(client_of: Callable[..., Client]) -> None:
    kill("a")
    client = client_of("purge")
    answer = act(client, "purge all")
    token = re.search(r'name="run" value="([^"]+)"', answer.content.decode())
    assert token is not None
    answer.wsgi_request.user.user_permissions.set(Permission.objects.filter(codename="view_control_room"))
    assert client.post("/jobs/run/", {"run": html.unescape(token[1])}).status_code == 403
    assert state("a") is State.DEAD


def test_changes_are_posted_and_carry_the_token(admin: Client) -> None:
    kill("a")
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = admin.cookies
    assert post(strict, "purge", "a", "dead").status_code == 403
    assert act(strict, "purge all").status_code == 403
    for address in (f"/jobs/job/{CHANNEL}/a/purge/", "/jobs/act/", "/jobs/run/"):
        assert admin.get(address).status_code == 405
    assert state("a") is State.DEAD
