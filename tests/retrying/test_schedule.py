"""Schedules: when slots are, that each becomes one job whoever asks for it and how often, and what people see of it."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis
from channels.consumer import AsyncConsumer
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from retrying import InvalidSchedule, jobs, periodic, schedule
from retrying.conf import get_settings
from retrying.doctor import diagnose
from retrying.layers import get_layer
from retrying.schedule.declaration import Schedule
from retrying.schedule.discovery import declared
from retrying.schedule.scheduler import Scheduler
from retrying.schedule.timing import EPOCH, LATE, MAX_CATCH_UP, CatchUp, Slot, Timing
from retrying.store import SCHEDULE_KEEP, Store
from retrying.store.calls import DueSlot, Lease, Looked, NewJob, ScheduleLook
from retrying.worker import Worker
from tests.conftest import await_for, wait_for
from tests.retrying.running import CHANNEL, routed

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE = timedelta(minutes=1)
#: Europe/Berlin: 2:00 is 3:00 on the first, and 3:00 is 2:00 again on the second.
SPRING, AUTUMN = datetime(2026, 3, 29, tzinfo=BERLIN), datetime(2026, 10, 25, tzinfo=BERLIN)


# When slots are


def in_berlin(line: str, day: datetime, hours: int = 5) -> list[str]:
    """Slots of the first hours of a day, as a clock in Berlin shows them, with its offset from UTC."""
    timing = Timing(cron=line, zone=BERLIN)
    found = timing.slots(day.astimezone(UTC) - timedelta(seconds=1), day.astimezone(UTC) + timedelta(hours=hours))
    return [f"{slot.astimezone(BERLIN):%H:%M%z}"[:-2] for slot in found]


@pytest.mark.parametrize(
    ("line", "spring", "autumn"),
    [
        # At an hour that is named: once a day, whatever the clocks do; one that is left out comes at its end.
        ("30 2 * * *", ["03:00+02"], ["02:30+02"]),
        ("0 3 * * *", ["03:00+02"], ["03:00+01"]),
        ("0,30 2 * * *", ["03:00+02"], ["02:00+02", "02:30+02"]),
        ("15,45 2-3 * * *", ["03:00+02", "03:15+02", "03:45+02"], ["02:15+02", "02:45+02", "03:15+01", "03:45+01"]),
        # Every so often: by the time that really passes, so the hour that comes twice counts twice.
        (
            "0 * * * *",
            ["00:00+01", "01:00+01", "03:00+02", "04:00+02", "05:00+02", "06:00+02"],
            ["00:00+02", "01:00+02", "02:00+02", "02:00+01", "03:00+01", "04:00+01"],
        ),
        ("*/30 2 * * *", [], ["02:00+02", "02:30+02", "02:00+01", "02:30+01"]),
    ],
)
def test_change_of_clocks(line: str, spring: list[str], autumn: list[str]) -> None:
    assert in_berlin(line, SPRING) == spring
    assert in_berlin(line, AUTUMN) == autumn


def test_search_that_begins_in_the_repeated_hour_finds_no_slot_again() -> None:
    timing = Timing(cron="30 2 * * *", zone=BERLIN)
    after_both = datetime(2026, 10, 25, 2, 15, fold=1, tzinfo=BERLIN)
    assert timing.next(after_both) == datetime(2026, 10, 26, 2, 30, tzinfo=BERLIN)


def test_every_counts_from_the_epoch_in_utc() -> None:
    timing = Timing(every=timedelta(minutes=7))
    slot = timing.next(datetime(2026, 3, 29, 1, 2, 3, 4, tzinfo=BERLIN))
    assert (slot - EPOCH) % timedelta(minutes=7) == timedelta(0)
    assert timing.next(slot) - slot == timedelta(minutes=7)


def test_a_slot_is_after_the_time_that_was_asked_about() -> None:
    for timing in (Timing(every=MINUTE), Timing(cron="* * * * *")):
        noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
        assert list(timing.slots(noon, noon + 2 * MINUTE)) == [noon + MINUTE, noon + 2 * MINUTE]
        assert timing.next(noon - timedelta(milliseconds=1)) == noon


LINES = ["* * * * *", "*/7 * * * *", "30 2 * * *", "0-59 2 * * *", "0 0 1 * *", "5 4 * * SUN", "*/20 * * * * *"]
TIMES = st.datetimes(min_value=datetime(2026, 1, 1), max_value=datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(
    line=st.sampled_from(LINES),
    zone=st.sampled_from([UTC, BERLIN, ZoneInfo("America/St_Johns"), ZoneInfo("Australia/Lord_Howe")]),
    until=TIMES | st.sampled_from([SPRING, AUTUMN]).map(lambda day: day.astimezone(UTC) + timedelta(hours=3)),
    span=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=2)),
    limit=st.integers(1, 30),
)
@examples(max_examples=60, deadline=None)
def test_newest_slots_are_the_last_of_all(line: str, zone: Any, until: datetime, span: timedelta, limit: int) -> None:
    timing = Timing(cron=line, zone=zone)
    every = list(timing.slots(until - span, until))
    assert every == sorted(set(every))
    assert timing.newest(until - span, until, limit) == every[-limit:]


def test_millions_of_missed_slots_are_not_looked_through() -> None:
    until = datetime(2026, 11, 21, tzinfo=UTC)
    for timing in (Timing(every=timedelta(seconds=1)), Timing(cron="* * * * * *", zone=BERLIN)):
        found = timing.newest(until - timedelta(days=2000), until, MAX_CATCH_UP)
        assert found == [until - timedelta(seconds=n) for n in reversed(range(MAX_CATCH_UP))]


def test_what_is_made_up_for() -> None:
    mark = datetime(2026, 1, 1, 12, tzinfo=UTC)
    now = mark + 3 * MINUTE + timedelta(seconds=1)

    def due(catch_up: CatchUp, now: datetime = now) -> list[Slot]:
        return Timing(every=MINUTE, catch_up=catch_up).due(mark, now)

    assert [slot.at for slot in due(CatchUp.ALL)] == [mark + n * MINUTE for n in (1, 2, 3)]
    assert due(CatchUp.LAST) == [Slot(mark + 3 * MINUTE, None)]
    assert due(CatchUp.SKIP) == [Slot(mark + 3 * MINUTE, mark + 3 * MINUTE + LATE)]
    assert due(CatchUp.ALL, mark) == due(CatchUp.LAST, mark) == due(CatchUp.SKIP, mark) == []
    assert len(due(CatchUp.ALL, mark + timedelta(days=3))) == MAX_CATCH_UP
    (slot,) = Timing(every=timedelta(seconds=1)).due(mark, now)
    assert slot.until == slot.at + timedelta(seconds=0.5), "half the way to the next one"


def test_jitter_is_bounded_spread_and_the_same_for_all_workers() -> None:
    timing = Timing(every=MINUTE, jitter=timedelta(seconds=30))
    slots = list(islice(timing.slots(EPOCH, EPOCH + 500 * MINUTE), 500))
    late = [(timing.start("a", slot) - slot).total_seconds() for slot in slots]
    assert 0 <= min(late) < 3
    assert 12 < sum(late) / 500 < 18
    assert 27 < max(late) <= 30
    assert late == [(timing.start("a", slot) - slot).total_seconds() for slot in slots]
    assert Timing(every=MINUTE).start("a", slots[0]) == slots[0]


# Declaring


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({}, "cron= or every="),
        ({"cron": "* * * * *", "every": MINUTE}, "not both"),
        ({"cron": "61 * * * *"}, "cron: bad minute in '61 "),
        ({"cron": "* 25 * * *"}, "bad hour"),
        ({"cron": "* * *"}, "wrong number of fields"),
        ({"cron": "0 0 30 2 *"}, "bad day-of-month"),
        ({"cron": ""}, "wrong number of fields"),
        ({"cron": 5}, "cron takes a line"),
        ({"cron": "* * * * *", "tz": "Mars/Olympus"}, "tz takes the name of a time zone"),
        ({"cron": "* * * * *", "tz": "../etc"}, "tz takes"),
        ({"cron": "* * * * *", "tz": 3}, "tz takes"),
        ({"every": MINUTE, "tz": "Europe/Berlin"}, "tz goes with cron"),
        ({"every": 60}, "every takes a timedelta"),
        ({"every": timedelta(milliseconds=1500)}, "every takes a timedelta of whole seconds"),
        ({"every": timedelta(0)}, "every takes"),
        ({"every": MINUTE, "jitter": -1}, "jitter takes"),
        ({"every": MINUTE, "jitter": "5"}, "jitter takes"),
        ({"every": MINUTE, "catch_up": "some"}, "catch_up takes 'skip', 'last', 'all', got 'some'"),
        ({"every": MINUTE, "name": "two words"}, "name takes"),
        ({"every": MINUTE}, "name takes .* pass another one"),  # the function below is local to this test
    ],
)
def test_a_bad_declaration_names_the_field(given_: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSchedule, match=words):

        @periodic(**given_)
        def task() -> None: ...


def test_it_goes_on_a_function_once() -> None:
    def task() -> None: ...

    assert periodic(every=MINUTE, name="a")(task) is task
    with pytest.raises(InvalidSchedule, match="already"):
        periodic(every=MINUTE, name="b")(task)
    with pytest.raises(TypeError, match="under @task"):
        periodic(every=MINUTE, name="b")(type("Consumer", (), {}))
    with pytest.raises(TypeError, match="under @task"):
        periodic(every=MINUTE, name="b")(object())  # type: ignore[type-var]


def test_zone_is_that_of_the_settings_unless_given(settings: Any) -> None:
    settings.TIME_ZONE = "Europe/Berlin"

    def line(**given_: Any) -> str:
        def task() -> None: ...

        return str(periodic(name="a", **given_)(task).periodic.timing.line)  # type: ignore[attr-defined]

    assert line(cron="0 3 * * *") == "0 3 * * * Europe/Berlin"
    assert line(cron="0 3 * * *", tz="utc") == "0 3 * * * UTC"
    assert line(cron="0 3 * * *", tz=BERLIN) == "0 3 * * * Europe/Berlin"
    assert [line(every=timedelta(seconds=n)) for n in (90, 600, 86400)] == ["every 90 s", "every 10 min", "every 1 d"]


# One job a slot


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


STATE = "retrying:test:{work}:schedule:s"


def now_ms(server: redis.Redis) -> int:
    seconds, micros = server.time()
    return int(seconds) * 1000 + int(micros) // 1000


def ask(store: Store, *slots: int, line: str = "", until: int | None = None) -> Looked:
    """A worker asks for slots (ms)."""
    wanted = [DueSlot(at, until, NewJob(id=f"schedule:s:{at}", payload=b"p")) for at in slots]
    return store.run(store.slots(CHANNEL, [ScheduleLook("s", line, wanted)])).schedules[0]


def drain(store: Store) -> list[str]:
    """Take and end every job that is ready; nothing is left of them, so an id can be used again."""
    found = []
    while batch := store.run(store.claim(CHANNEL, "w", f"t{len(found)}", wanted=100)).jobs:
        ends = [Lease(job.id, f"t{len(found)}") for job in batch]
        found += [job.id for job in batch]
        store.run(store.claim(CHANNEL, "w", f"end{len(found)}", wanted=0, succeeded=ends))
    for id in found:
        store.run(store.purge(CHANNEL, id))
        store.connections.sync().delete(store.keys(CHANNEL).all[0] + id)
    return found


def test_a_slot_is_made_a_job_once(store: Store, server: redis.Redis) -> None:
    now = now_ms(server)
    first = ask(store, line="every 1 min")
    assert (first.mark, first.made, first.paused) == (None, 0, False)
    assert now <= first.since <= now_ms(server)
    assert ask(store, now - 2, now - 1).made == 2
    assert drain(store) == [f"schedule:s:{now - 2}", f"schedule:s:{now - 1}"]
    again = ask(store, now - 2, now - 1)
    assert (again.made, again.mark) == (0, now - 1), "a repeat, or another worker"
    assert drain(store) == []
    assert 0 < server.pttl(STATE) <= SCHEDULE_KEEP * 1000


def test_a_slot_before_its_time_is_left_alone(store: Store, server: redis.Redis) -> None:
    later = now_ms(server) + 60_000
    refused = ask(store, later, line="x")
    assert (refused.made, refused.mark) == (0, None)


def test_an_id_that_is_known_is_not_made_again(store: Store, server: redis.Redis) -> None:
    """The state was lost, the job wasn't."""
    now = now_ms(server)
    assert ask(store, now, line="x").made == 1
    server.delete(STATE)
    assert ask(store, now, line="x").made == 0
    assert drain(store) == [f"schedule:s:{now}"]


