"""client.js, tested by the runner of the node that comes with Playwright: it is there wherever these tests are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import playwright
import pytest

HERE = Path(__file__).parent
NODE = Path(playwright.__file__).parent / "driver" / "node"


@pytest.mark.parametrize("suite", ["client", "vectors"])
def test_client_js(suite: str) -> None:
    """Reconnect, resume, gaps, the outbox, the heartbeat, under a clock of their own; the protocol's vectors."""
    done = subprocess.run(
        [NODE, "--test", "--test-reporter=spec", HERE / f"{suite}.test.mjs"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
