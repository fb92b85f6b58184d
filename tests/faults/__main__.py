"""All tests of the catalogue, wherever they are, and all others that take long but those of the benchmarks: what the
server needs for something wants a machine with nothing else to do (``make test ARGS="-m long tests/benchmarks"``).

``python -m tests.faults [PYTEST ARGUMENT...]``
"""

import sys

import pytest

from tests.faults.catalogue import ELSEWHERE


class Chosen:
    """What ``make faults`` runs of all files."""

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        wanted = ("tests/faults/", *ELSEWHERE)
        chosen = [
            item
            for item in items
            if item.nodeid.startswith(wanted)
            or (item.get_closest_marker("long") and not item.nodeid.startswith("tests/benchmarks/"))
        ]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
        items[:] = chosen


if __name__ == "__main__":
    sys.exit(pytest.main(["-m", "", "tests", *sys.argv[1:]], plugins=[Chosen()]))
