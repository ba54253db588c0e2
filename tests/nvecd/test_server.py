"""The line protocol over sockets: framing, pipelining, limits, access, draining."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import msgspec
import pytest

from recollect.compat.nvecd.config.settings import (
    NetworkSettings,
    PerformanceSettings,
    RateLimitSettings,
    SecuritySettings,
    UnixSocketSettings,
)
from recollect.errors import UnavailableError
from tests.nvecd.clients import connect, serve, served_settings


def test_commands_end_in_lf_or_crlf_and_may_come_in_any_packets(tmp_path: Path) -> None:
    with serve(served_settings(tmp_path / "s")) as (server, _), connect(server) as client:
        client.send(b"VECSET a 1 0\nVECSET b 0 1\r\n\r\n\nSIMV 1 1 ")
        assert client.lines(2) == ["OK VECSET", "OK VECSET"]
        client.send(b"0\r")
        client.send(b"\n")
        assert client.lines(2) == ["OK RESULTS 1", "a 1.0000"]


@pytest.mark.parametrize("is_durable", [False, True])
def test_a_pipeline_is_answered_in_order(tmp_path: Path, *, is_durable: bool) -> None:
    commands, wanted = [], []
    for number in range(2000):
        commands.append(f"EVENT c{number % 7} ADD i{number} {number % 101}")
        wanted.append("OK EVENT")
        if number % 10 == 0:
            commands.append("VECDEL nobody")
            wanted.append("ERROR Vector not found: nobody")
        if number % 13 == 0:
            commands.append("GET cache.enabled")
            wanted += ["$4", "true"]
        if number % 100 == 0:
            commands.append("DUMP VERIFY nothing")
            wanted.append("ERROR Snapshot verification failed")
    with serve(served_settings(tmp_path / "s"), is_durable=is_durable) as (server, face):
        with connect(server) as client:
            sender = threading.Thread(target=client.send, args=(("\n".join(commands) + "\n").encode(),))
            sender.start()
            found = client.lines(len(wanted))
            sender.join()
        assert face.database.events.counts.event_count == 2000
    assert [line[: len(want)] for line, want in zip(found, wanted, strict=True)] == wanted


def test_a_line_that_is_too_long_is_refused_and_ends_the_connection(tmp_path: Path) -> None:
    settings = served_settings(tmp_path / "s", performance=PerformanceSettings(max_query_length=1024))
    with serve(settings) as (server, _):
        with connect(server) as client:
            client.send(b"INFO " + b"x" * 2000)
            assert client.line() == "ERROR Request too large"
            assert client.is_closed()
        with connect(server) as client:
            client.send(b"GET cache.enabled\n" + b"x" * 1025 + b"\n")
            assert "ERROR Request too large" in {client.line() for _ in range(3)}
        with connect(server) as client:
            assert client.ask("EVENT c ADD " + "x" * 1008 + " 1") == "OK EVENT"


def test_no_more_connections_than_allowed_are_taken(tmp_path: Path) -> None:
    settings = served_settings(tmp_path / "s", performance=PerformanceSettings(max_connections=2))
    with serve(settings) as (server, _), connect(server) as first, connect(server) as second:
        assert first.ask("DEBUG ON") == second.ask("DEBUG ON") == "OK DEBUG_ON"
        with connect(server) as third:
            assert third.is_closed()


def test_no_more_connections_of_one_address_than_allowed_are_taken(tmp_path: Path) -> None:
    settings = served_settings(tmp_path / "s", performance=PerformanceSettings(max_connections_per_ip=1))
    with serve(settings) as (server, _), connect(server) as first:
        assert first.ask("DEBUG ON") == "OK DEBUG_ON"
        with connect(server) as second:
            assert second.is_closed()
        first.send(b"DEBUG OFF\n")
        assert first.line() == "OK DEBUG_OFF"


@pytest.mark.parametrize("networks", [[], ["10.0.0.0/8"]])
def test_clients_from_other_networks_are_hung_up_on(tmp_path: Path, networks: list[str]) -> None:
    settings = served_settings(tmp_path / "s", network=NetworkSettings(allow_cidrs=networks))
    with serve(settings) as (server, _), connect(server) as client:
        assert client.is_closed()


def test_writes_and_administration_need_the_password(tmp_path: Path) -> None:
    settings = served_settings(tmp_path / "s", security=SecuritySettings(requirepass="open sesame"))
    refused = "ERROR NOAUTH Authentication required"
    with serve(settings) as (server, _), connect(server) as client:
        for command in (
            "EVENT c ADD i 1",
            "VECSET a 1",
            "DUMP STATUS",
            "CONFIG VERIFY x",
            "CACHE CLEAR",
            "SET a b",
        ):
            assert client.ask(command) == refused
        assert client.ask("SIM a 3 using=events") == "OK RESULTS 0"
        assert client.ask("GET security.requirepass") == "$3"
        assert client.line() == "***"
        assert client.ask("AUTH open") == "ERROR ERR invalid password"
        assert client.ask("auth open sesame") == "+OK"
        assert client.ask("VECSET a 1") == "OK VECSET"
    with serve(settings) as (server, _), connect(server) as client:
        assert client.ask("VECSET a 1") == refused


def test_requests_beyond_the_rate_are_refused(tmp_path: Path) -> None:
    settings = served_settings(tmp_path / "s")
    limits = RateLimitSettings(enable=True, capacity=3, refill_rate=1)
    settings = msgspec.structs.replace(
        settings, api=msgspec.structs.replace(settings.api, rate_limiting=limits)
    )
    with serve(settings) as (server, _), connect(server) as client:
        client.send(b"DEBUG ON\n" * 5)
        assert client.lines(5) == ["OK DEBUG_ON"] * 3 + ["ERROR Rate limit exceeded"] * 2


def test_the_unix_socket_speaks_the_same_protocol_to_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "nvecd.sock"
    settings = served_settings(tmp_path / "s", network=NetworkSettings(allow_cidrs=[]))
    socket_settings = UnixSocketSettings(path=str(path))
    settings = msgspec.structs.replace(
        settings, api=msgspec.structs.replace(settings.api, unix_socket=socket_settings)
    )
    with serve(settings):
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(path))
            client.sendall(b"VECSET a 1 2\r\n")
            assert client.recv(100) == b"OK VECSET\r\n"
    assert not path.exists()


def test_a_taken_port_is_reported(tmp_path: Path) -> None:
    with serve(served_settings(tmp_path / "s")) as (server, _):
        settings = served_settings(tmp_path / "t")
        tcp = msgspec.structs.replace(settings.api.tcp, port=server.port)
        settings = msgspec.structs.replace(settings, api=msgspec.structs.replace(settings.api, tcp=tcp))
        with (
            pytest.raises(UnavailableError, match=f"cannot listen on 127.0.0.1:{server.port}"),
            serve(settings),
        ):
            pass


def test_stopping_answers_what_was_asked_and_takes_no_more(tmp_path: Path) -> None:
    with serve(served_settings(tmp_path / "s"), is_durable=True) as (server, _), connect(server) as client:
        client.send(b"EVENT c ADD i 1\n" * 500)
        assert client.line() == "OK EVENT"
        server.stop()
        rest = []
        while line := client.line():
            rest.append(line)
        assert set(rest) == {"OK EVENT"}
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", server.port), timeout=2)


def test_a_thousand_connections_are_served(tmp_path: Path) -> None:
    performance = PerformanceSettings(max_connections=1000, max_connections_per_ip=0)
    with serve(served_settings(tmp_path / "s", performance=performance)) as (server, face):
        clients = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(1000)]
        try:
            for number, client in enumerate(clients):
                client.sendall(f"EVENT c{number} ADD i{number} 5\n".encode())
            assert all(client.recv(100) == b"OK EVENT\r\n" for client in clients)
            assert face.statistics.active_count == 1000
        finally:
            for client in clients:
                client.close()
