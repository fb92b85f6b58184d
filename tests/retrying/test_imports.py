"""Who may import whom: project -> realtime -> retrying, and inside retrying a core that knows no framework."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {name: sorted((ROOT / name).rglob("*.py")) for name in ("retrying", "realtime", "project")}
#: Modules of the core's heart: neither Django nor Channels.
PURE = [ROOT / "retrying/policy.py", ROOT / "retrying/job.py", *(ROOT / "retrying/store").rglob("*.py")]


def imports(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, wherever in it, those for type checking included."""
    package = path.relative_to(ROOT).with_suffix("").parts
    package = package[:-1]  # of a module and of an __init__ alike
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = ".".join((*package[: len(package) - node.level + 1], *([node.module] if node.module else [])))
            else:
                base = node.module or ""
            found |= {base} | {f"{base}.{name.name}" for name in node.names}
    return found


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def test_there_is_something_to_check() -> None:
    assert all(len(paths) > 3 for paths in PACKAGES.values())
    assert len(PURE) > 5
    assert {"retrying.store.calls", "redis.exceptions"} <= imports(ROOT / "retrying/store/__init__.py")


@pytest.mark.parametrize(
    ("package", "never"),
    [("retrying", {"realtime", "project", "tests"}), ("realtime", {"project", "tests"}), ("project", {"tests"})],
)
def test_layers_are_imported_downwards_only(package: str, never: set[str]) -> None:
    wrong = {str(path.relative_to(ROOT)): roots(path) & never for path in PACKAGES[package] if roots(path) & never}
    assert wrong == {}


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(ROOT)))
def test_policy_job_and_store_know_no_framework(path: Path) -> None:
    assert roots(path) & {"django", "channels", "channels_redis", "asgiref", "daphne"} == set()


def test_what_they_import_of_ours_knows_none_either() -> None:
    """Otherwise the rule would be met in words only."""
    seen: set[Path] = set()
    todo = list(PURE)
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imports(path):
            file = ROOT / Path(*name.split("."))
            todo += [found for found in (file.with_suffix(".py"), file / "__init__.py") if found.exists()]
    package = ROOT / "retrying/__init__.py"  # loads what needs Django on first use only
    wrong = {str(path.relative_to(ROOT)) for path in seen - {package} if roots(path) & {"django", "channels"}}
    assert wrong == set()


def test_core_imports_nothing_that_is_built_on_it() -> None:
    built_on_it = {
        "backends",
        "schedule",
        "limits",
        "testing",
        "management",
        "cli",
        "doctor",
        "stats",
        "metrics",
        "probes",
        "health",
        "urls",
        "django_tasks",
    }
    front = ROOT / "retrying/__init__.py"  # names what is public, and loads it on first use
    for path in PACKAGES["retrying"]:
        if path == front or built_on_it & {*path.relative_to(ROOT).parts, path.stem}:
            continue
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("retrying.")}
        assert ours & built_on_it == set(), path
