"""What README.md and docs/performance.md say of speed is what docs/performance.json has, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.__main__ import RESULTS
from benchmarks.catalogue import catalogue
from benchmarks.results import Results

README, DOCUMENT = report.README.read_text(), report.DOCUMENT.read_text()
#: What the README claims in words, outside its table: each with the line of docs/performance.md that shows it.
CLAIMED = {
    "at two thirds of the cost": "worker CPU of a BackgroundConsumer beside an unmodified AsyncConsumer's",
    "within lease + sweep (defaults 30 s + 5 s)": "kill -9: all back, defaults",
}
#: How a claim about speed or size sounds.
SOUNDS = re.compile(
    r"faster|fastest|quicker|cheaper|slower|outperform|as fast as|(?:half|thirds?|quarters?|tenth|fraction) of the cost"
    r"|\b[\d.,]+(?: x| ?(?:times|ms|us|µs|KiB|MiB|bytes|jobs/s|/s|jobs a second))(?![\w-])",
    re.IGNORECASE,
)


def written(text: str) -> str:
    """What stands between the two lines."""
    return text.partition(report.BEGIN)[2].partition(report.END)[0].strip()


def by_hand(text: str) -> str:
    """The sentences outside of them, and of code."""
    head, _, rest = text.partition(report.BEGIN)
    return re.sub(r"^```.*?^```$", "", head + rest.partition(report.END)[2], flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("path", "make"),
    [(report.README, report.summary), (report.DOCUMENT, report.document)],
    ids=["README", "performance"],
)
def test_figures_are_those_that_were_measured(path: Path, make: object) -> None:
    assert callable(make)
    expected = make(Results.load(RESULTS), catalogue()).strip()
    assert written(path.read_text()) == expected, "write them again: make bench ARGS=--report"


def cells(text: str) -> set[str]:
    """Of all tables, without what marks them; a spread is not part of a figure."""
    found = {cell.strip() for line in text.splitlines() if line.startswith("|") for cell in line.strip("|").split("|")}
    return {re.sub(r" ±\d+%", "", cell) for cell in found}


def test_every_figure_of_the_readme_is_in_a_table_of_the_document() -> None:
    table = written(README)
    there = cells(written(DOCUMENT))
    figures = {
        figure
        for line in table.splitlines()[2:]
        if line.startswith("|")
        for cell in line.strip("|").split("|")[1:-1]
        for figure in cell.strip().split(" / ")
    }
    alone = {figure for cell in there for figure in cell.split(" / ")}
    assert figures
    assert figures <= alone
    floor = re.search(r"a bare blocking pop takes ([\d.]+) / ([\d.]+) ms", table)
    assert floor is None or set(floor.groups()) <= alone


@pytest.mark.parametrize(("words", "line"), CLAIMED.items())
def test_a_claim_in_words_has_a_line_that_shows_it(words: str, line: str) -> None:
    assert words in " ".join(by_hand(README).split()), "no longer claimed: take it out of CLAIMED"
    found = re.search(rf"^\| {re.escape(line)} \|.*\| (.*?) \|$", written(DOCUMENT), re.MULTILINE)
    assert found is not None, f"{DOCUMENT!r} has no line {line!r}"
    assert found[1] == "yes"


def test_nothing_else_is_claimed_in_words() -> None:
    text = " ".join(by_hand(README).split())
    for words in CLAIMED:
        text = text.replace(words, "")
    assert SOUNDS.findall(text) == [], "put it into the table, or into CLAIMED with the line that shows it"


@pytest.mark.parametrize(
    "claim",
    ["twice as fast as Celery", "takes 3 ms", "at half of the cost", "20,000 jobs/s", "the fastest queue", "4 times"],
)
def test_what_sounds_like_a_claim(claim: str) -> None:
    assert SOUNDS.search(f"It is {claim}.")
