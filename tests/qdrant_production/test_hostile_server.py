"""A server that answers nonsense: every answer of another shape is an error that names the server."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import zstandard

from recollect.engines.qdrant import connection as connection_module
from recollect.errors import IntegrityError, RecollectError, UnavailableError
from recollect.operations.files import read_piece
from recollect.testing.qdrant_server import QdrantServer
from recollect.values.snapshot import PieceRef
from tests.qdrant_production.capturing import Bench
from tests.qdrant_production.conftest import make, write

PARAMS = {"vectors": {"size": 4, "distance": "Dot"}, "shard_number": 1}
CONFIG = {"params": PARAMS, "optimizer_config": {}}
INFO = {"status": "green", "points_count": 0, "config": CONFIG, "payload_schema": {}}
SHARD = {"shard_id": 0, "state": "Active"}
SOUND: dict[str, Any] = {
    "/": {"version": "1.19.0"},
    "/collections": {"collections": [{"name": "docs"}]},
    "/aliases": {"aliases": []},
    "/cluster": {"status": "disabled"},
    "/collections/docs": INFO,
    "/collections/docs/cluster": {"peer_id": 1, "local_shards": [SHARD], "remote_shards": []},
}


class Liar(ThreadingHTTPServer):
    """Answers by path: JSON, or bytes as they are."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = dict(SOUND)
        self.encoding = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}?grpc=1"


class _Handler(BaseHTTPRequestHandler):
    server: Liar

    def handle_one_request(self) -> None:
        """Answer whatever was asked."""
        self.raw_requestline = self.rfile.readline()
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        self.rfile.read(int(self.headers.get("content-length", 0)))
        answer = self.server.answers.get(self.path.partition("?")[0])
        if answer is None:
            self.send_error(404)
            return
        if self.path != "/" and not isinstance(answer, bytes):
            answer = {"result": answer, "status": "ok"}
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        if self.server.encoding:
            self.send_header("content-encoding", self.server.encoding)
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""

    def log_error(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def liar() -> Iterator[Liar]:
    with Liar() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def info(**changes: Any) -> dict[str, Any]:
    return {**INFO, **changes}


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/", b"[" * 100_000),
        ("/collections", None),
        ("/collections", b"\xff\xfe"),
        ("/cluster", []),
        ("/cluster", "enabled"),
        ("/cluster", {"status": "enabled"}),
        ("/cluster", {"status": "enabled", "peer_id": "x", "peers": {}}),
        ("/cluster", {"status": "enabled", "peer_id": 1, "peers": [1]}),
        ("/cluster", {"status": "enabled", "peer_id": 1, "peers": {"x": {}}}),
        ("/cluster", {"status": "enabled", "peer_id": 1, "peers": {"2": "http://x"}}),
        ("/cluster", {"status": "enabled", "peer_id": 1, "peers": {"2": {"uri": "http://[::1"}}}),
        ("/collections/docs/cluster", []),
        ("/collections/docs/cluster", {"local_shards": 3}),
        ("/collections/docs/cluster", {"local_shards": [1]}),
        ("/collections/docs/cluster", {"local_shards": [{"shard_id": "x", "state": "Active"}]}),
        ("/collections/docs/cluster", {"local_shards": [{"shard_id": 0}]}),
        ("/collections/docs/cluster", {"local_shards": [{**SHARD, "shard_key": {"a": 1}}]}),
        ("/collections/docs", []),
        ("/collections/docs", info(config=None)),
        ("/collections/docs", info(config={"params": PARAMS})),
        ("/collections/docs", info(config={**CONFIG, "params": {"vectors": [1]}})),
        ("/collections/docs", info(config={**CONFIG, "params": {"vectors": {"a": 1}}})),
        ("/collections/docs", info(config={**CONFIG, "params": {"vectors": {"size": 4, "distance": "x"}}})),
        ("/collections/docs", info(config={**CONFIG, "params": {"sparse_vectors": {"a": 1}}})),
        ("/collections/docs", info(payload_schema={"field": {}})),
        ("/collections/docs", info(payload_schema=[1])),
        ("/collections/docs", info(status=None)),
        ("/collections/docs", info(points_count="many")),
    ],
)
def test_an_answer_of_another_shape_is_an_error_that_names_the_server(
    bench: Bench, liar: Liar, path: str, answer: object
) -> None:
    liar.answers[path] = answer

    with pytest.raises(RecollectError, match=r"127\.0\.0\.1"):
        bench.backup(liar.url + "&capture=snapshot")


def test_an_answer_that_unpacks_to_more_than_fits_is_not_unpacked(
    bench: Bench, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "ANSWER_BYTES_MAX", 1 << 20)
    liar.answers["/"], liar.encoding = gzip.compress(bytes(64 << 20)), "gzip"

    with pytest.raises(UnavailableError, match="larger than 1048576 bytes"):
        bench.backup(liar.url)


def test_an_answer_that_is_not_packed_as_it_says_is_an_error(bench: Bench, liar: Liar) -> None:
    liar.encoding = "gzip"

    with pytest.raises(UnavailableError, match="DecodingError"):
        bench.backup(liar.url)


def test_a_spool_disk_that_fills_up_does_not_end_the_process(
    bench: Bench, server: QdrantServer, rest: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine writes into mapped files: where there is no room, the system would end the process."""
    make(rest)
    write(rest, range(20))
    full = os.statvfs_result((4096, 4096, 1000, 5, 5, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)

    entry = bench.entry(server.url)

    assert (entry.consistency, entry.record_count) == ("fuzzy", 20)
    assert "20480 bytes are free" in bench.notes[0]


@pytest.mark.parametrize(
    ("content", "byte_size"),
    [
        (zstandard.compress(bytes(1 << 20)), 100),
        (zstandard.compress(b"abc"), 1 << 40),
        # A frame's header may claim what it likes: here 2**40 bytes, in a block of none.
        (bytes.fromhex("28b52ffde0") + (2**40).to_bytes(8, "little") + b"\x01\x00\x00", 1 << 40),
        (b"no frame", 8),
        (b"", 1),
    ],
)
def test_a_piece_that_claims_another_size_takes_no_memory(
    bench: Bench, content: bytes, byte_size: int
) -> None:
    stored = bench.repository.put_object(content).reference
    piece = PieceRef(0, byte_size, stored.digest, stored.byte_size)

    with pytest.raises(IntegrityError, match="object"):
        read_piece(bench.repository, piece)
