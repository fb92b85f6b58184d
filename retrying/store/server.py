"""Where jobs live, as a project writes it: one server, a set behind Sentinel, or a cluster. Checked in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from redis.connection import parse_url

#: What any description may hold beside the servers' addresses; redis-py's names and units (seconds).
OPTIONS = frozenset({
    "username", "password", "credential_provider", "db", "client_name", "lib_name", "lib_version", "protocol",
    "health_check_interval", "max_connections", "timeout", "socket_timeout", "socket_connect_timeout",
    "socket_keepalive", "socket_keepalive_options", "socket_read_size", "ssl", "ssl_ca_certs", "ssl_ca_data",
    "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_check_hostname",
    "ssl_ciphers", "ssl_min_version",
})  # fmt: skip
#: Of a description shared with a channel layer: the store repeats requests itself, reads bytes, has a sync client too.
LEFT_OUT = frozenset({
    "connection_class", "parser_class", "encoder_class", "decode_responses", "encoding", "encoding_errors",
    "retry", "retry_on_error", "retry_on_timeout", "queue_class",
})  # fmt: skip
#: What redis-py's cluster clients don't take.
NOT_IN_CLUSTER = frozenset({"db", "ssl_ca_path", "ssl_password"})
SCHEMES = ("redis://", "rediss://", "unix://")

Node = tuple[str, int]


class Kind(Enum):
    ONE = "one server"
    SENTINEL = "Sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Server:
    """A description that was understood. ``address``: URL of one server, or "" when ``options`` say host or path.

    ``nodes``: the Sentinels, or the nodes to ask first about the cluster.
    """

    kind: Kind
    options: Mapping[str, Any]
    address: str = ""
    nodes: tuple[Node, ...] = ()
    master_name: str = ""
    sentinel_options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Server:
        """Read a description; see docs/stores.md. Raises ValueError, which says what was expected."""
        keys = description.keys()
        if "cluster" in keys:
            nodes, found = _nodes(description["cluster"], "cluster")
            options = {**found, **_options(description, {"cluster"})}
            if not options.get("db"):
                options.pop("db", None)
            if refused := sorted(NOT_IN_CLUSTER & options.keys()):
                raise ValueError(
                    f"a store in a cluster can't have {', '.join(refused)}: there is database 0 only, and "
                    "redis-py takes no password of a key file there"
                )
            return cls(Kind.CLUSTER, options, nodes=nodes)
        if "master_name" in keys or "sentinels" in keys:
            name = description.get("master_name")
            if not isinstance(name, str) or not name:
                raise ValueError(f"a store behind Sentinel needs master_name, the name in sentinel.conf; got {name!r}")
            nodes, found = _nodes(description.get("sentinels"), "sentinels")
            of_sentinels = description.get("sentinel_kwargs") or {}
            if not isinstance(of_sentinels, Mapping):
                raise ValueError(f"sentinel_kwargs must be a dict, got {type(of_sentinels).__name__}")
            return cls(
                Kind.SENTINEL,
                _options(description, {"master_name", "sentinels", "sentinel_kwargs"}),
                nodes=nodes,
                master_name=name,
                sentinel_options={**found, **_options(of_sentinels, set())},
            )
        if "address" in keys:
            address = description["address"]
            if not isinstance(address, str) or not address.startswith(SCHEMES):
                raise ValueError(f"a store's address begins with {', '.join(SCHEMES)}; got {_masked(address)}")
            _parse(address)
            if description.get("ssl"):
                raise ValueError("a store with TLS has an address that begins with rediss://; it needs no ssl then")
            options = _options(description, {"address"})
            options.pop("ssl", None)
            return cls(Kind.ONE, options, address=address)
        if "host" in keys or "path" in keys:
            return cls(Kind.ONE, _options(description, {"host", "port", "path"}))
        raise ValueError(
            'a store is described by "address" (a URL), by "host" and "port", by "master_name" and "sentinels", '
            f'or by "cluster" (a list of nodes); got {", ".join(map(repr, keys)) or "nothing"}'
        )


def _options(given: Mapping[str, Any], own: set[str]) -> dict[str, Any]:
    if unknown := sorted(given.keys() - own - OPTIONS - LEFT_OUT):
        raise ValueError(
            f"a store has no option {', '.join(map(repr, unknown))}; it takes {', '.join(sorted(own | OPTIONS))}"
        )
    own -= {"cluster", "master_name", "sentinels", "sentinel_kwargs", "address"}
    return {name: value for name, value in given.items() if name in own or name in OPTIONS}


def _nodes(given: object, what: str) -> tuple[tuple[Node, ...], dict[str, Any]]:
    """Nodes, and the options that the URLs among them carry (the last one's win)."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence) or not given:
        raise ValueError(f'"{what}" must be a list of nodes, each a URL or (host, port); got {_masked(given)}')
    nodes: list[Node] = []
    options: dict[str, Any] = {}
    for entry in given:
        if isinstance(entry, str) and entry.startswith(("redis://", "rediss://")):
            found = _parse(entry)
            nodes.append((found.pop("host", "localhost"), found.pop("port", 6379)))
            options |= _options(found, set())
            if entry.startswith("rediss://"):
                options["ssl"] = True
        elif isinstance(entry, (tuple, list)) and len(entry) == 2 and isinstance(entry[0], str):
            try:
                nodes.append((entry[0], int(entry[1])))
            except (TypeError, ValueError):
                raise ValueError(f'a port in "{what}" must be a number, got {entry[1]!r}') from None
        else:
            raise ValueError(f'a node in "{what}" is a URL or (host, port), got {_masked(entry)}')
    return tuple(nodes), options


def _parse(url: str) -> dict[str, Any]:
    try:
        return dict(parse_url(url))
    except ValueError as error:
        raise ValueError(f"{_masked(url)} is not an address of a store: {error}") from None


def _masked(value: object) -> str:
    """For an error's text: a URL may hold a password."""
    if isinstance(value, str) and "@" in value:
        return repr("…@" + value.rpartition("@")[2])
    return repr(value)
