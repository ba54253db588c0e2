from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from recollect.catalog.catalog import Catalog
from recollect.catalog.drills import list_drills
from recollect.clock import ManualClock
from recollect.engines.base import Target
from recollect.engines.edge.target import EdgeTarget
from recollect.engines.memory import MemoryEngine
from recollect.engines.qdrant.target import QdrantTarget
from recollect.errors import FormatVersionError, IntegrityError, NotFoundError, RequestError, UnsupportedError
from recollect.operations import backup, drill
from recollect.operations.exact_neighbours import exact_neighbours, sample_queries
from recollect.repository import layout
from recollect.repository.repository import Repository, create_repository
from recollect.storage.memory import MemoryStore
from recollect.testing.qdrant_server import QdrantServer
from recollect.testing.records import Row, build_records
from recollect.values.schema import CollectionSchema, VectorSpec
from recollect.values.snapshot import Snapshot
from recollect.values.ulid import new_ulid

DIMENSION = 8


def no_secret(name: str) -> str | None:
    raise AssertionError(f"asked for the secret {name}")


class Bench:
    """A repository with one snapshot of two collections."""

    def __init__(self, directory: Path) -> None:
        self.clock, self.random, self.directory = ManualClock(), Random(3), directory
        self.repository: Repository = create_repository(
            MemoryStore(), now=self.clock.now(), random_bytes=self.random.randbytes
        )

    def new_id(self) -> str:
        self.clock.advance(1)
        return new_ulid(self.clock.now(), self.random.randbytes)

    def snapshot(self, metric: Any = "cosine", count: int = 300) -> Snapshot:
        engine, numbers = MemoryEngine(), np.random.default_rng(5)
        for name in ("docs", "notes"):
            schema = CollectionSchema(vectors=(VectorSpec(name="v", dimension=DIMENSION, metric=metric),))
            engine.create(name, schema)
            rows = [
                Row(id=n, vectors={"v": numbers.standard_normal(DIMENSION).astype("f4").tolist()})
                for n in range(count)
            ]
            engine.upsert(name, build_records(schema, rows))
        options = backup.BackupOptions()
        random_bytes = self.random.randbytes
        backup.run(engine, self.repository, options=options, clock=self.clock, random_bytes=random_bytes)
        return Catalog(self.repository).find("latest")

    def edge(self, number: int) -> Target:
        return EdgeTarget(self.directory / str(number), self.new_id)

    def __call__(self, snapshot: Snapshot, open_scratch: Any = None, **options: Any) -> Any:
        return drill.run(
            self.repository,
            snapshot,
            open_scratch or self.edge,
            options=drill.DrillOptions(**options),
            clock=self.clock,
            random_bytes=self.random.randbytes,
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "scratch").mkdir()
    return Bench(tmp_path / "scratch")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[QdrantServer]:
    with QdrantServer(tmp_path / "server") as running:
        yield running


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclid", "manhattan"])
def test_a_drill_restores_proves_and_searches_every_collection(bench: Bench, metric: str) -> None:
    snapshot = bench.snapshot(metric)

    report = bench(snapshot)

    assert report.is_passed
    assert [one.name for one in report.collections] == ["docs", "notes"]
    for one in report.collections:
        assert one.is_match
        assert (one.record_count, one.query_count, one.k) == (300, 20, 10)
        assert one.recall_min == 1.0, "below the indexing threshold the engine searches exactly"
    assert report.target.startswith("qdrant-edge ")
    assert list(bench.directory.iterdir()) == []


def test_a_drill_into_a_server_leaves_nothing_there(bench: Bench, server: QdrantServer) -> None:
    def scratch(_number: int) -> Target:
        return QdrantTarget(server.url, secrets=no_secret, clock=bench.clock, new_id=bench.new_id)

    report = bench(bench.snapshot(), scratch)

    assert report.is_passed
    assert report.collections[0].recall_mean == 1.0
    target = scratch(0)
    assert target.find("docs") is None
    assert server._storage is not None
    assert server._storage.names() == []
    assert server._storage.aliases() == []
    target.close()


def test_the_ledger_remembers_every_drill(bench: Bench) -> None:
    snapshot = bench.snapshot()
    first, second = bench(snapshot, collections=("docs",)), bench(snapshot, query_count=0)

    assert list_drills(bench.repository) == [first, second]
    assert list_drills(bench.repository, snapshot.id) == [first, second]
    assert list_drills(bench.repository, "0" * 26) == []
    assert second.collections[0].query_count == 0


