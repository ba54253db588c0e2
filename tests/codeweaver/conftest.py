"""Fixtures: a test server with a collection, and a vector store around each kind of Qdrant client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from recollect.clock import ManualClock
from recollect.testing.qdrant_server import QdrantServer

COLLECTION = "code"


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's own state directory out of it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def qdrant(tmp_path: Path) -> Iterator[QdrantServer]:
    with QdrantServer(tmp_path / "server") as running:
        yield running


@pytest.fixture
def direct(qdrant: QdrantServer) -> Iterator[QdrantClient]:
    """A client for the test itself."""
    client = QdrantClient(url=qdrant.rest_url, check_compatibility=False)
    fill(client, range(20))
    yield client
    client.close()


def fill(client: QdrantClient, numbers: range, name: str = COLLECTION) -> None:
    if not client.collection_exists(name):
        client.create_collection(name, models.VectorParams(size=4, distance=models.Distance.DOT))
    client.upsert(name, [point(n) for n in numbers])


def point(number: int, version: int = 0) -> models.PointStruct:
    return models.PointStruct(
        id=number, vector=[1.0, 0.1, float(version), float(number)], payload={"n": number, "version": version}
    )


def open_client(server: QdrantServer, kind: str) -> QdrantClient | AsyncQdrantClient:
    """Open a client: "sync" or "async", with "-grpc" to prefer that protocol."""
    factory = AsyncQdrantClient if kind.startswith("async") else QdrantClient
    return factory(
        url=server.rest_url,
        grpc_port=server.grpc_port,
        prefer_grpc=kind.endswith("grpc"),
        check_compatibility=False,
    )


def store_of(client: Any, collection: str = COLLECTION) -> Any:
    """Return the least that a vector store is: a client and a collection's name."""
    return SimpleNamespace(client=client, collection_name=collection)


async def close(client: QdrantClient | AsyncQdrantClient) -> None:
    if isinstance(client, AsyncQdrantClient):
        await client.close()
    else:
        client.close()


def held(client: QdrantClient, name: str = COLLECTION) -> dict[Any, Any]:
    """Return all versions by id."""
    records = client.scroll(name, limit=10_000)[0]
    return {record.id: (record.payload or {}).get("version") for record in records}


def run(work: Any) -> Any:
    return asyncio.run(work)
