"""From figures to tables: nothing is run here, the figures are made up."""

import json

import pytest

from benchmarks import report
from benchmarks.__main__ import arguments, chosen
from benchmarks.catalogue import MEASURES, OURS, catalogue, read
from benchmarks.claims import CLAIMS, Claim, claims, fastest, ours
from benchmarks.measure import Figure
from benchmarks.plots import Bar, bars
from benchmarks.results import Key, Results
from benchmarks.tables import CRASH, PERSISTENCE, SENDING, SPEED, WORKING, best, table

FACTS = {
    "date": "2026-11-21 10:00 UTC", "processor": "a processor", "cores": 2, "memory": "24 GiB", "system": "Linux 6",
    "python": "CPython 3.13.0", "server": "Valkey 9.1.2", "load": 0.1,
}  # fmt: skip
DRAIN = SPEED[0]

PEER = '''\
"""A queue."""

# /// script
# requires-python = ">=3.12"
# dependencies = ["queue==1.0"]
#
# [tool.benchmark]
# packages = ["queue"]
# after_kill = "loses it"
#
# [tool.benchmark.variants.fast]
# settings = "2 threads"
# concurrency = 20
# {more}
# ///

import nothing_that_is_installed_here
'''


@pytest.fixture
def peers():
    return catalogue()


@pytest.fixture
def results(tmp_path):
    made = Results(tmp_path / "performance.json")
    made.begin(FACTS)
    for variant, rates in (("consumer", (18_000, 20_000, 21_000)), ("consumer-asyncio", (12_000,))):
        for rate in rates:
            made.add(Key(OURS, variant, "drain"), {"rate": rate, "worker_cpu": 0.05})
    for peer, variant, rate in (
        ("dramatiq", "tuned", 10_000),
        ("bullmq", "default", 4_000),
        ("raw", "stream", 200_000),
    ):
        made.add(Key(peer, variant, "drain"), {"rate": rate, "worker_cpu": 0.1})
    made.fail(Key("rq", "simple", "drain"), "the worker ended:\nno such option")
    return made


def test_every_file_of_a_peer_can_be_read_without_its_environment(peers):
    assert {"celery", "rq", "huey", "dramatiq", "taskiq", "arq", "saq", "streaq", "pydocket", "bullmq"} < peers.keys()
    assert next(iter(peers)) == OURS
    for peer in peers.values():
        assert peer.requirements, peer.name
        assert peer.after_kill, peer.name
        for variant in peer.variants.values():
            assert variant.settings, (peer.name, variant.name)
            assert set(variant.measures) <= set(MEASURES)


def test_claims_are_about_variants_that_there_are(peers):
    for claim in CLAIMS:
        key, _ = claim.ours
        assert key.measure in peers[OURS].variants[key.variant].measures, claim.text


def test_what_a_peers_file_says(tmp_path):
    file = tmp_path / "queue.py"
    file.write_text(PEER.format(more='measures = ["drain"]'))
    peer = read(file, module="somewhere.queue")
    assert (peer.name, peer.module, peer.python, peer.requirements) == (
        "queue",
        "somewhere.queue",
        (3, 12),
        ("queue==1.0",),
    )
    fast = peer.variants["fast"]
    assert (fast.measures, fast.at_once("drain"), fast.at_once("crash"), fast.uvloop) == (("drain",), 20, 10, False)


@pytest.mark.parametrize("more", ['measures = ["speed"]', "colour = 3", "= 5"])
def test_a_peers_file_with_a_mistake_is_named(tmp_path, more):
    file = tmp_path / "queue.py"
    file.write_text(PEER.format(more=more))
    with pytest.raises(ValueError, match=r"queue\.py"):
        read(file, module="queue")


