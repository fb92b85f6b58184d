"""The control room over a million jobs: each page under 200 ms (p95), and no request to the store over 5 ms.

How long a request holds the server is its main thread's processor time: what the slow log tells is wall time, in which
on a busy machine other processes had their turn. The length of the slow log is printed beside it. A request that reads
and seems slow is measured again; of those that write, which can't be, one in a hundred may be slower.
"""

from __future__ import annotations

import html
import re
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from channels.layers import channel_layers
from django.contrib.auth.models import User
from django.test import Client

from project.development.valkey import Valkey
from realtime.control_room import screens
from retrying.layers import get_layer
from retrying.store import Store
from retrying.store.calls import Burial, Call, Lease, NewJob
from tests.control_room.test_jobs import ids, next_page, text

pytestmark = [pytest.mark.long, pytest.mark.alone, pytest.mark.timeout(1800)]

#: Jobs in each state, over CHANNELS channels.
READY, SCHEDULED, DEAD, CANCELLED = 400_000, 250_000, 250_000, 100_000
CHANNELS = ("orders", "mails", "reports", "hooks")
ERRORS = ("TimeoutError: 30 s", "OSError: torn", "ValueError: no", "app.<locals>.Odd: x")
BATCH = 1000
PAGE_MS = 200
CALL_MS = 5


def new_jobs(kind: str, first: int, **options: Any) -> list[NewJob]:
    """BATCH of them; each hundredth has the key "rare", each tenth "often"."""
    layer = get_layer()
    made = []
    for n in range(first, first + BATCH):
        payload = layer.encode({"type": f"work.do_{n % 7}", "order": f"A-{n}", "note": "x" * 60})
        key = "rare" if n % 100 == 0 else "often" if n % 10 == 0 else None
        made.append(NewJob(id=f"{kind}{n:07}", payload=payload, key=key, **options))
    return made