def test_jitter_puts_the_job_off(store: Store, server: redis.Redis) -> None:
    now = now_ms(server)
    job = NewJob(id="late", payload=b"p", run_at=now + 60_000)
    store.run(store.slots(CHANNEL, [ScheduleLook("s", "x", [DueSlot(now, None, job)])]))
    found = store.run(store.get(CHANNEL, "late"))
    assert found is not None
    assert found.state == "scheduled"
    assert found.due_at is not None
    assert round(found.due_at.timestamp() * 1000) == now + 60_000


def test_a_slot_that_is_too_late_is_missed(store: Store, server: redis.Redis) -> None:
    now = now_ms(server)
    assert ask(store, now - 1000, line="x", until=now + 60_000).made == 1
    late = ask(store, now - 500, until=now - 400)
    assert (late.made, late.missed, late.mark) == (0, 1, now - 500)


def test_slots_of_a_pause_are_not_made_up_for(store: Store, server: redis.Redis) -> None:
    ask(store, line="x")
    assert store.run(store.pause_schedule(CHANNEL, "s")) is True
    assert store.run(store.pause_schedule(CHANNEL, "s")) is False
    before = now_ms(server)
    paused = ask(store, before)
    assert (paused.made, paused.paused, paused.mark) == (0, True, before)
    while now_ms(server) <= before + 1:
        pass
    assert store.run(store.resume_schedule(CHANNEL, "s")) is True
    assert store.run(store.resume_schedule(CHANNEL, "s")) is False
    assert ask(store, before + 1).made == 0, "nobody looked in the pause, and it still isn't made up for"
    wait_for(lambda: ask(store, now_ms(server)).made == 1, "slots after the pause count")