def test_figures_survive_the_file_and_a_later_run_replaces_its_own_cells(results):
    results.save()
    again = Results.load(results.path)
    assert again.cells == results.cells
    assert again.figure(Key(OURS, "consumer", "drain"), "rate") == Figure(20_000, 0.075, 3)
    again.begin({**FACTS, "date": "2026-11-22 10:00 UTC"})
    again.add(Key("dramatiq", "tuned", "drain"), {"rate": 11_000})
    again.save()
    kept = json.loads(results.path.read_text())
    assert set(kept["runs"]) == {"2026-11-21 10:00 UTC", "2026-11-22 10:00 UTC"}
    assert again.figure(Key("dramatiq", "tuned", "drain"), "rate") == Figure(11_000, 0.0, 1)
    assert again.newest == FACTS["date"]


def test_a_table_has_ours_first_the_peers_by_rate_and_the_floor_last(results, peers):
    lines = table(results, peers, SPEED).splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == [
        "**retrying consumer**", "**retrying consumer-asyncio**",
        "dramatiq tuned", "bullmq default", "rq simple", "raw stream",
    ]  # fmt: skip
    assert "| 20,000 ±8% |" in lines[0]
    assert "| 50.0 |" in lines[0]  # milliseconds of seconds
    assert "| failed |" in lines[4]


def test_lines_of_another_run_are_marked(results, peers):
    results.begin({**FACTS, "date": "2026-11-22 10:00 UTC"})
    results.add(Key("dramatiq", "tuned", "drain"), {"rate": 11_000})
    assert "| dramatiq tuned † | 11,000 |" in table(results, peers, SPEED)


def test_the_best_peer_is_neither_ours_nor_the_floor(results, peers):
    assert best(results, peers, DRAIN) == ("dramatiq tuned", Figure(10_000, 0.0, 1))
    assert best(results, peers, DRAIN, survivors=True) == ("bullmq default", Figure(4_000, 0.0, 1))


def test_a_claim_is_a_ratio_and_says_whether_it_is_met(results, peers):
    rows = claims(results, peers)
    assert "| 20,000 | dramatiq tuned: 10,000 | 2.00 x | at least 1.8 x | yes |" in rows
    assert "| 12,000 | dramatiq tuned: 10,000 | 1.20 x | at least 1.3 x | **no** |" in rows
    assert "| 50.0 |  | 50.0 ms | at most 60 ms | yes |" in rows
    assert "kill -9" not in rows.replace("survives kill -9", "")  # not measured: left out


def test_a_latency_stands_beside_the_raw_pop_of_its_run(results, peers):
    results.add(Key(OURS, "consumer", "latency"), {"p99": 2.5})
    results.add(Key("raw", "pop", "latency"), {"p99": 0.9})
    assert "| 2.50 | raw pop: 0.90 | 2.50 ms | at most 2 ms | **no** |" in claims(results, peers)
    results.add(Key("raw", "pop", "latency"), {"p99": 5.0})  # the median of the two: 2.95
    assert "| 2.50 ms | at most 2 ms | no: the raw pop is over it, too |" in claims(results, peers)


@pytest.mark.parametrize(
    ("two", "worker_cpu", "said"),
    [
        ((36_100, 1.2, 0.5), 0.05, "yes"),
        ((22_000, 1.9, 0.95), 0.05, "no: Valkey is the limit, 0.95 of its one core busy"),
        ((22_000, 1.9, 0.5), 0.05, "no: the machine is full, 1.90 of 2 cores busy"),
        # 60 us of processor a job: two cores do 33,333 a second, 1.67 times the 20,000 of one process.
        (
            (22_000, 1.5, 0.5),
            0.05,
            "**no**; 2 cores can give 1.67 x at most; 1.50 were busy, Valkey waited for one in 25% of the time",
        ),
        ((22_000, 1.5, 0.5), 0.03, "**no**"),
    ],
)
def test_what_two_processes_could_not_have_is_said_where_the_figures_show_it(tmp_path, peers, two, worker_cpu, said):
    made = Results(tmp_path / "performance.json")
    made.begin(FACTS)
    made.add(Key(OURS, "consumer", "drain"), {"rate": 20_000, "worker_cpu": worker_cpu, "server_cpu": 0.01})
    made.add(
        Key(OURS, "consumer", "two"),
        {**dict(zip(("rate", "cores", "server_cores"), two, strict=True)), "server_waiting": 0.25},
    )
    row = next(line for line in claims(made, peers).splitlines() if "no-op jobs, AsyncConsumer" in line)
    assert row.endswith(f"| at least 1.8 x | {said} |")


