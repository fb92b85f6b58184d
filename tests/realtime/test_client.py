"""client.js, tested by the runner of the node that comes with Playwright: it is there wherever these tests are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import playwright

HERE = Path(__file__).parent
NODE = Path(playwright.__file__).parent / "driver" / "node"


def test_client_js() -> None:
    """Reconnect, resume, gaps, the outbox, the heartbeat: client.test.mjs, under a clock of its own."""
    done = subprocess.run(
        [NODE, "--test", "--test-reporter=spec", HERE / "client.test.mjs"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