def test_another_line_counts_from_now(store: Store, server: redis.Redis) -> None:
    old = ask(store, line="every 1 min")
    assert ask(store, line="every 1 min").since == old.since
    wait_for(lambda: now_ms(server) > old.since, "time passes")
    new = ask(store, line="every 2 min")
    assert new.since > old.since
    assert ask(store).since == new.since, "a worker of the release before goes on without telling its line"


def test_full_server_refuses_a_slot_whole(store: Store, server: redis.Redis) -> None:
    """The mark doesn't move past a slot that could not be stored."""
    now = now_ms(server)
    ask(store, line="x")
    server.config_set("maxmemory", 1)
    try:
        with pytest.raises(Exception, match="out of memory"):
            ask(store, now)
    finally:
        server.config_set("maxmemory", 0)
    assert ask(store, now).made == 1


class OneWorker:
    """What a worker would ask for, with a clock that is wrong by so many ms and what it heard last."""

    def __init__(self, store: Store, server: redis.Redis, timing: Timing, skew: int) -> None:
        self._store, self._server, self._timing, self._skew = store, server, timing, skew
        self._mark = ask(store, line=timing.line).mark

    def look(self, since: int, times: int, batch: int) -> None:
        mark = max(since, self._mark or 0)
        now = now_ms(self._server) + self._skew
        due = [round(slot.at.timestamp() * 1000) for slot in self._timing.due(from_ms(mark), from_ms(now))][:batch]
        for _ in range(times):
            self._mark = ask(self._store, *due).mark


