"""Records of a megabyte: how many are in memory at once follows from their size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recollect.clock import ManualClock
from recollect.engines.edge import scan as edge_scan
from recollect.engines.edge import write as edge_write
from recollect.engines.edge.binding import edge_library
from recollect.engines.edge.scan import scan_shard
from recollect.engines.edge.shard import opened
from recollect.engines.edge.source import EdgeSource, EdgeView
from recollect.engines.edge.target import EdgeTarget
from recollect.operations import backup, incremental, restore
from recollect.operations.backup import BackupOptions
from recollect.operations.restore import RestoreOptions
from recollect.repository.repository import create_repository
from recollect.storage.memory import MemoryStore
from recollect.testing.driver import seeded_bytes
from recollect.testing.records import Row, build_records
from recollect.values.schema import CollectionSchema, VectorSpec
from recollect.values.ulid import new_ulid

SCHEMA = CollectionSchema(vectors=(VectorSpec(name="", dimension=2, metric="dot"),))
RECORD_COUNT = 300
PAYLOAD_BYTES = 20_000
LIMIT_BYTES = 20 * PAYLOAD_BYTES
"""What the tests let a page have; nothing that is in memory at once may be much larger, but a first page."""


class Watched:
    """A real shard; writes down how many records each call asked for or wrote."""

    def __init__(self, shard: Any) -> None:
        self._shard = shard
        self.asked: list[int] = []

    def scroll(self, request: Any) -> Any:
        records, offset = self._shard.scroll(request)
        self.asked.append(len(records))
        return records, offset


@pytest.fixture
def ids() -> Any:
    clock, chance = ManualClock(), seeded_bytes(1)
    return lambda: new_ulid(clock.now(), chance)


@pytest.fixture
def shard(tmp_path: Path, ids: Any) -> Path:
    """Return a shard of heavy records."""
    path = tmp_path / "heavy"
    write(path, ids, version=0)
    return path


def rows(version: int) -> list[Row]:
    noise = np.random.default_rng(version)
    return [
        Row(id=each, payload={"t": noise.bytes(PAYLOAD_BYTES // 2).hex()}, vectors={"": [1.0, float(each)]})
        for each in range(RECORD_COUNT)
    ]


def write(path: Path, ids: Any, version: int) -> None:
    target = EdgeTarget(path, ids)
    staged = target.stage("heavy", SCHEMA, ())
    staged.write(build_records(SCHEMA, rows(version)))
    staged.finish()
    staged.switch()
    staged.discard()


def test_a_scan_of_heavy_records_takes_small_pages(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_scan, "BATCH_BYTES", LIMIT_BYTES)
    with opened(shard) as real:
        watched = Watched(real)
        batches = list(scan_shard(watched, shard, SCHEMA, batch_rows=8192))

    assert sum(batch.num_rows for batch in batches) == RECORD_COUNT
    assert watched.asked[0] <= edge_scan.FIRST_PAGE_ROWS
    assert all(batch.nbytes <= LIMIT_BYTES * 1.1 for batch in batches[1:])


def test_a_scan_of_light_records_takes_large_pages(tmp_path: Path, ids: Any) -> None:
    target = EdgeTarget(tmp_path / "light", ids)
    staged = target.stage("light", SCHEMA, ())
    light = [Row(id=each, payload=None, vectors={"": [1.0, 2.0]}) for each in range(5000)]
    staged.write(build_records(SCHEMA, light))
    staged.finish()

    pages = [batch.num_rows for batch in staged.scan(batch_rows=8192)]

    staged.discard()
    assert pages == [edge_scan.FIRST_PAGE_ROWS, 5000 - edge_scan.FIRST_PAGE_ROWS]


def test_one_operation_of_the_engine_carries_few_heavy_records() -> None:
    records = build_records(SCHEMA, rows(0))
    limit = records.nbytes // 10

    pieces = list(pieces_of(records, limit))

    assert sum(piece.num_rows for piece in pieces) == RECORD_COUNT
    assert max(piece.nbytes for piece in pieces) <= limit * 1.1


def pieces_of(records: pa.RecordBatch, limit: int) -> list[pa.RecordBatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge_write, "UPSERT_BYTES", limit)
        return list(edge_write.operations_of(records))


def test_an_incremental_backup_of_heavy_records_reads_few_at_once(
    shard: Path, ids: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incremental, "FETCH_BYTES", LIMIT_BYTES)
    clock, chance = ManualClock(), seeded_bytes(2)
    repository = create_repository(MemoryStore(), now=clock.now(), random_bytes=chance)

    def back_up() -> backup.BackupReport:
        source = EdgeSource(shard, "heavy", ids)
        return backup.run(source, repository, options=BackupOptions(), clock=clock, random_bytes=chance)

    back_up()
    fetched: list[int] = []
    with opened(shard) as real:
        points = edge_write.batch_to_points(build_records(SCHEMA, rows(1)), SCHEMA)
        real.update(edge_library().UpdateOperation.upsert_points(points))
        real.flush()
    original = EdgeView.fetch

    def watched(view: EdgeView, name: str, keys: pa.BinaryArray) -> pa.RecordBatch:
        fetched.append(len(keys))
        return original(view, name, keys)

    monkeypatch.setattr(EdgeView, "fetch", watched)
    report = back_up()

    assert report.snapshot.collections[0].changes.changed == RECORD_COUNT
    assert sum(fetched) == RECORD_COUNT
    assert fetched[0] <= incremental.FETCH_ROWS_FIRST
    assert max(fetched[1:]) <= LIMIT_BYTES // PAYLOAD_BYTES + 1


def test_heavy_records_come_back(shard: Path, tmp_path: Path, ids: Any) -> None:
    clock, chance = ManualClock(), seeded_bytes(3)
    repository = create_repository(MemoryStore(), now=clock.now(), random_bytes=chance)
    source = EdgeSource(shard, "heavy", ids)
    snapshot = backup.run(
        source, repository, options=BackupOptions(), clock=clock, random_bytes=chance
    ).snapshot
    target = EdgeTarget(tmp_path / "back", ids)

    plan = restore.plan(snapshot, target, options=RestoreOptions())

    assert restore.apply(plan, repository, target, clock=clock).collections[0].is_match
