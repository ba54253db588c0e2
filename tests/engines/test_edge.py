"""What is particular about Qdrant Edge: markers, versions, locks, indexes, refusals."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recollect.clock import ManualClock
from recollect.engines.edge.source import EdgeSource, EdgeView
from recollect.engines.edge.target import EdgeTarget
from recollect.engines.edge.versions import MARKER_FILE
from recollect.errors import ConflictError, NotFoundError, RequestError, UnsupportedError
from recollect.operations import backup, restore
from recollect.repository.repository import Repository, create_repository
from recollect.storage.memory import MemoryStore
from recollect.values.ulid import new_ulid

edge = pytest.importorskip("qdrant_edge")


class Setup:
    """A shard, a repository, and verbs with an injected clock and randomness."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "shard"
        self.directory = directory
        self.random = random.Random(7)
        self.clock = ManualClock()
        self.repository: Repository = create_repository(
            MemoryStore(), now=self.clock.now(), random_bytes=self.random.randbytes
        )

    def create(self, **config: Any) -> None:
        """Make a shard of 40 points with four dimensions."""
        self.path.mkdir()
        vectors = edge.EdgeVectorParams(size=4, distance=edge.Distance.Dot)
        shard = edge.EdgeShard.create(str(self.path), edge.EdgeConfig(vectors=vectors, **config))
        points = [edge.Point(number, [float(number), 1, 2, 3], {"n": number}) for number in range(40)]
        shard.update(edge.UpdateOperation.upsert_points(points))
        shard.close()

    @contextmanager
    def shard(self) -> Iterator[Any]:
        """Open the shard as its owner would."""
        opened = edge.EdgeShard.load(str(self.path))
        try:
            yield opened
        finally:
            opened.close()

    def new_id(self) -> str:
        self.clock.advance(1)
        return new_ulid(self.clock.now(), self.random.randbytes)

    def source(self) -> EdgeSource:
        return EdgeSource(self.path, "docs", self.new_id)

    def backup(self, compare: Any = "changes") -> backup.BackupReport:
        self.clock.advance(60)
        return backup.run(
            self.source(),
            self.repository,
            options=backup.BackupOptions(compare=compare),
            clock=self.clock,
            random_bytes=self.random.randbytes,
        )


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def test_a_backup_by_versions_finds_what_a_full_scan_finds(setup: Setup) -> None:
    setup.create()
    setup.backup()
    with setup.shard() as shard:
        operation = edge.UpdateOperation
        shard.update(operation.set_payload([3, 4], {"seen": True}))
        shard.update(operation.delete_points([5]))
        shard.update(operation.upsert_points([edge.Point(100, [9, 9, 9, 9], None)]))

    by_version = setup.backup().snapshot.collections[0]
    by_scan = setup.backup("scan").snapshot.collections[0]

    assert (by_version.changes.added, by_version.changes.changed, by_version.changes.removed) == (1, 2, 1)
    assert by_scan.changes.total == 0
    assert by_scan.fingerprint == by_version.fingerprint


def test_a_backup_by_versions_reads_only_the_records_of_another_version(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.create()
    setup.backup()
    with setup.shard() as shard:
        shard.update(edge.UpdateOperation.set_payload([3], {"seen": True}))
    fetched: list[int] = []
    fetch = EdgeView.fetch

    def counting_fetch(view: EdgeView, name: str, keys: Any) -> Any:
        fetched.append(len(keys))
        return fetch(view, name, keys)

    monkeypatch.setattr(EdgeView, "fetch", counting_fetch)

    setup.backup()
    setup.backup()

    assert sum(fetched) == 1


def test_a_shard_made_anew_with_equal_version_numbers_is_read_in_full(setup: Setup) -> None:
    setup.create()
    setup.backup()
    shutil.rmtree(setup.path)
    setup.path.mkdir()
    vectors = edge.EdgeVectorParams(size=4, distance=edge.Distance.Dot)
    shard = edge.EdgeShard.create(str(setup.path), edge.EdgeConfig(vectors=vectors))
    points = [edge.Point(number, [7.0, 7, 7, 7], {"other": number}) for number in range(40)]
    shard.update(edge.UpdateOperation.upsert_points(points))
    shard.close()

    entry = setup.backup().snapshot.collections[0]

    assert entry.changes.changed == 40


def test_a_shard_put_back_from_a_copy_is_read_in_full(setup: Setup) -> None:
    setup.create()
    copy = setup.directory / "copy"
    shutil.copytree(setup.path, copy)
    with setup.shard() as shard:
        shard.update(edge.UpdateOperation.upsert_points([edge.Point(1, [5.0, 5, 5, 5], None)]))
    setup.backup()
    marker = (setup.path / MARKER_FILE).read_bytes()
    shutil.rmtree(setup.path)
    shutil.copytree(copy, setup.path)
    (setup.path / MARKER_FILE).write_bytes(marker)  # what a copy over the directory would leave

    entry = setup.backup().snapshot.collections[0]

    assert entry.changes.changed == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'[{"token":1}]', b"\xff\xff"])
