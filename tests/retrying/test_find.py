"""Finding jobs that match, and acting on many of them: on a real server, from async code too."""

from __future__ import annotations

import pytest

from retrying import enqueue, jobs
from retrying.find import Match, afind, find, parse_cursor
from retrying.job import State
from retrying.layers import get_layer
from retrying.many import acancel_many, apurge_many, aredrive_many, aretry_now_many, cancel_many, redrive_many
from retrying.store.calls import Burial, Lease

CHANNEL = "work"


def put(*ids: str, channel: str = CHANNEL, **options: object) -> None:
    for id in ids:
        enqueue(channel, {"type": "work.do", "id": id}, job_id=id, **options)  # type: ignore[arg-type]


def bury(*ids: str) -> None:
    put(*ids)
    store = get_layer().store
    leases = [Lease(job.id, "T") for job in store.run(store.claim(CHANNEL, "w", "T", wanted=len(ids))).jobs]
    store.run(store.bury(CHANNEL, [Burial(lease, "no", "ValueError: no", 5, "", "work.do") for lease in leases]))


async def test_async_twins_find_and_act() -> None:
    put("a", "b")
    put("later", delay=60)
    found = await afind([CHANNEL], "ready", text='"id": "A"')
    assert [(row.job.id, row.name) for row in found.rows] == [("a", "work.do")]
    assert await acancel_many(CHANNEL, ["a", "missing"]) == [State.CANCELLED, None]
    assert await aretry_now_many(CHANNEL, ["later", "a"]) == [State.READY, State.CANCELLED]
    assert await apurge_many(CHANNEL, ["a", "b"]) == [None, State.READY]
    assert (await aredrive_many(CHANNEL, ["b"])).states == [State.READY]
    await get_layer().close_pools()


def test_more_than_a_batch_keeps_its_order_and_its_pace() -> None:
    ids = [f"d{n:03}" for n in range(100)]
    bury(*ids)
    first = redrive_many(CHANNEL, ids[:60], rate=1000)
    second = redrive_many(CHANNEL, ids[60:], rate=1000, due=first.due)
    assert first.states + second.states == [State.SCHEDULED] * 100
    page = jobs.search(CHANNEL, "scheduled", limit=1000).jobs
    assert [job.id for job in page] == ids[::-1]
    times = [job.due_at for job in page if job.due_at]
    assert (times[0] - times[-1]).total_seconds() == pytest.approx(0.099, abs=0.005)


def test_without_messages_only_ids_and_states_are_read() -> None:
    bury("a")
    (row,) = find([CHANNEL], "dead", Match(error="ValueError"), messages=False).rows
    assert (row.job.id, row.job.state, row.job.created_at, row.message) == ("a", State.DEAD, None, None)


def test_a_page_that_is_full_goes_on_at_the_next_job_although_the_last_one_is_gone() -> None:
    put("a", "b", "c", "d")
    first = find([CHANNEL], "ready", limit=2)
    assert [row.job.id for row in first.rows] == ["d", "c"]
    cancel_many(CHANNEL, ["b", "c"])
    assert [row.job.id for row in find([CHANNEL], "ready", cursor=first.cursor).rows] == ["a"]


def test_groups_follow_every_way_out_of_death() -> None:
    store = get_layer().store

    def groups() -> dict[str, int]:
        found = store.run(store.groups(CHANNEL, skip=0, limit=10))
        return {f"{group.error} {group.name}": group.count for group in found.groups}

    bury("a", "b", "c", "d", "e")
    assert groups() == {"ValueError work.do": 5}
    jobs.redrive(CHANNEL, "a")
    jobs.purge(CHANNEL, "b")
    assert groups() == {"ValueError work.do": 3}
    assert jobs.redrive_all(CHANNEL, limit=1) == 1
    assert groups() == {"ValueError work.do": 2}
    assert jobs.purge_all(CHANNEL, "dead") == 2
    assert groups() == {}


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="State"):
        find([CHANNEL], "nonsense")
    for cursor in ("", "x", "5", "5:", "1e:a"):
        with pytest.raises(ValueError, match="cursor takes"):
            parse_cursor(cursor)