def from_ms(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


@given(
    skews=st.lists(st.integers(-3_600_000, 3_600_000), min_size=1, max_size=3),
    steps=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 8), st.booleans()), max_size=12),
)
@examples(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_slot_is_one_job_whatever_workers_clocks_and_repeats(
    store: Store, server: redis.Redis, skews: list[int], steps: list[tuple[int, int, int, bool]]
) -> None:
    """Workers whose clocks are wrong by up to an hour ask in any order, repeat themselves, and know old marks; jobs
    end in between, so that only the mark is left to tell. In the end one with a right clock catches up."""
    server.flushall()
    timing = Timing(every=timedelta(seconds=60), catch_up=CatchUp.ALL)
    workers = [OneWorker(store, server, timing, skew) for skew in [*skews, 0]]
    since = now_ms(server) - 1_800_000
    made: Counter[str] = Counter()
    for number, times, batch, ends in steps:
        workers[number % len(workers)].look(since, times, batch)
        if ends:
            made.update(drain(store))
    workers[-1].look(since, 1, MAX_CATCH_UP)
    workers[-1].look(since, 1, MAX_CATCH_UP)
    now = now_ms(server)
    made.update(drain(store))
    expected = [f"schedule:s:{slot.timestamp() * 1000:.0f}" for slot in timing.slots(from_ms(since), from_ms(now))]
    assert made == Counter(expected)
    assert store.run(store.counts(CHANNEL)).scheduled == 0, "no slot before its time"


# Workers


class Clockwork(AsyncConsumer):
    """Says which slot it runs, and how late."""

    ran: list[tuple[datetime | None, float]] = []

    @periodic(every=timedelta(seconds=1), name="tick", catch_up="all")
    async def work_tick(self, message: dict[str, Any]) -> None:
        at = schedule.scheduled_for()
        self.ran.append((at, 0.0 if at is None else time.time() - at.timestamp()))

    @periodic(cron="0 3 * * *", tz="Europe/Berlin", name="nightly", jitter=60)
    async def work_nightly(self, message: dict[str, Any]) -> None: ...


@pytest.fixture
def clockwork(settings: Any, monkeypatch: pytest.MonkeyPatch, _quick: None) -> Iterator[type[Clockwork]]:
    """The application behind the routers."""
    settings.TASKS = {}  # the project's own tasks aren't what these tests are about
    get_settings.cache_clear()
    Clockwork.ran = []
    monkeypatch.setattr("retrying.routes.get_default_application", lambda: routed(Clockwork))
    yield Clockwork
    get_settings.cache_clear()


def test_schedules_of_consumers_are_found(clockwork: Any) -> None:
    found = declared()
    assert {name: item.channel for name, item in found.items()} == {"nightly": CHANNEL, "tick": CHANNEL}
    assert get_layer().decode(found["tick"].make("x").payload) == {"type": "work_tick"}


def test_two_of_one_name_are_refused(clockwork: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Twice(AsyncConsumer):
        @periodic(every=MINUTE, name="same")
        async def one(self, message: dict[str, Any]) -> None: ...

        @periodic(every=MINUTE, name="same")
        async def other(self, message: dict[str, Any]) -> None: ...

    monkeypatch.setattr("retrying.routes.get_default_application", lambda: routed(Twice))
    with pytest.raises(InvalidSchedule, match="two schedules are named 'same'"):
        declared()


async def test_workers_run_each_slot_once(clockwork: Any) -> None:
    """Two of them, from their start on; the first slot is one that begins after the schedule was first seen."""
    layer = get_layer()
    workers = [
        Worker(routed(clockwork), {CHANNEL: 1}, layer, beside=[Scheduler(declared().values(), layer.store).run])
        for _ in range(2)
    ]
    began = datetime.now(UTC)
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        await await_for(lambda: len(clockwork.ran) >= 3, "three slots ran")
    finally:
        for worker in workers:
            worker.stop()
        assert await asyncio.gather(*tasks) == [0, 0]
        await layer.close_pools()
    slots = [at for at, _ in clockwork.ran]
    (_, tick) = schedule.statuses()
    assert tick.last is not None
    assert tick.last >= slots[2]
    assert tick.last_state in ("succeeded", "ready"), "the newest one may have come as the workers stopped"
    assert slots == [slots[0] + n * timedelta(seconds=1) for n in range(len(slots))]
    assert slots[0] >= began


async def test_a_scheduler_that_fails_ends_its_worker(clockwork: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A worker without one would be a schedule that silently stopped."""

    def broken(id: str) -> NewJob:
        raise RuntimeError("no job can be made")

    layer = get_layer()
    every = Schedule(name="broken", channel=CHANNEL, timing=Timing(every=timedelta(seconds=1)), make=broken)
    worker = Worker(routed(clockwork), {CHANNEL: 1}, layer, beside=[Scheduler([every], layer.store).run])
    assert await asyncio.wait_for(worker.run(), 20) == 1
    await layer.close_pools()
    assert "what runs beside the worker failed" in caplog.text


# People


def command(*words: str) -> str:
    out = io.StringIO()
    call_command("retrying", "schedule", *words, stdout=out)
    return out.getvalue()


def test_command_lists_pauses_resumes_and_runs(clockwork: Any) -> None:
    rows = {row["name"]: row for row in json.loads(command("--json"))}
    assert rows["tick"]["line"] == "every 1 s"
    assert rows["tick"]["last"] is None
    assert rows["nightly"]["line"] == "0 3 * * * Europe/Berlin"
    assert datetime.fromisoformat(rows["nightly"]["next"]).astimezone(BERLIN).hour == 3
    assert "tick is paused" in command("pause", "tick")
    assert "already" in command("pause", "tick")
    assert {row["name"]: row["paused"] for row in json.loads(command("--json"))} == {"nightly": False, "tick": True}
    assert "yes" in command()
    assert json.loads(command("run", "tick", "--json"))["id"].startswith("schedule:tick:")
    assert jobs.counts(CHANNEL).ready == 1, "also while it is paused"
    assert "tick goes on" in command("resume", "tick")
    assert "was not paused" in command("resume", "tick")
    with pytest.raises(CommandError, match="there is no schedule 'tock'; there are: nightly, tick"):
        command("run", "tock")
    with pytest.raises(CommandError, match="name"):
        command("pause")


async def test_the_same_for_async_code(clockwork: Any) -> None:
    assert await schedule.apause("tick")
    (_, tick) = await schedule.astatuses()
    assert (tick.name, tick.paused, tick.next, tick.workers) == ("tick", True, None, 0)
    assert await schedule.aresume("tick")
    job = await jobs.aget(CHANNEL, await schedule.arun("tick"))
    assert job is not None
    assert job.state == "ready"
    await get_layer().close_pools()


def test_a_job_run_by_hand_has_no_slot(clockwork: Any) -> None:
    from retrying.testing import run_until_idle

    schedule.run("tick")
    run_until_idle(CHANNEL, application=routed(clockwork))
    assert clockwork.ran == [(None, 0.0)]


def test_doctor_says_that_nobody_runs_a_schedule(clockwork: Any) -> None:
    (found,) = [finding for finding in diagnose() if finding.topic == "schedule tick"]
    assert found.severity == "problem"
    assert "no worker consumes work" in found.text
    schedule.pause("tick")
    (found,) = [finding for finding in diagnose() if finding.topic == "schedule tick"]
    assert found.severity == "warning"
    assert "paused" in found.text