def test_a_damaged_marker_costs_a_full_scan_and_nothing_else(setup: Setup, content: bytes) -> None:
    setup.create()
    setup.backup()
    (setup.path / MARKER_FILE).write_bytes(content)
    with setup.shard() as shard:
        shard.update(edge.UpdateOperation.delete_points([1]))

    assert setup.backup().snapshot.collections[0].changes.removed == 1


def test_an_optimizer_run_that_changes_no_record_adds_nothing(setup: Setup) -> None:
    setup.create(optimizers=edge.EdgeOptimizersConfig(indexing_threshold=1, vacuum_min_vector_number=1))
    setup.backup()
    with setup.shard() as shard:
        shard.optimize()

    report = setup.backup()

    assert report.snapshot.collections[0].changes.total == 0
    assert report.snapshot.stored_bytes == 0


def test_an_open_shard_is_a_conflict_that_says_so(setup: Setup) -> None:
    setup.create()
    with setup.shard(), pytest.raises(ConflictError, match="open in another process"):
        setup.backup()


def test_hidden_records_are_refused(setup: Setup) -> None:
    setup.create(optimizers=edge.EdgeOptimizersConfig(prevent_unoptimized=True))

    with pytest.raises(UnsupportedError, match="prevent_unoptimized"):
        setup.backup()


@pytest.mark.parametrize("datatype", ["Turbo8", "Turbo16"])
def test_lossy_datatypes_are_refused(setup: Setup, datatype: str) -> None:
    setup.path.mkdir()
    kind = getattr(edge.VectorStorageDatatype, datatype)
    vectors = edge.EdgeVectorParams(size=64, distance=edge.Distance.Dot, datatype=kind)
    edge.EdgeShard.create(str(setup.path), edge.EdgeConfig(vectors=vectors)).close()

    with pytest.raises(UnsupportedError, match="does not give back the values exactly"):
        setup.backup()


def test_a_missing_directory_and_a_foreign_one_are_told_apart(setup: Setup) -> None:
    with pytest.raises(NotFoundError, match="there is no directory"):
        setup.backup()
    setup.path.mkdir()
    with pytest.raises(RequestError, match="no Qdrant Edge shard"):
        setup.backup()


def test_payload_indexes_and_the_configuration_come_back(setup: Setup) -> None:
    setup.create(hnsw_config=edge.HnswIndexConfig(m=7, ef_construct=33, full_scan_threshold=555))
    with setup.shard() as shard:
        text = edge.TextIndexParams(tokenizer=edge.TokenizerType.Prefix, lowercase=True, min_token_len=2)
        shard.update(edge.UpdateOperation.create_field_index("n", edge.PayloadSchemaType.Integer))
        shard.update(edge.UpdateOperation.create_field_index("t", text))
    snapshot = setup.backup().snapshot
    target = EdgeTarget(setup.directory / "restored", setup.new_id)

    plan = restore.plan(snapshot, target, options=restore.RestoreOptions())
    restore.apply(plan, setup.repository, target, clock=setup.clock)

    before = json.loads((setup.path / "edge_config.json").read_bytes())
    after = json.loads((setup.directory / "restored" / "edge_config.json").read_bytes())
    assert after == before
    restored = target.find("docs")
    assert restored is not None
    assert restored.schema.payload_indexes == snapshot.collections[0].schema.payload_indexes


def test_a_restore_that_fails_leaves_no_hidden_directory(setup: Setup) -> None:
    setup.create()
    snapshot = setup.backup().snapshot
    for key in [item.key for item in setup.repository.store.list("objects")]:
        setup.repository.store.delete(key)
    target = EdgeTarget(setup.directory / "restored", setup.new_id)
    plan = restore.plan(snapshot, target, options=restore.RestoreOptions())

    with pytest.raises(Exception, match="missing"):
        restore.apply(plan, setup.repository, target, clock=setup.clock)

    assert sorted(path.name for path in setup.directory.iterdir()) == ["shard"]


def test_an_unchanged_shard_is_not_listed(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.create()
    setup.backup()
    listed: list[str] = []
    monkeypatch.setattr(EdgeView, "versions", lambda _view, name: listed.append(name))

    report = setup.backup()

    assert listed == []
    assert report.snapshot.collections[0].changes.total == 0
    assert report.snapshot.collections[0].record_count == 40
