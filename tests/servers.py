"""Real Redis servers of this system's packages: one, one with TLS, a set behind Sentinel, a cluster. All on loopback.

Each runs in a directory of its own on free ports and dies with the test process; nothing of it is skipped: what can't
be had is an error with the line to type.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, Self

import redis

from project.development.tether import tethered
from project.development.valkey import HOST, free_port
from tests.conftest import wait_for

ROOT = Path(__file__).resolve().parent.parent
#: Milliseconds after which a silent server counts as down: short, so that tests of a failover are.
DOWN_AFTER_MS = 1000
MASTER = "jobs"


@cache
def debian(file: str, *packages: str) -> Path:
    """The directory that holds ``file`` (a pattern) of these packages; fetched once into pytest's cache."""
    cached = ROOT / ".pytest_cache" / "d" / packages[0]
    command = ["sh", str(ROOT / "project/development/debian.sh"), str(cached), file, *packages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def programs() -> Path:
    """The directory that holds ``usr/bin/redis-server``."""
    return debian("usr/bin/redis-server", "redis-server", "redis-tools")


def faketime() -> Path:
    """libfaketime: preloaded it makes a process' wall clock wrong."""
    file = "usr/lib/*/faketime/libfaketime.so.1"
    (found,) = debian(file, "libfaketime").glob(file)
    return found


def environment() -> dict[str, str]:
    libraries = ":".join(str(path) for path in programs().glob("usr/lib/*-linux-gnu"))
    return {**os.environ, "LD_LIBRARY_PATH": libraries} if programs() != Path("/") else dict(os.environ)


def cli(*args: str) -> str:
    """Run redis-cli; returns what it printed."""
    done = subprocess.run(
        [str(programs() / "usr/bin/redis-cli"), *args],
        env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class RedisServer:
    """One redis-server: ``with RedisServer(directory, "--appendonly", "yes") as server``."""

    def __init__(self, directory: Path, *options: str, sentinel: str = "", tls: TLS | None = None) -> None:
        """``sentinel``: its configuration, when it is one."""
        self.directory = directory
        self.options = options
        self.sentinel = sentinel
        self.tls = tls
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def node(self) -> tuple[str, int]:
        return (HOST, self.port)

    @property
    def url(self) -> str:
        return f"{'rediss' if self.tls else 'redis'}://{HOST}:{self.port}/0"

    def client(self) -> redis.Redis:
        """For looking, with text; the caller closes it."""
        secure = {"ssl_ca_certs": str(self.tls.authority)} if self.tls else {}
        return redis.Redis.from_url(self.url, decode_responses=True, socket_timeout=10, **secure)

    def ask(self, *command: str | int) -> Any:
        with self.client() as client:
            return client.execute_command(*command)

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        configuration = self.directory / "redis.conf"
        if not configuration.exists():
            configuration.write_text(self.sentinel)
        ports = ["--port", "0", "--tls-port", str(self.port)] if self.tls else ["--port", str(self.port)]
        options = ["--bind", HOST, "--dir", str(self.directory), "--daemonize", "no", "--save", "", *ports]
        options += [*self.options, *(self.tls.server_options if self.tls else ())]
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                tethered(
                    [
                        str(programs() / "usr/bin/redis-server"), str(configuration), *options,
                        *(["--sentinel"] if self.sentinel else []),
                    ]
                ),
                env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(self.answers, f"redis-server answers; it said: {self.directory}/server.log")

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "server.log").read_text()[-2000:]
        try:
            with self.client() as client:
                return int(client.info("server")["process_id"]) == self.process.pid
        except redis.RedisError:
            return False

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """SIGSTOP: its connections stay open, and nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class TLS:
    """A certificate authority of the tests' own, and a certificate for 127.0.0.1, made by openssl."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.authority, self.key, self.certificate = (directory / name for name in ("ca.pem", "key.pem", "cert.pem"))
        authority_key, request = directory / "ca.key", directory / "request"
        new_key = ["-newkey", "rsa:2048", "-nodes"]
        self._openssl(
            "req", "-x509", *new_key, "-keyout", authority_key, "-out", self.authority, "-subj", "/CN=tests",
            "-days", "2", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign",
        )  # fmt: skip
        self._openssl("req", *new_key, "-keyout", self.key, "-out", request, "-subj", "/CN=127.0.0.1")
        names = directory / "names"
        names.write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
        self._openssl(
            "x509", "-req", "-in", request, "-CA", self.authority, "-CAkey", authority_key, "-CAcreateserial",
            "-out", self.certificate, "-days", "2", "-extfile", names,
        )  # fmt: skip

    @property
    def server_options(self) -> tuple[str, ...]:
        files = ("--tls-cert-file", str(self.certificate), "--tls-key-file", str(self.key))
        return (*files, "--tls-ca-cert-file", str(self.authority), "--tls-auth-clients", "no")

    @staticmethod
    def _openssl(*args: str | Path) -> None:
        command = ["/usr/bin/openssl", *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


class SentinelSet:
    """A primary, two replicas and three Sentinels; a write needs one replica that keeps up."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stack = ExitStack()

    @property
    def description(self) -> dict[str, Any]:
        """The store's."""
        return {"master_name": MASTER, "sentinels": [sentinel.node for sentinel in self.sentinels]}

    @property
    def primary(self) -> RedisServer:
        """The one that the Sentinels name."""
        port = int(self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)[1])
        return next(server for server in self.servers if server.port == port)

    @property
    def replicas(self) -> list[RedisServer]:
        return [server for server in self.servers if server is not self.primary]

    def agreed(self) -> bool:
        """Every Sentinel knows of the others, and of two replicas that follow the primary."""
        replicas = [self._replication(server) for server in self.replicas]
        states = [self._pairs(sentinel.ask("SENTINEL", "MASTER", MASTER)) for sentinel in self.sentinels]
        return (
            all((state["num-other-sentinels"], state["num-slaves"]) == ("2", "2") for state in states)
            and all(replica.get("master_link_status") == "up" for replica in replicas)
            and self._replication(self.primary)["connected_slaves"] == 2
        )

    @staticmethod
    def _pairs(found: Any) -> dict[str, str]:
        pairs = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
        return {str(name): str(value) for name, value in pairs.items()}

    @staticmethod
    def _replication(server: RedisServer) -> dict[str, Any]:
        with server.client() as client:
            return dict(client.info("replication"))

    def wait_for_switch(self, old: RedisServer) -> RedisServer:
        """Wait until all Sentinels name another primary."""
        ports = lambda: {int(s.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)[1]) for s in self.sentinels}  # noqa: E731
        wait_for(lambda: (found := ports()) and old.port not in found and len(found) == 1, "another primary")
        return self.primary

    def __enter__(self) -> Self:
        options = ("--appendonly", "yes", "--repl-diskless-sync-delay", "0", "--min-replicas-to-write", "1",
                   "--min-replicas-max-lag", "10", "--maxmemory-policy", "noeviction")  # fmt: skip
        with self._stack:
            first = self._stack.enter_context(RedisServer(self.directory / "redis0", *options))
            follow = ("--replicaof", f"{HOST} {first.port}")
            self.servers = [
                first,
                *(
                    self._stack.enter_context(RedisServer(self.directory / f"redis{n}", *options, *follow))
                    for n in (1, 2)
                ),
            ]
            configuration = (
                f"sentinel monitor {MASTER} {HOST} {first.port} 2\n"
                f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\n"
                f"sentinel failover-timeout {MASTER} 6000\n"
            )
            self.sentinels = [
                self._stack.enter_context(RedisServer(self.directory / f"sentinel{n}", sentinel=configuration))
                for n in range(3)
            ]
            wait_for(self.agreed, "the Sentinels agree")
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class RedisCluster:
    """Three primaries that share all slots; replicas on demand."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stack = ExitStack()

    @property
    def description(self) -> dict[str, Any]:
        """The store's: two nodes are enough to find the third."""
        return {"cluster": [self.servers[0].url, self.servers[1].node]}

    def owner(self, key: str) -> RedisServer:
        """The node that serves the key's slot."""
        slot = int(self.servers[0].ask("CLUSTER", "KEYSLOT", key))
        for begin, end, node, *_ in self._slots():
            if begin <= slot <= end:
                return next(server for server in self.servers if server.port == node[1])
        raise LookupError(slot)

    def _slots(self) -> Sequence[Any]:
        with redis.Redis(host=HOST, port=self.servers[0].port, legacy_responses=True) as client:
            client.response_callbacks.pop("CLUSTER SLOTS", None)
            return list(client.execute_command("CLUSTER SLOTS"))

    def flush(self) -> None:
        for server in self.servers:
            server.ask("FLUSHALL")

    def add_replica(self, primary: RedisServer) -> RedisServer:
        """Another node, that follows ``primary``. Wait until it has all that the primary has."""
        replica = self._started(len(self.servers))
        replica.ask("CLUSTER", "MEET", HOST, primary.port, int(primary.options[-1]))
        id = str(primary.ask("CLUSTER", "MYID"))
        self.servers.append(replica)
        wait_for(lambda: all(self._ok(server) for server in self.servers), "the new node is known")
        replica.ask("CLUSTER", "REPLICATE", id)
        wait_for(lambda: "master_link_status:up" in self._plain(replica, "INFO", "replication"), "the replica follows")
        return replica

    def _started(self, number: int) -> RedisServer:
        """A node, on other ports when another process has taken one of them since it was found to be free."""
        tries = 3
        while True:
            tries -= 1
            try:
                return self._stack.enter_context(self._node(number))
            except AssertionError as error:
                if not tries or "Address already in use" not in str(error):
                    raise

    def _node(self, number: int) -> RedisServer:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--maxmemory-policy", "noeviction")
        quick = ("--repl-diskless-sync-delay", "0", "--appendonly", "yes")
        bus = ("--cluster-port", str(free_port()))
        return RedisServer(self.directory / f"redis{number}", *options, *quick, *bus)

    @staticmethod
    def _plain(server: RedisServer, *command: str) -> str:
        return str(server.ask(*command)).replace("'", "").replace(" ", "")

    def __enter__(self) -> Self:
        with self._stack:
            self.servers = [self._started(n) for n in range(3)]
            first, *others = self.servers
            for n, server in enumerate(self.servers):
                server.ask("CLUSTER", "ADDSLOTSRANGE", n * 16384 // 3, (n + 1) * 16384 // 3 - 1)
                server.ask("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
            for server in others:
                server.ask("CLUSTER", "MEET", HOST, first.port, int(first.options[-1]))
            wait_for(lambda: all(self._ok(server) for server in self.servers), "the cluster is whole")
            self._stack = self._stack.pop_all()
        return self

    def _ok(self, server: RedisServer) -> bool:
        plain = self._plain(server, "CLUSTER INFO")
        return "cluster_state:ok" in plain and f"cluster_known_nodes:{len(self.servers)}" in plain

    def __exit__(self, *_: object) -> None:
        self._stack.close()
