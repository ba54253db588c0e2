"""Fixtures: a test server, and the stock client on either protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from recollect.testing.qdrant_server import QdrantServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[QdrantServer]:
    with QdrantServer(tmp_path / "server") as running:
        yield running


def connect(
    server: QdrantServer, *, grpc: bool = False, api_key: str | None = None, timeout: int = 20
) -> QdrantClient:
    return QdrantClient(
        url=server.rest_url,
        grpc_port=server.grpc_port,
        prefer_grpc=grpc,
        api_key=api_key,
        timeout=timeout,
        check_compatibility=False,  # it asks in a thread of its own, which outlives the test
    )


@pytest.fixture(params=["rest", "grpc"])
def client(server: QdrantServer, request: pytest.FixtureRequest) -> Iterator[QdrantClient]:
    """The stock client, once on each protocol."""
    stock = connect(server, grpc=request.param == "grpc")
    yield stock
    stock.close()
