"""What of ``common.lua`` a script is sent with: all that it uses, and no more."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from retrying import sweeper
from retrying.store import scripts
from retrying.store.scripts import COMMENT, PIECE, script

COMMON = (resources.files("retrying.store") / "lua" / "common.lua").read_text()
PACKAGES = ("retrying.store", "retrying.testing")
NAMES = {name for match in PIECE.finditer(COMMON) for name in (match[1] or match[2]).split(", ")}
SCRIPTS = [
    (path.name.removesuffix(".lua"), package)
    for package in PACKAGES
    for path in sorted((resources.files(package) / "lua").iterdir(), key=lambda path: path.name)
    if path.name != "common.lua"
]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", COMMENT.sub("", text))


def test_common_is_made_of_pieces_only() -> None:
    assert {"JOB", "READY", "now", "record", "promote"} <= NAMES
    assert words(PIECE.sub("", COMMON)) == []


@pytest.mark.parametrize(("name", "package"), SCRIPTS)
def test_a_script_has_what_it_uses_and_no_more(name: str, package: str) -> None:
    text = script(name, package).text
    found = words(text)
    pieces = [set((match[1] or match[2]).split(", ")) for match in PIECE.finditer(text)]
    declared = set().union(*pieces)
    assert NAMES & set(found) <= declared
    for piece in pieces:
        assert any(found.count(one) > 1 for one in piece), f"nothing uses {', '.join(piece)}"


def test_what_a_function_uses_comes_with_it() -> None:
    text = scripts._used("local A = 1\nlocal B, C = 2, 3\nlocal function f()\n  return A\nend\nlocal D = 4\n", "f()")
    assert text == "local A = 1\nlocal function f()\n  return A\nend\n"


def test_what_a_script_needs_only_below_is_made_below() -> None:
    first, rest, below = script("enqueue").text.partition(scripts.REST)
    assert rest
    assert "local function create(" in first
    assert "local function create_with(" in below
    found = words(first)
    for piece in PIECE.finditer(first):
        assert any(found.count(one) > 1 for one in (piece[1] or piece[2]).split(", ")), piece[0]
    assert not {piece[0] for piece in PIECE.finditer(first)} & {piece[0] for piece in PIECE.finditer(below)}


def test_the_sweeper_knows_how_much_one_sweep_does() -> None:
    """When it did as much there is more: another number would leave the rest for the next sweep, seconds later."""
    told = re.search(r"^local LIMIT = (\d+)", script("sweep").text, re.MULTILINE)
    assert told is not None
    assert int(told[1]) == sweeper.LIMIT
