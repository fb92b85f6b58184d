"""The fences can still be broken: code that changes takes its line in fences.py along."""

import pytest

from tests.faults.fences import FENCES, ROOT, Fence


@pytest.mark.parametrize("fence", FENCES, ids=lambda fence: fence.name)
def test_what_is_broken_stands_once_in_its_file(fence: Fence) -> None:
    assert (ROOT / fence.file).read_text().count(fence.old) == 1
