"""The HTTP API over sockets."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from recollect.clock import ManualClock
from recollect.compat.nvecd.config.settings import (
    HttpSettings,
    NetworkSettings,
    NvecdSettings,
    PerformanceSettings,
    RateLimitSettings,
    SecuritySettings,
)
from recollect.compat.nvecd.face import Face
from recollect.compat.nvecd.http.server import Arriving, HttpServer
from tests.nvecd.clients import served_settings
from tests.nvecd.faces import open_face


def http_settings(directory: Path, **changes: Any) -> NvecdSettings:
    settings = served_settings(directory, **{key: value for key, value in changes.items() if key != "http"})
    web = changes.get("http", HttpSettings(enable=True, port=0))
    return msgspec.structs.replace(settings, api=msgspec.structs.replace(settings.api, http=web))


@contextlib.contextmanager
def serve(settings: NvecdSettings) -> Iterator[tuple[HttpServer, Face]]:
    with open_face(settings) as face:
        server = HttpServer(face, print)
        server.start()
        try:
            yield server, face
        finally:
            server.stop()


def ask(
    server: HttpServer, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection.request(method, path, data, headers or {})
        response = connection.getresponse()
        text = response.read()
        is_json = response.headers.get("Content-Type") == "application/json"
        return response.status, json.loads(text) if is_json else text.decode()
    finally:
        connection.close()


def test_writes_and_searches(tmp_path: Path) -> None:
    with serve(http_settings(tmp_path / "s")) as (server, _):
        ok = (200, {"status": "ok"})
        assert ask(server, "POST", "/vecset", {"id": "a", "vector": [1, 0, 0]}) == (
            200,
            {"status": "ok", "dimension": 3},
        )
        metadata = {"kind": "x", "n": 5}
        assert (
            ask(server, "POST", "/vecset", {"id": "b", "vector": [0.9, 0.1, 0], "metadata": metadata})[0]
            == 200
        )
        assert ask(server, "POST", "/event", {"ctx": "c", "id": "a", "type": "ADD", "score": 10}) == ok
        assert ask(server, "POST", "/event", {"ctx": "c", "id": "b", "type": "set", "score": 10}) == ok
        found = ask(server, "POST", "/sim", {"id": "a", "mode": "vectors", "filter": "n>4"})[1]
        assert found == {
            "status": "ok",
            "count": 1,
            "mode": "vectors",
            "results": [{"id": "b", "score": 0.9939}],
        }
        near = ask(server, "POST", "/simv", {"vector": [1, 0, 0], "top_k": 1})[1]
        assert near == {"status": "ok", "count": 1, "dimension": 3, "results": [{"id": "a", "score": 1.0}]}
        assert ask(server, "POST", "/metaset", {"id": "a", "metadata": {"n": 1}}) == ok
        assert ask(server, "DELETE", "/vecset", {"id": "a"}) == ok
        assert ask(server, "DELETE", "/vecset", {"id": "a"}) == (404, {"error": "Vector not found: a"})


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/event", b"{", "Invalid JSON body"),
        ("/event", {}, "Missing required fields: ctx, id, type"),
        ("/event", {"ctx": 1, "id": "a", "type": "ADD"}, "Fields ctx, id, type must be strings"),
        ("/event", {"ctx": "c", "id": "a", "type": "ADD"}, "ADD type requires 'score' field"),
        ("/event", {"ctx": "c", "id": "a", "type": "ADD", "score": 1.5}, "Field 'score' must be an integer"),
        (
            "/event",
            {"ctx": "c", "id": "a", "type": "ADD", "score": 101},
            "Score must be in range [0, 100], got 101",
        ),
        (
            "/event",
            {"ctx": "c", "id": "a b", "type": "DEL"},
            "ID must not contain whitespace or control characters",
        ),
        ("/vecset", {"id": "a"}, "Missing required fields: id, vector"),
        ("/vecset", {"id": "a", "vector": [1, "x"]}, "Field 'vector' must contain only finite numbers"),
        ("/vecset", {"id": "a", "vector": [1e39]}, "Field 'vector' component exceeds the finite float range"),
        ("/metaset", {"id": "a", "metadata": []}, "Field 'metadata' must be an object"),
        ("/sim", {}, "Missing required field: id"),
        ("/sim", {"id": "a", "mode": "x"}, "Invalid mode. Must be one of: events, vectors, fusion"),
        ("/simv", {"vector": [0, 0]}, "Query vector norm must be finite and non-zero"),
        ("/dump/load", {}, "Missing required field: filepath"),
        ("/dump/save", {"filepath": "../x"}, "Invalid filepath: path traversal detected"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, path: str, body: Any, message: str) -> None:
    with serve(http_settings(tmp_path / "s")) as (server, _):
        assert ask(server, "POST", path, body) == (400, {"error": message})


def test_dumps(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    with serve(http_settings(directory)) as (server, _):
        ask(server, "POST", "/vecset", {"id": "a", "vector": [1, 0]})
        path = f"{directory}/x.nvec"
        assert ask(server, "GET", "/dump/status") == (200, {"status": "ok", "data": "IDLE"})
        assert ask(server, "POST", "/dump/save", {"filepath": "x.nvec"}) == (
            200,
            {"status": "ok", "filepath": path},
        )
        assert ask(server, "POST", "/dump/verify", {"filepath": "x.nvec"})[1]["valid"] is True
        info = ask(server, "POST", "/dump/info", {"filepath": "x.nvec"})[1]["info"]
        assert (info["version"], info["flags"], info["has_statistics"]) == ("1", "16", "false")
        assert ask(server, "POST", "/dump/load", {"filepath": "x.nvec"}) == (
            200,
            {"status": "ok", "filepath": path},
        )
        status, body = ask(server, "POST", "/dump/verify", {"filepath": "none"})
        assert (status, body["valid"]) == (500, False)
        assert ask(server, "POST", "/dump/load", {"filepath": "none"})[0] == 500


def test_looking_around(tmp_path: Path) -> None:
    with serve(http_settings(tmp_path / "s")) as (server, face):
        assert ask(server, "GET", "/health")[1]["status"] == "ok"
        assert ask(server, "GET", "/health/live")[1]["status"] == "alive"
        assert ask(server, "GET", "/health/detail")[1]["components"]["vector_store"]["vectors"] == 0
        assert ask(server, "GET", "/info?x=1")[1]["stores"]["event_store"] == {
            "contexts": 0,
            "total_events": 0,
        }
        assert ask(server, "GET", "/config")[1]["network"]["allow_cidrs_configured"] is True
        assert "nvecd_vectors_total 0" in ask(server, "GET", "/metrics")[1]
        assert ask(server, "GET", "/cache/stats")[1]["enabled"] is True
        assert ask(server, "POST", "/cache/disable")[1]["message"] == "Cache disabled"
        assert not face.cache.is_enabled
        assert ask(server, "POST", "/cache/clear")[1]["entries_removed"] == 0
        assert ask(server, "POST", "/debug/on")[0] == 410
        assert ask(server, "GET", "/nothing")[0] == 404
        with face.gate.loading():
            assert ask(server, "GET", "/health/ready")[0] == 503
            assert ask(server, "POST", "/sim", {"id": "a"})[0] == 503
        assert ask(server, "GET", "/health/ready")[0] == 200


def test_writes_need_the_password(tmp_path: Path) -> None:
    settings = http_settings(tmp_path / "s", security=SecuritySettings(requirepass="s3:cret"))
    basic = base64.b64encode(b"user:s3:cret").decode()
    with serve(settings) as (server, _):
        body = {"id": "a", "vector": [1]}
        for headers in ({}, {"Authorization": "Bearer no"}, {"Authorization": "Basic %%"}):
            assert ask(server, "POST", "/vecset", body, headers) == (
                401,
                {"error": "Authentication required"},
            )
        assert ask(server, "POST", "/vecset", body, {"Authorization": "Bearer s3:cret"})[0] == 200
        assert ask(server, "POST", "/vecset", body, {"Authorization": f"Basic {basic}"})[0] == 200
        assert ask(server, "GET", "/dump/status")[0] == 401
        assert ask(server, "POST", "/simv", {"vector": [1]})[0] == 200


def test_limits(tmp_path: Path) -> None:
    with serve(http_settings(tmp_path / "a", performance=PerformanceSettings(max_query_length=1024))) as (
        server,
        _,
    ):
        assert ask(server, "POST", "/sim", b"x" * 1025)[0] == 413
    with (
        serve(http_settings(tmp_path / "b", network=NetworkSettings(allow_cidrs=["10.0.0.0/8"]))) as (
            server,
            _,
        ),
        pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)),
    ):
        ask(server, "GET", "/health")
    settings = http_settings(tmp_path / "c")
    limits = RateLimitSettings(enable=True, capacity=1, refill_rate=1)
    settings = msgspec.structs.replace(
        settings, api=msgspec.structs.replace(settings.api, rate_limiting=limits)
    )
    with serve(settings) as (server, _):
        assert [ask(server, "GET", "/health")[0] for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("request_line", ["PUT /info HTTP/1.1", "GET /info HTTP/9.9", "nonsense"])
def test_what_is_no_request_is_refused_as_everything_else_is(tmp_path: Path, request_line: str) -> None:
    with (
        serve(http_settings(tmp_path / "s")) as (server, _),
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection,
    ):
        connection.sendall(request_line.encode() + b"\r\n\r\n")
        answer = b""
        while part := connection.recv(4096):
            answer += part
    assert set(json.loads(answer.split(b"\r\n\r\n")[-1])) == {"error"}


def test_a_body_nested_without_end_is_refused(tmp_path: Path) -> None:
    with serve(http_settings(tmp_path / "s")) as (server, _):
        assert ask(server, "POST", "/vecset", b"[" * 100_000) == (400, {"error": "Invalid JSON body"})
        assert ask(server, "GET", "/health")[0] == 200


def test_a_content_length_of_many_digits_is_too_large(tmp_path: Path) -> None:
    with serve(http_settings(tmp_path / "s")) as (server, _):
        status, answer = ask(server, "POST", "/sim", None, {"Content-Length": "9" * 5000})
        assert (status, answer) == (413, {"error": "Request too large"})


def test_a_request_has_its_time_however_often_something_of_it_arrives() -> None:
    clock = ManualClock()
    client, server = socket.socketpair()
    with client, server:
        arriving = Arriving(server, clock, 5)
        for _ in range(4):
            client.send(b"x")
            assert arriving.read(100) == b"x"
            clock.advance(1)
        arriving.begin()
        client.send(b"y")
        clock.advance(4)
        assert arriving.read(100) == b"y"
        client.send(b"z")
        clock.advance(1)
        with pytest.raises(TimeoutError):
            arriving.read(100)


def test_browsers_are_answered_if_that_is_set(tmp_path: Path) -> None:
    web = HttpSettings(enable=True, port=0, enable_cors=True, cors_allow_origin="https://example.org")
    with serve(http_settings(tmp_path / "s", http=web)) as (server, _):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("OPTIONS", "/sim")
        response = connection.getresponse()
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "https://example.org"
        connection.close()
