"""`make run` as a person meets it: ready, refused, crashed, stopped, killed, started again."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest

from project.development.valkey import Valkey, free_port
from tests.conftest import wait_for
from tests.processes import Process
from tests.system.site import Site, alive, environment, get, manage, none_alive

pytestmark = pytest.mark.system

PARTS = {"valkey", "sweep", "web", "worker", "reports"}
MAKE_WRITABLE = "make it writable for this user, or choose another directory by VAR_DIR="


def start_that_fails(var: Path, **variables: str) -> str:
    """Start a site that can't start; all that it said."""
    log = var.with_name("refused.log")
    with Process(
        [sys.executable, "-m", "project.development.run"], log=log, env=environment(var, **variables)
    ) as refused:
        assert refused.ended(30) == 1
        return refused.text()


def test_a_site_is_ready_supervised_and_stops_without_a_trace(tmp_path: Path) -> None:
    var = tmp_path / "var"
    with Site(var) as site:
        origin = site.ready()

        # Ready means: all parts answer, and a delivery goes through.
        assert get(origin, "/healthz")[0] == 200
        assert get(origin, "/readyz") == (200, {"ok": True, "database": "ok", "store": "ok", "worker": "ok"})
        parts = site.parts()
        assert set(parts) == PARTS
        assert all(os.getsid(pid) == pid for pid in parts.values()), (
            "Ctrl-C in the terminal is for the supervisor alone"
        )

        # A command in another terminal finds the store and the receivers; nobody else may read where they are.
        assert stat.S_IMODE((var / "environment").stat().st_mode) == 0o600
        assert "delivered after 1 attempt" in manage(site, "deliver", f"{origin}/receivers/succeeds/", "--watch")

        # A second start beside the first is refused, in one line that says where the first one is.
        assert start_that_fails(var).splitlines() == [f"system | already running at {origin}/ (process {site.pid})"]

        # A crashed part is started again, and the log says how it ended. The web server's port was never given up.
        os.kill(parts["worker"], signal.SIGKILL)
        site.says(r"worker \| crashed \(SIGKILL\), is started again in 0\.5 s")
        os.kill(parts["web"], signal.SIGKILL)
        site.says(r"web    \| crashed \(SIGKILL\)")
        assert get(origin, "/healthz")[0] == 200
        site.says(r"worker \| started again")
        os.kill(parts["valkey"], signal.SIGKILL)
        site.says(r"valkey \| started again")
        assert "delivered after 1 attempt" in manage(site, "deliver", f"{origin}/receivers/succeeds/", "--watch")

        parts = site.parts()
        assert set(parts) == PARTS
        site.signal(signal.SIGTERM)
        assert site.ended() == 0
        assert not [name for name, pid in parts.items() if alive(pid)]
        assert not (var / "environment").exists()
        said = site.text()
        assert "SIGTERM: stopping" in said
        assert "killed" not in said.lower().replace("sigkill", "").replace("killed 0 pending", "")


@pytest.mark.parametrize("how", [pytest.param(signal.SIGHUP, marks=pytest.mark.long), signal.SIGKILL])
def test_pending_work_continues_after_a_stop_of_any_kind(tmp_path: Path, how: signal.Signals) -> None:
    var, port = tmp_path / "var", str(free_port())
    with Site(var, PORT=port, DELIVERIES_BACKOFF_SECONDS="2") as site:
        origin = site.ready()
        manage(site, "deliver", f"{origin}/receivers/fails/1/")
        site.says("503")  # its first attempt failed: it waits for the retry
        pids = list(site.parts().values())
        assert len(pids) == len(PARTS)
        site.signal(how)
        site.process.wait(20)
        none_alive(pids)  # also after SIGKILL, when nobody is left to stop them
    with Site(var, PORT=port, DELIVERIES_BACKOFF_SECONDS="2") as site:
        assert site.ready(starts=2) == origin
        wait_for(lambda: states(var) == ["delivered"], "the delivery of the run before is delivered")
        site.signal(signal.SIGTERM)
        assert site.ended() == 0


def states(var: Path) -> list[str]:
    """The states of all deliveries, from the database."""
    with closing(sqlite3.connect(var / "db.sqlite3")) as database:
        return [state for (state,) in database.execute("SELECT state FROM webhooks_delivery")]


def test_a_taken_port_gives_way_and_a_start_can_be_stopped_half_way(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Site(tmp_path / "var", PORT=str(port)) as site:
            used = int(site.says(rf"port {port} is taken: using (\d+)"))
            assert used > port
            pids = wait_for(lambda: list(site.parts().values()), "it has started something")
            site.signal(signal.SIGTERM)
            assert site.ended() == 0
            assert not any(map(alive, pids))


def test_a_redis_that_is_down_at_the_start_is_said_and_waited_for(tmp_path: Path) -> None:
    port = free_port()
    with Site(tmp_path / "var", REDIS_URL=f"redis://127.0.0.1:{port}/0") as site:
        site.says("waiting for the store")
        with Valkey(tmp_path / "other", port):
            site.ready()
            assert set(site.parts()) == PARTS - {"valkey"}, "with REDIS_URL given there is no server of our own"
            site.signal(signal.SIGTERM)
            assert site.ended() == 0


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"PORT": "many"}, "PORT=many is no port: expected a number from 0 to 65535, where 0 means any free one"),
        ({"PORT": "70000"}, "PORT=70000 is no port: expected a number from 0 to 65535, where 0 means any free one"),
        ({"HOST": "192.0.2.1"}, "HOST=192.0.2.1 is no address of this machine: Cannot assign requested address"),
        ({"VAR_DIR": "/dev/null/var"}, f"can't write to /dev/null/var (Not a directory): {MAKE_WRITABLE}"),
    ],
)
def test_what_a_person_has_to_change_is_said_in_one_line(tmp_path: Path, variables: dict[str, str], line: str) -> None:
    assert start_that_fails(tmp_path / "var", **variables).splitlines() == [f"system | {line}"]


def test_a_database_that_does_not_answer_ends_the_start(tmp_path: Path) -> None:
    said = start_that_fails(tmp_path / "var", DATABASE_URL=f"postgres://nobody@127.0.0.1:{free_port()}/none")
    assert "the database (postgresql) can't be used: " in said
    assert said.splitlines()[-1] == "system | setup failed (exit code 1): what it said is above"
