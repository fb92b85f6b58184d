"""All tests of the catalogue, wherever they are: ``python -m tests.faults [PYTEST ARGUMENT...]``."""

import sys

import pytest

from tests.faults.catalogue import ELSEWHERE


class Named:
    """Of the files outside this folder only the tests that the catalogue names are run."""

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        wanted = ("tests/faults/", *ELSEWHERE)
        others = [item for item in items if not item.nodeid.startswith(wanted)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item.nodeid.startswith(wanted)]


if __name__ == "__main__":
    files = sorted({prefix.split("::")[0] for prefix in ELSEWHERE})
    sys.exit(pytest.main(["-m", "", "tests/faults", *files, *sys.argv[1:]], plugins=[Named()]))
