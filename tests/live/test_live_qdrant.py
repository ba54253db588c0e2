"""What the test server shows, asked of a real one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from recollect.clock import SystemClock
from recollect.compat.arcaneum import dump, load
from recollect.compat.codeweaver import QdrantSnapshotBackupService
from recollect.engines.base import Source, Target
from recollect.engines.qdrant.snapshots import QdrantSnapshots
from recollect.engines.qdrant.source import QdrantSource
from recollect.engines.qdrant.target import QdrantTarget
from recollect.testing.engine_contract import EngineContract
from recollect.testing.engine_harness import EngineFeatures
from recollect.values.ulid import new_ulid
from tests.live.conftest import LiveServer

CLOCK = SystemClock()
RANDOM = Random(1)


class LiveHarness:
    """The server under test."""

    name = "docs"
    features = EngineFeatures()

    def __init__(self, server: LiveServer) -> None:
        self._server = server

    def open_source(self) -> Source:
        return QdrantSource(self._server.url, secrets=self._server.secret, clock=CLOCK)

    def open_target(self) -> Target:
        def new_id() -> str:
            return new_ulid(CLOCK.now(), RANDOM.randbytes)

        return QdrantTarget(self._server.url, secrets=self._server.secret, clock=CLOCK, new_id=new_id)


class TestLiveQdrant(EngineContract):
    """Everything that every engine must do."""

    @pytest.fixture
    def harness(self, live: LiveServer) -> LiveHarness:
        return LiveHarness(live)


@pytest.fixture
def client(live: LiveServer) -> QdrantClient:
    stock = QdrantClient(url=live.rest_url, api_key=live.api_key or None, timeout=60)
    stock.create_collection("docs", models.VectorParams(size=4, distance=models.Distance.DOT))
    points = [models.PointStruct(id=n, vector=[1.0, 2.0, 3.0, float(n)]) for n in range(500)]
    stock.upsert("docs", points, wait=True)
    return stock


def count(client: QdrantClient) -> int:
    return client.count("docs", exact=True).count


def test_a_dump_loads_again(live: LiveServer, client: QdrantClient, tmp_path: Path) -> None:
    server = QdrantSnapshots(live.rest_url, secrets=live.secret, clock=CLOCK, api_key=live.api_key)
    made = dump.run(server, options=dump.DumpOptions(directory=tmp_path), clock=CLOCK)
    client.delete("docs", list(range(100)), wait=True)

    options = load.LoadOptions()
    plan = load.plan(made.path, server, options=options)
    report = load.apply(plan, server, options=options, clock=CLOCK)
    server.close()

    assert report.is_complete
    assert count(client) == 500
    assert client.list_snapshots("docs") == []
    client.close()


def test_the_snapshot_service_makes_and_restores(
    live: LiveServer, client: QdrantClient, tmp_path: Path
) -> None:
    async def steps() -> None:
        asynchronous = AsyncQdrantClient(url=live.rest_url, api_key=live.api_key or None, timeout=60)
        store = SimpleNamespace(client=asynchronous, collection_name="docs")
        service = QdrantSnapshotBackupService(store, tmp_path / "kept", retention_count=1)
        await service.create_snapshot()
        result = await service.snapshot_and_cleanup()
        assert result["cleanup_stats"] == {"total": 2, "kept": 1, "deleted": 1, "failed": 0}
        name = result["snapshot_name"]
        assert name is not None
        client.delete("docs", list(range(100)), wait=True)
        assert await service.restore_snapshot(name)
        assert await service.list_stored() == [name]
        assert await service.delete_snapshot(name)
        await asynchronous.close()

    asyncio.run(steps())

    assert count(client) == 500
    client.close()