def fill(store: Store) -> None:
    for n in range(0, DEAD, BATCH):
        channel = CHANNELS[n // BATCH % len(CHANNELS)]
        store.run(store.enqueue(channel, new_jobs("dead", n)))
        leases = [Lease(job.id, f"T{n}") for job in store.run(store.claim(channel, "w", f"T{n}", wanted=BATCH)).jobs]
        burials = []
        for m, lease in enumerate(leases):
            error = ERRORS[m % 4]
            burials.append(Burial(lease, "no attempts left", error, 5, f"x.E\n{error}\n", f"work.do_{m % 7}"))
        store.run(store.bury(channel, burials))
    for n in range(0, CANCELLED, BATCH):
        channel = CHANNELS[n // BATCH % len(CHANNELS)]
        made = new_jobs("gone", n)
        store.run(store.enqueue(channel, made))
        store.run(store.cancel_many(channel, [job.id for job in made], "on request"))
    for n in range(0, SCHEDULED, BATCH):
        jobs = new_jobs("later", n, delay=3_600_000 + n)
        store.run(store.enqueue(CHANNELS[n // BATCH % len(CHANNELS)], jobs))
    for n in range(0, READY, BATCH):
        store.run(store.enqueue(CHANNELS[n // BATCH % len(CHANNELS)], new_jobs("ready", n)))


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("million")) as server:
        yield server


@pytest.fixture
def store(million: Valkey, settings: Any) -> Iterator[Store]:
    """A million jobs, and the slow log empty."""
    config = {"hosts": [million.url]}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "retrying.layers.RetryingChannelLayer", "CONFIG": config}}
    channel_layers.backends.clear()
    with redis.Redis.from_url(million.url) as client:
        if not client.dbsize():
            fill(get_layer().store)
        client.config_set("slowlog-log-slower-than", CALL_MS * 1000)
        client.config_set("slowlog-max-len", 10_000)
        client.slowlog_reset()
        yield get_layer().store
        get_layer().store.connections.close()  # before the settings are what they were, and the layer is another


class Requests:
    """Measures what each request of the store costs the server."""

    def __init__(self, client: redis.Redis, run: Callable[[Store, Call[Any]], Any]) -> None:
        self.client = client
        self._run = run
        #: Processor ms and the script, of each request.
        self.taken: list[tuple[float, str]] = []

    def busy(self) -> float:
        cpu = self.client.info("cpu")
        return 1000 * float(cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"])

    def run(self, store: Store, call: Call[Any]) -> Any:
        took, answer = self._measured(store, call)
        if "no-writes" in call.script.text:
            for _ in range(2):  # slow by itself, or because of what else the machine did: that passes
                if took > CALL_MS:
                    took = min(took, self._measured(store, call)[0])
        self.taken.append((took, call.script.name))
        return answer

    def _measured(self, store: Store, call: Call[Any]) -> tuple[float, Any]:
        began = self.busy()
        answer = self._run(store, call)
        return self.busy() - began, answer

    def slow(self) -> list[str]:
        return [f"{ms:.1f} ms {name}" for ms, name in self.taken if ms > CALL_MS]

    def __str__(self) -> str:
        longest = ", ".join(f"{name} {ms:.2f}" for ms, name in sorted(self.taken, reverse=True)[:8])
        logged = self.client.slowlog_len()
        return f"{len(self.taken)} requests, processor ms of the longest: {longest}; in the slow log: {logged}"


@pytest.fixture
def requests(store: Store, million: Valkey) -> Iterator[Requests]:
    """From ``measure`` on."""
    with redis.Redis.from_url(million.url) as client:
        yield Requests(client, Store.run)


def measure(requests: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(store: Store, call: Call[Any]) -> Any:
        return requests.run(store, call)

    monkeypatch.setattr(Store, "run", run)


ADDRESSES = (
    "/jobs/list/?state=ready", "/jobs/list/?state=scheduled", "/jobs/list/?state=running", "/jobs/list/?state=dead",
    "/jobs/list/?state=cancelled", "/jobs/list/?state=expired", "/jobs/list/?state=succeeded",
    "/jobs/list/?state=ready&channel=orders", "/jobs/list/?state=dead&error=OSError",
    "/jobs/list/?state=dead&error=Missing", "/jobs/list/?state=dead&name=work.do_3",
    "/jobs/list/?state=dead&error=ValueError&name=work.do_2", "/jobs/list/?state=dead&key=rare",
    "/jobs/list/?state=ready&key=rare", "/jobs/list/?state=ready&key=missing", "/jobs/list/?state=ready&older=7d",
    "/jobs/list/?state=dead&older=7d", "/jobs/list/?state=dead&newer=1s", "/jobs/list/?state=scheduled&error=OSError",
    "/jobs/list/?state=ready&name=work.do_3", "/jobs/list/?state=ready&name=missing", "/jobs/dead/",
    "/jobs/dead/?channel=orders", "/jobs/job/orders/dead0000000/", "/jobs/job/orders/ready0000000/",
)  # fmt: skip


@pytest.mark.django_db
def test_every_page_of_a_million_jobs_is_quick(
    store: Store, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = Client()
    admin.force_login(User.objects.create_superuser("admin"))
    took: dict[str, list[float]] = {}

    def get(address: str, name: str) -> Any:
        screens.forget()
        began = time.perf_counter()
        answer = admin.get(address)
        took.setdefault(name, []).append(1000 * (time.perf_counter() - began))
        assert answer.status_code == 200
        return answer

    for _ in range(8):
        for address in ADDRESSES:
            get(address, address)
    for state in ("ready", "dead"):  # far down a list
        address: str | None = f"/jobs/list/?state={state}"
        seen: list[str] = []
        for _ in range(40):
            assert address is not None
            answer = get(address, f"page after page of {state}")
            seen += ids(answer)
            address = next_page(answer)
        assert len(seen) == len(set(seen)) == 40 * 50
    for question in ("redrive all", "purge all"):
        screens.forget()
        began = time.perf_counter()
        answer = admin.post("/jobs/act/", {"do": question, "filter-state": "dead", "filter-error": "OSError"})
        took.setdefault("question", []).append(1000 * (time.perf_counter() - began))
        assert "dead jobs that match" in text(answer)
    everything = sorted(ms for times in took.values() for ms in times)
    for name, times in sorted(took.items(), key=lambda item: -max(item[1])):
        print(f"{statistics.median(times):7.1f} ms median {max(times):7.1f} ms at most  {name}")
    p95 = everything[int(0.95 * len(everything))]
    print(
        f"{len(everything)} pages, p95 {p95:.1f} ms, most {everything[-1]:.1f} ms; "
        f"in the slow log: {requests.client.slowlog_len()}"
    )
    assert p95 < PAGE_MS

    measure(requests, monkeypatch)
    for address in ADDRESSES:
        get(address, address)
    print(requests)
    assert requests.slow() == []


@pytest.mark.django_db
def test_a_text_search_over_a_million_says_how_much_it_read(store: Store) -> None:
    admin = Client()
    admin.force_login(User.objects.create_superuser("admin"))
    answer = admin.get("/jobs/list/?state=ready&text=A-000000000")
    assert "Read the arguments of 10,000 jobs; a search reads 10,000 at a time" in text(answer)
    assert next_page(answer) is not None


@pytest.mark.django_db
def test_ten_thousand_are_redriven_in_pieces_of_a_second(
    store: Store, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = Client()
    admin.force_login(User.objects.create_superuser("admin"))
    measure(requests, monkeypatch)
    form = {"do": "redrive all", "sure": "1", "filter-state": "dead", "filter-channel": "hooks", "rate": "500"}
    answer = admin.post("/jobs/act/", {**form, "filter-error": "ValueError"})
    longest = pieces = 0.0
    while token := re.search(r'name="run" value="([^"]+)"', answer.content.decode()):
        began = time.perf_counter()
        answer = admin.post("/jobs/run/", {"run": html.unescape(token[1])})
        longest, pieces = max(longest, time.perf_counter() - began), pieces + 1
    print(f"{pieces:.0f} pieces, the longest {longest:.2f} s; {requests}")
    assert "Done. 15,500 jobs were redriven." in text(answer)
    assert longest < 2
    assert not [line for line in requests.slow() if "search" in line]
    assert len(requests.slow()) <= len(requests.taken) / 100
