"""The documents say what is so: links lead somewhere, tables equal the code."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from retrying.backends.options import Options
from retrying.conf import Settings
from retrying.policy import Exponential, RetryPolicy, to_backoff

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing


def rows(page: str, heading: str) -> dict[str, str]:
    """The first two columns of the table that follows a heading."""
    text = (ROOT / "docs" / page).read_text().split(f"# {heading}\n", 1)[1].split("\n#", 1)[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", text, re.MULTILINE))


def test_table_of_settings_equals_the_code() -> None:
    documented = rows("settings.md", "Settings")
    assert documented.keys() == {field.name for field in dataclasses.fields(Settings)}
    for field in dataclasses.fields(Settings):
        if field.default is not dataclasses.MISSING:
            assert documented[field.name] == f"`{field.default}`"


def test_table_of_task_options_equals_the_code() -> None:
    expected = {
        field.name: f'`"{field.default}"`' if isinstance(field.default, str) else f"`{field.default}`"
        for field in dataclasses.fields(Options)
    }
    assert rows("tasks.md", "Options") == expected


def test_table_of_policy_equals_the_code() -> None:
    documented = rows("settings.md", "Policies")
    assert documented.keys() == {field.name for field in dataclasses.fields(RetryPolicy)}
    assert documented["max_retries"] == f"`{RetryPolicy().max_retries}`"
    assert documented["timeout"] == f"`{RetryPolicy().timeout:g}`"


def test_schedule_in_the_docs_is_the_schedule() -> None:
    text = (ROOT / "docs/settings.md").read_text()
    line = re.search(r"^\| seconds, before jitter \|(.+)\|$", text, re.MULTILINE)
    assert line is not None
    assert [float(cell) for cell in line[1].split("|")] == [Exponential().delay(n) for n in range(1, 11)]


def test_schedules_of_other_forms_are_theirs() -> None:
    text = (ROOT / "docs/settings.md").read_text()
    found = re.findall(r"^\| `([\[{\d][^`]*)` \|((?: \d+ \|){6})$", text, re.MULTILINE)
    assert len(found) == 4, "exponential, linear, fixed and a list"
    for form, cells in found:
        backoff = to_backoff(ast.literal_eval(form))
        assert [float(cell) for cell in cells.split("|")[:-1]] == [backoff.delay(n) for n in range(1, 7)], form


def test_formula_stands_in_the_docs_as_in_the_docstring() -> None:
    formula = "min(cap, base * factor**(n-1))"
    assert formula in (RetryPolicy.__doc__ or "")
    assert formula in (ROOT / "docs/settings.md").read_text()
