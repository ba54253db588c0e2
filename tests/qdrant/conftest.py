"""Fixtures: a test server, and the stock client on either protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from qdrant_client import QdrantClient

from recollect.clock import ManualClock
from recollect.engines.qdrant.source import QdrantSource
from recollect.engines.qdrant.target import QdrantTarget
from recollect.testing.qdrant_server import QdrantServer
from recollect.values.ulid import new_ulid


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


def no_secret(name: str) -> str | None:
    raise AssertionError(f"asked for the secret {name}")


def numbered_ids() -> Callable[[], str]:
    """Return a source of ULIDs that are the same in every run."""
    random = Random(1)
    clock = ManualClock()

    def new_id() -> str:
        clock.advance(1)
        return new_ulid(clock.now(), random.randbytes)

    return new_id


NEW_ID = numbered_ids()


def open_source(server: QdrantServer, extra: str = "", **options: Any) -> QdrantSource:
    return QdrantSource(server.url + extra, secrets=no_secret, clock=ManualClock(), **options)


def open_target(server: QdrantServer, extra: str = "") -> QdrantTarget:
    return QdrantTarget(server.url + extra, secrets=no_secret, clock=ManualClock(), new_id=NEW_ID)
