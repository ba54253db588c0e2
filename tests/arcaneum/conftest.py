"""Fixtures: a test server with two collections, its snapshot calls, and the stock client."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from qdrant_client import QdrantClient, models

from recollect.clock import ManualClock
from recollect.engines.qdrant.snapshots import QdrantSnapshots
from recollect.testing.qdrant_server import QdrantServer

NOW = datetime(2025, 12, 29, 14, 30, 22, tzinfo=UTC)


@pytest.fixture
def qdrant(tmp_path: Path) -> Iterator[QdrantServer]:
    with QdrantServer(tmp_path / "server") as running:
        yield running


@pytest.fixture
def client(qdrant: QdrantServer) -> Iterator[QdrantClient]:
    stock = QdrantClient(url=qdrant.rest_url, check_compatibility=False)
    for name, count in (("pearldiver", 30), ("my code", 5)):
        stock.create_collection(name, models.VectorParams(size=4, distance=models.Distance.DOT))
        points = [models.PointStruct(id=n, vector=[1.0, 2.0, 3.0, n], payload={"n": n}) for n in range(count)]
        stock.upsert(name, points)
    yield stock
    stock.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


def no_secret(name: str) -> str | None:
    raise AssertionError(f"asked for the secret {name}")


@pytest.fixture
def server(qdrant: QdrantServer, client: QdrantClient, clock: ManualClock) -> Iterator[QdrantSnapshots]:
    assert client is not None
    opened = QdrantSnapshots(qdrant.rest_url, secrets=no_secret, clock=clock, idle_s=0.3)
    yield opened
    opened.close()


def count(client: QdrantClient, name: str) -> int:
    return client.count(name, exact=True).count


@pytest.fixture
def docker(qdrant: QdrantServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` that knows one container, `my-qdrant`, whose snapshots are the test server's.

    Returns the file in which it writes down its calls.
    """
    calls, bin_directory = tmp_path / "docker-calls", tmp_path / "bin"
    snapshots = tmp_path / "server" / "snapshots"
    snapshots.mkdir(exist_ok=True)
    bin_directory.mkdir()
    program = bin_directory / "docker"
    program.write_text(
        f"""#!/bin/sh
echo "$*" >> "{calls}"
case "$1" in
  inspect) test "$4" = my-qdrant ;;
  cp) cp "$(echo "$2" | sed 's|^my-qdrant:/qdrant/snapshots|{snapshots}|')" \\
         "$(echo "$3" | sed 's|^my-qdrant:/qdrant/snapshots|{snapshots}|')" ;;
  exec) rm -f "$(echo "$5" | sed 's|^/qdrant/snapshots|{snapshots}|')" ;;
esac
""",
        encoding="utf-8",
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_directory}:/usr/bin:/bin")
    assert qdrant is not None
    return calls
