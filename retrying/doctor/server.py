"""The server: its version, what it keeps and what it throws away."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from redis.exceptions import ResponseError

from ..store import Store
from .findings import Finding, Severity

Version = tuple[int, ...]

#: Oldest versions whose scripts can do what ours ask.
FLOOR: dict[str, Version] = {"Redis": (7, 0), "Valkey": (7, 2)}
#: First versions, of each series, without CVE-2025-49844 (a script can run code on the server). Later series have none.
LUA_FIXED: dict[str, tuple[Version, ...]] = {
    "Redis": ((7, 2, 11), (7, 4, 6), (8, 0, 4), (8, 2, 2)),
    "Valkey": ((7, 2, 11), (8, 0, 6), (8, 1, 4)),
}
FULL, NEARLY_FULL = 0.9, 0.75
#: Seconds by which two clocks may differ before it is worth a word.
CLOCK_SECONDS = 1.0

Info = Mapping[str, Any]


def examine_server(store: Store) -> Iterator[Finding]:
    """Everything about the store's server. Raises RedisError and RetryingError when it can't be asked."""
    client = store.connections.sync()
    info: dict[str, Any] = client.info()
    yield from _version(info)
    if info.get("role") == "slave":
        yield _problem(
            "The server is a replica, and refuses every write.",
            "Point the layer at the primary or at the Sentinels.",
        )
        return
    store.run(store.paused("doctor"))  # may this user run scripts?
    try:
        config: Info | None = _texts(
            client.config_get("appendfsync", "save", "min-replicas-to-write", "maxmemory", "maxmemory-policy")
        )
    except ResponseError as error:
        config = None
        yield Finding(
            Severity.NOTE,
            "server",
            f"CONFIG is denied to this user ({error}): what follows is read from INFO, and appendfsync isn't seen.",
            "Look at the server's configuration, or let the user run CONFIG GET (+config|get).",
        )
    yield from _memory(info, config or {})
    yield from _persistence(info, config)
    yield from _replicas(info, config)
    yield from _clock(*client.time())


def _texts(config: Mapping[Any, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in config.items()}


def _problem(text: str, advice: str) -> Finding:
    return Finding(Severity.PROBLEM, "server", text, advice)


def _warning(text: str, advice: str) -> Finding:
    return Finding(Severity.WARNING, "server", text, advice)


def product(info: Info) -> tuple[str, Version]:
    """Name and version."""
    valkey = info.get("server_name") == "valkey"
    text = str(info.get("valkey_version" if valkey else "redis_version", "0"))
    return "Valkey" if valkey else "Redis", tuple(int(part) for part in text.split(".") if part.isdecimal())


def vulnerable(name: str, version: Version) -> bool:
    """Whether that version has CVE-2025-49844, unless a distribution has patched it."""
    fixed = LUA_FIXED[name]
    same_series = [first for first in fixed if first[:2] == version[:2]]
    return version < (same_series[0] if same_series else fixed[-1])


def _version(info: Info) -> Iterator[Finding]:
    name, version = product(info)
    words = f"{name} {'.'.join(map(str, version))}"
    if version < FLOOR[name]:
        yield _problem(f"{words} is too old.", "Use Redis 7.0 or newer, or Valkey 7.2 or newer.")
    elif vulnerable(name, version):
        fixed = ", ".join(".".join(map(str, item)) for item in LUA_FIXED[name])
        yield _warning(
            f"{words} has CVE-2025-49844, unless your distribution patched it: who may run scripts can run any code on "
            "that machine.",
            f"Update it: fixed in {fixed} and later.",
        )
    else:
        yield Finding(Severity.NOTE, "server", f"The job store answers: {words}.")


def _memory(info: Info, config: Info) -> Iterator[Finding]:
    policy = str(info.get("maxmemory_policy") or config.get("maxmemory-policy") or "noeviction")
    if policy != "noeviction":
        yield _problem(
            f"maxmemory-policy is {policy}: under memory pressure the server deletes jobs without a word.",
            "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file; give caches a server of "
            "their own.",
        )
    if evicted := int(info.get("evicted_keys", 0)):
        yield _warning(
            f"The server has evicted {evicted} keys since it started: jobs may be among them.",
            "Compare with what should have run; a project that keeps rows for its jobs finds those without one.",
        )
    limit = int(info.get("maxmemory") or config.get("maxmemory") or 0)
    of_what = "maxmemory"
    if not limit:
        limit, of_what = int(info.get("total_system_memory", 0)), "the machine's memory"
    used = int(info.get("used_memory", 0))
    if limit and used >= NEARLY_FULL * limit:
        share = f"{100 * used / limit:.0f} % of {of_what} ({limit / 2**20:.0f} MiB)"
        text = f"The server uses {share}: when it is full, enqueue is refused."
        advice = "Give it more memory, start more workers, or purge: manage.py retrying purge CHANNEL --state dead."
        yield (_problem if used >= FULL * limit else _warning)(text, advice)


def _persistence(info: Info, config: Info | None) -> Iterator[Finding]:
    append = bool(info.get("aof_enabled"))
    if not append:
        if config is not None and not config.get("save"):
            yield _problem(
                "The server keeps nothing on disk (appendonly no, no snapshots): when it restarts, every job is gone.",
                "CONFIG SET appendonly yes, and the same in its configuration file.",
            )
        elif config is not None:
            yield _warning(
                f"The server only takes snapshots (save {config['save']}): a crash loses all jobs since the last one.",
                "CONFIG SET appendonly yes, and the same in its configuration file.",
            )
        else:
            yield _problem(
                "The server writes no append-only file: a crash loses all jobs, or all since the last snapshot.",
                "Turn appendonly on, or ask your provider for it.",
            )
    elif config is not None and config.get("appendfsync") == "no":
        yield _warning(
            "appendfsync is no: a power cut loses what the machine had not yet written, often half a minute.",
            "CONFIG SET appendfsync everysec, or always.",
        )
    elif config is not None and config.get("appendfsync") == "everysec":
        yield Finding(
            Severity.NOTE,
            "server",
            "appendfsync is everysec: a power cut (not a crash of the server) can take the last second.",
        )
    broken = [
        words
        for key, words in (
            ("aof_last_write_status", "writing the append-only file"),
            ("aof_last_bgrewrite_status", "rewriting the append-only file"),
            ("rdb_last_bgsave_status", "the last snapshot"),
        )
        if info.get(key, "ok") != "ok" and (append or not key.startswith("aof"))
    ]
    if broken:
        yield _problem(
            f"On its disk failed: {', '.join(broken)}.",
            "Look at its log: is the disk full, or not writable? Until then it may refuse every write (MISCONF).",
        )


def _replicas(info: Info, config: Info | None) -> Iterator[Finding]:
    replicas = int(info.get("connected_slaves", 0))
    # Without CONFIG: this line of INFO is there only when a minimum is set.
    minimum = int(config.get("min-replicas-to-write", 0)) if config is not None else "min_slaves_good_slaves" in info
    if replicas and not minimum:
        yield _warning(
            f"The server has {replicas} replica{'s' if replicas > 1 else ''} and min-replicas-to-write 0: cut off from "
            "them, it goes on taking jobs that a failover then throws away.",
            "CONFIG SET min-replicas-to-write 1 and min-replicas-max-lag 10.",
        )


def _clock(seconds: int, microseconds: int) -> Iterator[Finding]:
    ahead = time.time() - (seconds + microseconds / 1e6)
    if abs(ahead) > CLOCK_SECONDS:
        yield Finding(
            Severity.NOTE,
            "server",
            f"This machine's clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the server's. Due "
            "times and leases go by the server's: nothing breaks, but times in logs and pages don't agree.",
            "Keep both clocks by NTP.",
        )