@pytest.mark.parametrize(
    ("two", "server", "said"),
    [
        (18_200, 0.7, "yes"),
        (15_000, 0.95, "no: Valkey is the limit, 0.95 of its one core busy"),
        (15_000, 0.7, "**no**"),
    ],
)
def test_where_workers_have_a_core_each_only_the_server_is_an_excuse(tmp_path, peers, two, server, said):
    made = Results(tmp_path / "performance.json")
    made.begin(FACTS)
    made.add(Key(OURS, "consumer", "portions"), {"one": 10_000, "two": two, "two_server": server})
    (row,) = (line for line in claims(made, peers).splitlines() if "two processes" in line)
    assert row.endswith(f"| at least 1.8 x | {said} |")


def test_a_claim_without_a_peer_to_compare_with_is_left_out(results, peers):
    lonely = Claim("alone", ours("consumer", "drain", "rate"), 1, fastest(SENDING[0]))
    assert lonely.row(results, peers) is None


def test_a_report_of_everything_and_its_place_in_the_files(results, peers, tmp_path, monkeypatch):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Name\n\n{report.BEGIN}\nold\n{report.END}\n\nThe end.\n")
    for name, path in (("README", readme), ("DOCUMENT", tmp_path / "performance.md"), ("IMAGES", tmp_path / "images")):
        monkeypatch.setattr(report, name, path)
    for measure, columns in (("drain", WORKING), ("enqueue", SENDING), ("crash", CRASH), ("persistence", PERSISTENCE)):
        names = {name: 1.5 for column in columns for name in column.names if column.measure == measure}
        for kept in ("off", "everysec"):
            results.add(Key(OURS, "consumer", measure, kept), names)
    for _ in range(2):  # the second time there is something to replace
        report.write(results, peers)
    document, text = (tmp_path / "performance.md").read_text(), readme.read_text()
    assert document.count("## Measured") == 1
    assert "rq simple, drain: the worker ended: no such option" in document
    assert text.startswith("# Name\n")
    assert text.endswith("The end.\n")
    assert "old" not in text
    assert text.count("unmodified `AsyncConsumer`") == 1
    assert (tmp_path / "images" / "performance-drain.svg").read_text().count("<rect") > 4


def test_bars_that_are_too_long_are_cut_and_say_so():
    drawn = bars("Title & more", "jobs/s", [Bar("ours", 100, 0.1, "ours"), Bar("floor", 1000, 0.1, "floor")], cut=100)
    assert "Title &amp; more" in drawn
    assert "1,000<" in drawn
    assert drawn.count("<path") == 2  # a whisker, a gap


def test_what_to_measure_is_chosen_by_name(peers):
    def cells(*words):
        return {(cell.peer.name, cell.variant.name, cell.measure) for cell in chosen(peers, arguments(words))}

    everything = cells()
    assert ("huey", "threads", "drain") in everything
    assert ("huey", "process2", "two") not in everything  # not its best
    assert ("huey", "threads", "crash") not in everything  # takes minutes
    assert (OURS, "crash", "crash") in everything
    assert cells("--only", "huey:process2") == {("huey", "process2", "two")}
    assert cells("--only", "huey,rq", "--measure", "two") == {("huey", "threads", "two"), ("rq", "simple", "two")}
    assert ("huey", "threads", "crash") in cells("--crash")
    with pytest.raises(SystemExit, match="nobody"):
        cells("--only", "nobody")
