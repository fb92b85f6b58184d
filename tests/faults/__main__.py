"""All tests of the catalogue, wherever they are, and all others that take long.

``python -m tests.faults [PYTEST ARGUMENT...]``
"""

import sys

import pytest

from tests.faults.catalogue import ELSEWHERE


class Chosen:
    """Of the files outside this folder only the tests that the catalogue names, and those marked ``long``, are run."""

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        wanted = ("tests/faults/", *ELSEWHERE)
        chosen = [item for item in items if item.nodeid.startswith(wanted) or item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
        items[:] = chosen


if __name__ == "__main__":
    sys.exit(pytest.main(["-m", "", "tests", *sys.argv[1:]], plugins=[Chosen()]))
