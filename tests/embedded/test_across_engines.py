"""Between engines by backup and restore: every bit of every vector, and every payload, arrives."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from recollect.clock import ManualClock
from recollect.engines.base import Source, Target
from recollect.engines.edge.source import EdgeSource
from recollect.engines.edge.target import EdgeTarget
from recollect.engines.embedded import open_embedded_source, open_embedded_target
from recollect.engines.qdrant.source import QdrantSource
from recollect.engines.qdrant.target import QdrantTarget
from recollect.errors import UnsupportedError
from recollect.operations import backup, restore
from recollect.operations.backup import BackupReport
from recollect.operations.restore import RestoredCollection
from recollect.repository.repository import create_repository
from recollect.storage.memory import MemoryStore
from recollect.testing.qdrant_server import QdrantServer
from recollect.testing.records import Row, build_records
from recollect.testing.sample import load_sample
from recollect.values.key import RecordId
from recollect.values.schema import CollectionSchema, VectorSpec
from recollect.values.snapshot import CollectionEntry
from recollect.values.ulid import new_ulid

METRICS = ("cosine", "dot", "euclid")
IDS: tuple[RecordId, ...] = (0, 7, 2**63, 2**64 - 1, UUID(int=1), UUID(int=2**128 - 1))
SAMPLE = load_sample()


def rows() -> list[Row]:
    """Integers beyond signed ones, UUIDs, payloads of every kind, and vectors that are not of unit length."""
    wide = [
        Row(
            id=each,
            payload={"n": number, "nested": {"list": [1, 1.5, None, "é"]}, "double": 0.1 + number, "t": True},
            vectors={"": (SAMPLE.vectors[number] * (number + 0.5)).tolist()},
        )
        for number, each in enumerate(IDS)
    ]
    real = [
        Row(id=1000 + number, payload=SAMPLE.payloads[number], vectors={"": SAMPLE.vectors[number].tolist()})
        for number in range(len(IDS), 120)
    ]
    return wide + real


class Places:
    """Engines in one directory, and one repository that all of them share."""

    def __init__(self, root: Path, server: QdrantServer) -> None:
        self.root = root
        self.server = server
        self.clock = ManualClock()
        self.random = random.Random(3)
        self.repository = create_repository(
            MemoryStore(), now=self.clock.now(), random_bytes=self.random.randbytes
        )

    def source(self, place: str) -> Source:
        kind, _, name = place.partition(":")
        if kind == "database":
            return open_embedded_source(str(self.root / name), f"recollect://{name}")
        if kind == "edge":
            return EdgeSource(self.root / name, "docs", self.new_id)
        return QdrantSource(self.server.url, secrets=no_secret, clock=self.clock)

    def target(self, place: str) -> Target:
        kind, _, name = place.partition(":")
        if kind == "database":
            return open_embedded_target(str(self.root / name), f"recollect://{name}")
        if kind == "edge":
            return EdgeTarget(self.root / name, self.new_id)
        return QdrantTarget(self.server.url, secrets=no_secret, clock=self.clock, new_id=self.new_id)

    def fill(self, place: str, schema: CollectionSchema, content: list[Row]) -> None:
        with closing(self.target(place)) as target:
            staged = target.stage("docs", schema, ())
            staged.write(build_records(schema, content))
            staged.finish()
            staged.switch()

    def backup(self, place: str, name: str = "docs") -> tuple[BackupReport, CollectionEntry]:
        self.clock.advance(60)
        with closing(self.source(place)) as source:
            report = backup.run(
                source,
                self.repository,
                options=backup.BackupOptions(collections=(name,)),
                clock=self.clock,
                random_bytes=self.random.randbytes,
            )
        return report, report.snapshot.collections[0]

    def restore(self, report: BackupReport, place: str, name: str = "docs") -> RestoredCollection:
        with closing(self.target(place)) as target:
            options = restore.RestoreOptions(collections=(("docs", name),))
            plan = restore.plan(report.snapshot, target, options=options)
            return restore.apply(plan, self.repository, target, clock=self.clock).collections[0]

    def new_id(self) -> str:
        self.clock.advance(1)
        return new_ulid(self.clock.now(), self.random.randbytes)


def no_secret(name: str) -> str | None:
    raise AssertionError(f"asked for the secret {name}")


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    with QdrantServer(tmp_path / "server") as server:
        yield Places(tmp_path, server)


def schema(metric: str, name: str = "") -> CollectionSchema:
    spec = VectorSpec(name=name, dimension=384, metric=metric)  # type: ignore[arg-type]
    return CollectionSchema(vectors=(spec,))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("first", "last"), [("edge:a", "edge:b"), ("qdrant:", "qdrant:")])
def test_there_and_back_through_the_database_nothing_changes(
    places: Places, first: str, last: str, metric: str
) -> None:
    if first.startswith("edge"):
        pytest.importorskip("qdrant_edge")
    places.fill(first, schema(metric), rows())

    report, origin = places.backup(first)
    inside = places.restore(report, "database:db")
    again, middle = places.backup("database:db")
    outside = places.restore(again, last, "docs" if first != last else "back")
    name = "docs" if first != last else "back"
    _, final = places.backup(last, name)

    assert origin.record_count == 120
    assert middle.fingerprint == origin.fingerprint
    assert final.fingerprint == origin.fingerprint
    assert (inside.adapted_count, outside.adapted_count) == (0, 0)
    assert [(spec.name, spec.dimension, spec.metric) for spec in final.schema.vectors] == [("", 384, metric)]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("other", ["edge:a", "qdrant:"])
def test_what_began_in_the_database_comes_back_as_the_engine_holds_it(
    places: Places, other: str, metric: str
) -> None:
    """The engine scales vectors under cosine to unit length; it says so, and it does it once."""
    if other.startswith("edge"):
        pytest.importorskip("qdrant_edge")
    places.fill("database:db", schema(metric, "named"), [
        Row(id=row.id, payload=row.payload, vectors={"named": row.vectors[""]}) for row in rows()
    ])  # fmt: skip
    report, origin = places.backup("database:db")
    outside = places.restore(report, other)
    again, middle = places.backup(other)
    inside = places.restore(again, "database:second")
    _, final = places.backup("database:second")

    assert inside.adapted_count == 0
    assert final.fingerprint == middle.fingerprint
    if metric == "cosine":
        assert outside.adapted_count > 0
    else:
        assert (outside.adapted_count, final.fingerprint) == (0, origin.fingerprint)


def test_ids_that_the_engine_does_not_have_are_refused_before_anything_is_written(places: Places) -> None:
    places.fill("database:db", schema("dot"), [
        Row(id=each, payload={}, vectors={"": SAMPLE.vectors[0].tolist()}) for each in (1, "doc-1")
    ])  # fmt: skip
    report, _ = places.backup("database:db")

    with pytest.raises(UnsupportedError, match="doc-1"):
        places.restore(report, "qdrant:")

    with closing(places.source("qdrant:")) as source, source.hold() as view:
        assert view.collections() == []


def test_a_collection_with_aliases_comes_in_under_a_new_name(places: Places) -> None:
    with closing(places.target("qdrant:")) as target:
        staged = target.stage("docs", schema("dot"), ("papers",))
        staged.write(build_records(schema("dot"), rows()))
        staged.finish()
        staged.switch()
    report, origin = places.backup("qdrant:")

    with pytest.raises(UnsupportedError, match="papers") as caught:
        places.restore(report, "database:db")
    assert "--collection docs:NEWNAME" in caught.value.next_step
    assert places.restore(report, "database:db", "copy").fingerprint == str(origin.fingerprint)


def test_a_backup_after_a_restore_into_the_database_reads_only_what_changed(places: Places) -> None:
    places.fill("qdrant:", schema("cosine"), rows())
    report, _ = places.backup("qdrant:")
    places.restore(report, "database:db")
    places.backup("database:db")

    with closing(places.target("database:db")) as engine:
        engine._database.collection("docs").delete(7)  # type: ignore[attr-defined]
    _, entry = places.backup("database:db")

    assert (entry.changes.added, entry.changes.changed, entry.changes.removed) == (0, 0, 1)
