"""Jobs by state with filters, one job, dead letters by error: what the pages say, and to what they refuse an answer."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.http import QueryDict
from django.test import Client

from realtime.control_room import listing, related
from realtime.control_room.filters import Filters
from retrying import jobs
from retrying.find import Match, find
from retrying.job import State
from retrying.layers import get_layer
from retrying.store.calls import Burial, NewJob
from tests.control_room.store import CHANNEL, fail, kill, put, succeed, take

pytestmark = pytest.mark.django_db

LIST = "/jobs/list/"


def text(answer: Any) -> str:
    """What a page says, without its markup."""
    main = answer.content.decode().split("<main", 1)[1].split("</main>")[0]
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", main).split()))


def ids(answer: Any) -> list[str]:
    """The jobs of a list, in its order."""
    return re.findall(r'data-key="[\w.-]+/([^"]+)"', answer.content.decode())


def next_page(answer: Any) -> str | None:
    found = re.search(r'href="(\?[^"]+)" rel="next"', answer.content.decode())
    return LIST + html.unescape(found[1]) if found else None


# The list


def test_each_state_has_its_list(admin: Client) -> None:
    kill("dead")
    put("scheduled", delay=60)
    put("cancelled")
    jobs.cancel(CHANNEL, "cancelled")
    put("succeeded")
    succeed(*take(), keep=5)
    put("running")
    take()
    put("ready")
    for state in State:
        found = ids(admin.get(LIST, {"state": state}))
        assert found == ([] if state is State.EXPIRED else [state.value]), state


def test_pages_lead_on_and_hold_every_job_once(admin: Client) -> None:
    put(*(f"j{n:03}" for n in range(120)))
    put(*(f"k{n:03}" for n in range(30)), channel="other")
    seen, address = [], f"{LIST}?state=ready"
    while address:
        answer = admin.get(address)
        seen += ids(answer)
        address = next_page(answer)
    assert sorted(seen) == sorted([*(f"j{n:03}" for n in range(120)), *(f"k{n:03}" for n in range(30))])
    assert len(ids(admin.get(LIST, {"state": "ready", "channel": "other"}))) == 30


def test_filters_narrow_a_list_down(admin: Client) -> None:
    kill("a", error="ValueError: no", name="work.one")
    kill("b", error="OSError: no", name="work.one")
    kill("c", error="OSError: no", name="work.two", key="customer-7", arguments={"order": "A-1001"})
    put("r1", name="work.one", arguments={"order": "B-2"})
    put("r2", name="work.two", key="customer-7")

    def found(**filters: str) -> list[str]:
        return ids(admin.get(LIST, filters))

    assert found(state="dead", error="OSError") == ["c", "b"]
    assert found(state="dead", name="work.one") == ["b", "a"]
    assert found(state="dead", name="work.one", error="OSError") == ["b"]
    assert found(state="dead", key="customer-7") == ["c"]
    assert found(state="dead", text="a-1001") == ["c"]
    assert found(state="ready", name="work.one") == ["r1"]
    assert found(state="ready", key="customer-7") == ["r2"]
    assert found(state="ready", text="b-2") == ["r1"]
    assert found(state="ready", older="1h") == []
    assert found(state="ready", newer="1h") == ["r2", "r1"]
    assert found(state="dead", older="1h") == []
    assert found(state="dead", newer="1h") == ["c", "b", "a"]
    assert found(state="dead", channel="other") == []


def test_an_error_is_found_in_jobs_that_wait_for_their_retry(admin: Client) -> None:
    put("a", "b")
    one, other = take(2)
    fail(one, error="OSError: torn")
    fail(other, error="ValueError: no")
    assert ids(admin.get(LIST, {"state": "scheduled", "error": "OSError"})) == ["a"]


def test_the_filters_stand_in_the_address_and_in_the_form(admin: Client) -> None:
    kill("a")
    page = admin.get(LIST, {"state": "dead", "error": "ValueError", "channel": CHANNEL}).content.decode()
    assert 'name="error" value="ValueError"' in page
    assert f"<option selected>{CHANNEL}</option>" in page
    assert "state=ready&amp;error=ValueError" in page.replace("channel=work&amp;", "")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"state": "nonsense"}, "There is no state “nonsense”"),
        ({"channel": "a b"}, "can't be the name of a channel"),
        ({"older": "soon"}, "“soon” is no age"),
        ({"older": "2h", "newer": "1h"}, "Nothing is both older than 2h and younger than 1h"),
        ({"page": "x"}, "a page that can't be"),
        ({"page": "5:"}, "a page that can't be"),
        ({"state": "<script>alert(1)</script>"}, "There is no state “<script>alert(1)</script>”"),
    ],
)
def test_nonsense_is_answered_in_words(admin: Client, query: dict[str, str], words: str) -> None:
    kill("a")
    answer = admin.get(LIST, query)
    assert answer.status_code == 200
    assert words in text(answer)
    assert ids(answer) == []
    assert "<script>alert" not in answer.content.decode()


def test_a_page_past_the_end_says_so(admin: Client) -> None:
    kill("a")
    assert "The list ends before this page" in text(admin.get(LIST, {"state": "dead", "page": "1:a"}))


def test_a_text_search_reads_a_part_says_so_and_goes_on(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrying.find.MAX_READ", 20)
    put("needle", arguments={"order": "A-1001"})
    put(*(f"j{n:03}" for n in range(30)))
    answer = admin.get(LIST, {"state": "ready", "text": "A-1001"})
    assert ids(answer) == []
    assert "Nothing that matches among the 20 jobs looked at so far" in text(answer)
    assert "Read the arguments of 20 jobs" in text(answer)
    address = next_page(answer)
    assert address is not None
    answer = admin.get(address)
    assert ids(answer) == ["needle"]
    assert next_page(answer) is None


def test_what_is_redacted_can_not_be_searched_for(admin: Client) -> None:
    put("a", arguments={"password": "hunter2", "note": "hello"})
    assert ids(admin.get(LIST, {"state": "ready", "text": "hunter2"})) == []
    answer = admin.get(LIST, {"state": "ready", "text": "hello"})
    assert ids(answer) == ["a"]
    assert "hunter2" not in answer.content.decode()


def test_find_goes_on_over_channels_with_nothing_lost_or_doubled(redis_url: str) -> None:
    for n in range(60):
        kill(f"d{n:02}", channel=("a", "b", "c")[n % 3], error="OSError: x" if n % 2 else "ValueError: y")
    seen: list[str] = []
    cursor = None
    while True:
        found = find(["a", "b", "c"], "dead", Match(error="OSError"), limit=7, cursor=cursor)
        seen += [row.job.id for row in found.rows]
        cursor = found.cursor
        if cursor is None:
            break
    assert seen == [f"d{n:02}" for n in range(59, 0, -2)]


# One job


def job_page(client: Client, job_id: str, channel: str = CHANNEL) -> Any:
    return client.get(f"/jobs/job/{channel}/{job_id}/")


def test_a_job_shows_its_attempts_its_arguments_and_what_comes_next(admin: Client) -> None:
    put("a", topic="t", key="customer-7", arguments={"order": "A-1001", "api_key": "s3cret"})
    fail(take()[0], error="OSError: torn")
    words = text(job_page(admin, "a"))
    assert "scheduled" in words
    assert "work.do" in words
    assert "OSError: torn" in words
    assert '"order": "A-1001"' in words
    assert "s3cret" not in words
    assert "Next attempt" in words
    assert "Attempt 1 failed host:1:worker builtins.OSError" in words
    assert "retrying" in words, "of its topic"
    assert "customer-7" in words
    for verb in ("Retry now", "Cancel"):
        assert verb in words
    assert "Redrive" not in words


def test_a_running_job_shows_who_holds_its_lease(admin: Client) -> None:
    put("a", topic="t")
    (lease,) = take()
    store = get_layer().store
    progress = [("progress", {"attempt": 1, "fraction": 0.4, "text": "Reading"})]
    store.run(store.emit(CHANNEL, lease, progress, batch=1))
    answer = job_page(admin, "a")
    words = text(answer)
    assert "Lease holder host:1:worker" in words
    assert "Lease ends" in words
    assert "40 % Reading" in words
    assert 'value="0.400"' in answer.content.decode()


def test_a_task_shows_its_arguments_as_a_call(admin: Client) -> None:
    message = {"backend": "default", "queue": "default", "args": [7], "kwargs": {"dry": True}}
    put("a", name="app.tasks.send", arguments=message)
    assert "7, dry=true" in text(admin.get(LIST, {"state": "ready"}))
    assert '"args": [ 7 ]' in text(job_page(admin, "a"))


def test_rescues_and_forgotten_attempts_are_told(admin: Client) -> None:
    put("a")
    store = get_layer().store
    for n in range(22):
        (lease,) = take(claim=f"T{n}")
        fail(lease, delay=0)
    words = text(job_page(admin, "a"))
    assert "Attempt 22 failed" in words
    assert "Attempt 2 failed" not in words
    assert "2 earlier attempts are not kept" in words
    assert store


@pytest.mark.parametrize(
    ("channel", "job_id", "words"),
    [
        (CHANNEL, "missing", "work has no job missing"),
        (CHANNEL, "<b>", "There can be no such job"),
        ("no channel", "a", "There can be no such job"),
    ],
)
def test_a_job_that_is_not_there_is_said(admin: Client, channel: str, job_id: str, words: str) -> None:
    answer = job_page(admin, job_id, channel)
    assert answer.status_code == 404
    assert words in text(answer)


def test_a_success_of_which_only_a_tombstone_is_left(admin: Client) -> None:
    put("a")
    succeed(*take())
    words = text(job_page(admin, "a"))
    assert "succeeded" in words
    assert "only its id is kept" in words


def test_what_came_from_outside_is_only_text(admin: Client) -> None:
    evil = "<script>alert(1)</script>\u202egnp.exe\x1b[31m\x00\u200b"
    kill("a", arguments={"note": evil, evil: 1}, error=f"ValueError: {evil}", name=evil, trace=f"x.E\n{evil}")
    for address in (f"{LIST}?state=dead", f"/jobs/job/{CHANNEL}/a/", "/jobs/dead/"):
        page = admin.get(address).content.decode()
        assert "<script>alert" not in page, address
        for character in ("\u202e", "\x1b", "\x00", "\u200b"):
            assert character not in page, (address, character)
    assert "⟨U+202E⟩gnp.exe" in text(job_page(admin, "a"))


def test_a_long_message_and_a_long_traceback_are_cut_and_can_be_had_whole(admin: Client) -> None:
    """64 KiB of JSON, and 1 MiB."""
    message = {"type": "work.do", "items": ["<b>" * 20] * 900, "rest": ""}
    message["rest"] = "x" * (65_536 - len(json.dumps(message)))
    assert len(json.dumps(message)) == 65_536
    kill("a", arguments=message, trace="builtins.ValueError\n" + "line\n" * 209_715 + "E")
    answer = job_page(admin, "a")
    words = text(answer)
    assert "The first 16,000 of " in words
    assert "The last 16,000 of 1,048,576 characters" in words
    assert len(answer.content) < 100_000
    whole = admin.get(f"/jobs/job/{CHANNEL}/a/arguments.txt")
    assert json.loads(whole.content) == message
    assert "<b>" not in answer.content.decode()
    assert whole["Content-Disposition"].startswith("attachment")
    assert whole["Content-Type"].startswith("text/plain")
    assert len(admin.get(f"/jobs/job/{CHANNEL}/a/traceback-1.txt").content) > 1_048_576
    assert admin.get(f"/jobs/job/{CHANNEL}/a/traceback-2.txt").status_code == 404
    assert admin.get(f"/jobs/job/{CHANNEL}/a/secrets.txt").status_code == 404


def test_a_message_that_can_not_be_decoded_is_said(admin: Client) -> None:
    store = get_layer().store

    store.run(store.enqueue(CHANNEL, [NewJob(id="a", payload=b"\xc1 not msgpack")]))
    assert "can't be decoded" in text(admin.get(LIST, {"state": "ready"}))
    assert "be decoded with this site" in text(job_page(admin, "a"))


def test_the_project_links_a_job_to_what_it_is_about(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(job_id: str) -> tuple[str, str]:
        raise LookupError(job_id)

    monkeypatch.setattr(related, "_links", {})
    related.register(CHANNEL, lambda job_id: ("Order", f"/orders/{job_id}/"))
    related.register(CHANNEL, broken)
    put("a")
    assert '<a class="button" href="/orders/a/">Order</a>' in job_page(admin, "a").content.decode()


# Dead letters by error


def test_dead_letters_are_grouped_by_error_and_handler(admin: Client) -> None:
    kill("a", "b", error="OSError: torn", name="work.one")
    kill("c", error="OSError: torn", name="work.two")
    kill("d", error="ValueError: no", name="work.one", channel="other")
    words = text(admin.get("/jobs/dead/"))
    assert "4 dead letters in 3 groups" in words
    assert words.index("OSError work.one work 2") < words.index("OSError work.two work 1")
    assert "ValueError work.one other 1" in words
    jobs.redrive(CHANNEL, "c")
    jobs.purge("other", "d")
    words = text(admin.get("/jobs/dead/", {"channel": CHANNEL}))
    assert "2 dead letters in 1 group" in words
    page = admin.get("/jobs/dead/", {"channel": CHANNEL}).content.decode()
    address = re.search(r'href="(/jobs/list/\?[^"]*)"><bdi>OSError', page)
    assert address is not None
    assert ids(admin.get(html.unescape(address[1]))) == ["b", "a"]


def test_groups_are_bounded_and_the_rest_is_found_all_the_same(admin: Client) -> None:
    store = get_layer().store
    put(*(f"j{n}" for n in range(503)))

    leases = take(503)
    store.run(store.bury(CHANNEL, [Burial(it, "no", f"E{n}: x", 5, "", "t") for n, it in enumerate(leases)]))
    found = store.run(store.groups(CHANNEL, skip=0, limit=1000))
    assert len(found.groups) == 501
    assert sum(group.count for group in found.groups) == found.dead == 503
    assert ids(admin.get(LIST, {"state": "dead", "error": "E502"})) == ["j502"], "of those that have no group"
    assert "401 smaller or older groups not shown" in text(admin.get("/jobs/dead/"))


# Who may look


@pytest.mark.parametrize("address", [LIST, "/jobs/dead/", "/jobs/job/work/a/", "/jobs/job/work/a/arguments.txt"])
def test_only_staff_with_the_permission_may_look(client_of: Callable[..., Client], address: str) -> None:
    put("a")
    anonymous = Client().get(address)
    assert anonymous.status_code == 302
    assert "sign-in" in anonymous["Location"]
    assert client_of("view", staff=False).get(address).status_code == 403
    assert client_of().get(address).status_code == 403
    assert client_of("view").get(address).status_code == 200
    assert client_of("purge").get(address).status_code == 200


def test_buttons_are_those_that_one_may_press(client_of: Callable[..., Client]) -> None:
    kill("a")
    for rights, verbs in ((("view",), set()), (("manage",), {"redrive"}), (("purge",), {"purge"})):
        client = client_of(*rights)
        page = client.get(LIST).content.decode()
        assert set(re.findall(r'value="(\w+) all"', page)) == verbs
        page = job_page(client, "a").content.decode()
        assert set(re.findall(r'formaction="/jobs/job/work/a/(\w+)/"', page)) == verbs


def test_the_admin_leads_to_the_control_room(admin: Client, client_of: Callable[..., Client]) -> None:
    assert "/admin/realtime/controlroom/" in admin.get("/admin/").content.decode()
    assert admin.get("/admin/realtime/controlroom/")["Location"] == "/jobs/"
    assert "/admin/realtime/controlroom/" not in client_of().get("/admin/").content.decode()


def test_words_of_filters() -> None:
    filters = Filters(channel="work", state="dead", error="OSError", older="1h", text="x")
    assert filters.words == "error OSError, older than 1h, with the text “x”"
    assert filters.target == "work: dead, error OSError, older than 1h, with the text “x”"


def test_tabs_count_what_the_store_counts(admin: Client) -> None:
    def tabs() -> dict[str, int | None]:
        shown = listing.state(QueryDict(f"channel={CHANNEL}"))
        return {tab["state"].value: tab["count"] for tab in shown["tabs"]}

    put("a", "b")
    succeed(*take(), keep=5)
    assert (tabs()["succeeded"], tabs()["cancelled"], tabs()["expired"]) == (1, 0, 0)
    jobs.cancel(CHANNEL, "b")
    assert (tabs()["succeeded"], tabs()["cancelled"], tabs()["expired"]) == (1, None, None)