def test_damage_fails_the_drill_and_is_written_down(bench: Bench) -> None:
    snapshot = bench.snapshot()
    reference = snapshot.collections[0].objects()[-1]
    bench.repository.store.delete(layout.object_key(reference.digest))

    report = bench(snapshot)

    assert not report.is_passed
    assert report.failure.startswith("integrity: ")
    assert list_drills(bench.repository)[0].failure == report.failure
    assert list(bench.directory.iterdir()) == []


class HalfBlind(EdgeTarget):
    """An engine whose index finds every other neighbour only."""

    def search(self, name: str) -> Any:
        from contextlib import contextmanager  # noqa: PLC0415

        @contextmanager
        def blind() -> Iterator[Any]:
            with super(HalfBlind, self).search(name) as searcher:
                yield _Blind(searcher)

        return blind()


class _Blind:
    def __init__(self, searcher: Any) -> None:
        self._searcher = searcher

    def nearest(self, vector: str, query: Any, k: int) -> list[bytes]:
        found: list[bytes] = self._searcher.nearest(vector, query, 2 * k)
        return found[::2]


def test_an_index_that_finds_too_little_fails_the_drill(bench: Bench) -> None:
    def scratch(number: int) -> Target:
        return HalfBlind(bench.directory / str(number), bench.new_id)

    report = bench(bench.snapshot(), scratch, collections=("docs",), recall_required=0.8)

    assert 0.4 <= report.collections[0].recall_mean <= 0.6
    assert "finds 0.5" in report.failure
    assert report.collections[0].is_match


def test_collections_without_dense_vectors_are_proven_but_not_searched(bench: Bench) -> None:
    engine = MemoryEngine()
    schema = CollectionSchema(vectors=(VectorSpec(name="s", kind="sparse"),))
    engine.create("sparse", schema)
    engine.upsert("sparse", build_records(schema, [Row(id=1, vectors={"s": {3: 1.0}})]))
    random_bytes = bench.random.randbytes
    options = backup.BackupOptions()
    backup.run(engine, bench.repository, options=options, clock=bench.clock, random_bytes=random_bytes)

    report = bench(Catalog(bench.repository).find("latest"))

    assert report.is_passed
    assert (report.collections[0].query_count, report.collections[0].vector) == (0, "")


def test_wrong_requests_are_told_and_not_written_down(bench: Bench) -> None:
    snapshot = bench.snapshot()

    with pytest.raises(NotFoundError, match="no collection 'other'"):
        bench(snapshot, collections=("other",))
    with pytest.raises(RequestError, match="k of 1 or more"):
        bench(snapshot, k=0)
    with pytest.raises(UnsupportedError, match="cannot be searched"):
        bench(snapshot, lambda _number: MemoryEngine())
    assert list_drills(bench.repository) == []


def test_a_damaged_or_newer_entry_of_the_ledger_is_named(bench: Bench) -> None:
    report = bench(bench.snapshot(), query_count=0)
    key = layout.drill_key(report.snapshot_id, report.id)
    content = bench.repository.store.get(key)

    bench.repository.store.put(key, content[:-5])
    with pytest.raises(IntegrityError, match=report.id):
        list_drills(bench.repository)
    from recollect.codec.document import seal_document  # noqa: PLC0415

    bench.repository.store.put(key, seal_document(b'{"format":9}'))
    with pytest.raises(FormatVersionError):
        list_drills(bench.repository)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclid", "manhattan"])
def test_exact_neighbours_are_those_of_a_plain_search(bench: Bench, metric: str) -> None:
    entry = bench.snapshot(metric).collections[0]
    spec = entry.schema.vectors[0]
    sample = sample_queries(bench.repository, entry, spec, 7, bench.random.randbytes)
    numbers = np.random.default_rng(5).standard_normal((300, DIMENSION)).astype("f4")

    found = exact_neighbours(bench.repository, entry, spec, sample, 5)

    assert len(found) == 7
    for own, query, each in zip(sample.keys, sample.queries, found, strict=True):
        number = int.from_bytes(own[1:], "big")
        assert np.array_equal(query, numbers[number])
        plain = _plain_ranks(numbers.astype("f8"), query.astype("f8"), metric)
        plain[number] = np.inf
        assert [int.from_bytes(key[1:], "big") for key in each.keys[:5]] == np.argsort(plain)[:5].tolist()
        assert each.recall(each.keys[:5]) == 1.0
        assert each.recall(each.keys[:2]) == 0.4


def _plain_ranks(matrix: Any, query: Any, metric: str) -> Any:
    if metric == "euclid":
        return np.linalg.norm(matrix - query, axis=1)
    if metric == "manhattan":
        return np.abs(matrix - query).sum(axis=1)
    ranks = -(matrix @ query)
    return ranks / np.linalg.norm(matrix, axis=1) if metric == "cosine" else ranks
