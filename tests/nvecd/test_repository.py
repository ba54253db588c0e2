"""Between snapshot files and repositories."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from recollect.catalog.catalog import Catalog
from recollect.clock import SystemClock
from recollect.compat.nvecd.repository import export_snapshot, import_file
from recollect.compat.nvecd.volatile import VolatileDatabase
from recollect.database import DatabaseOptions
from recollect.engines.embedded import EmbeddedEngine
from recollect.errors import ConflictError, IntegrityError, RequestError
from recollect.operations import backup
from recollect.repository.repository import Repository, create_repository
from recollect.storage.memory import MemoryStore
from tests.nvecd.faces import ask, open_face, settings_in
from tests.nvecd.snapshots import GOLDEN, decode
from tests.nvecd.test_dump import everything, fill

CLOCK = SystemClock()


@pytest.fixture
def repository() -> Repository:
    return create_repository(MemoryStore(), now=CLOCK.now(), random_bytes=os.urandom)


@pytest.fixture
def private(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    path.mkdir(mode=0o700)
    return path


def imported(path: Path, repository: Repository) -> backup.BackupReport:
    options = backup.BackupOptions(name="from-nvecd")
    return import_file(path, repository, options=options, clock=CLOCK, random_bytes=os.urandom)


def test_a_file_goes_into_a_repository_and_comes_out_the_same(private: Path, repository: Repository) -> None:
    with open_face(settings_in(private)) as face:
        fill(face)
        face.database.state.set("n", "a", "k", {"v": 1})
        ask(face, "DUMP SAVE one.nvec")
        saved = everything(face)
    report = imported(private / "one.nvec", repository)
    assert [entry.name for entry in report.snapshot.collections] == ["events", "state", "vectors"]
    exported = export_snapshot(
        Catalog(repository).find("from-nvecd"), repository, private / "two.nvec", clock=CLOCK
    )
    assert exported.counts.vector_count == 2
    with open_face(settings_in(private)) as face:
        assert ask(face, "DUMP LOAD two.nvec").startswith("OK DUMP_LOADED")
        assert everything(face) == saved
        assert face.database.state.get("n", "a", "k").value == {"v": 1}


def test_a_file_of_nvecd_keeps_its_size_through_a_repository(
    private: Path, repository: Repository, scratch: Path
) -> None:
    recorded = (GOLDEN / "example_meta.nvec").read_bytes()
    (private / "a.nvec").write_bytes(recorded)
    report = imported(private / "a.nvec", repository)
    export_snapshot(report.snapshot, repository, private / "b.nvec", clock=CLOCK)

    before, after = decode(recorded, scratch), decode((private / "b.nvec").read_bytes(), scratch)

    assert len((private / "b.nvec").read_bytes()) == len(recorded)
    assert sorted(after.vectors.ids) == sorted(before.vectors.ids)
    assert [tuple(row) for row in after.events.rows] == [tuple(row) for row in before.events.rows]
    assert {item: dict(fields) for item, fields in after.metadata or []} == {
        item: dict(fields) for item, fields in before.metadata or []
    }
    assert sorted(after.edges.weights.tolist()) == sorted(before.edges.weights.tolist())


def test_one_collection_of_another_snapshot_is_written(private: Path, repository: Repository) -> None:
    volatile = VolatileDatabase(DatabaseOptions(), CLOCK)
    volatile.database.collection("docs").set_many(["a", "b"], np.eye(2, dtype=np.float32), [{"n": 1}, None])
    volatile.database.collection("other").set("x", [1.0])
    engine = EmbeddedEngine(volatile.database, "recollect:///somewhere")
    report = backup.run(
        engine, repository, options=backup.BackupOptions(), clock=CLOCK, random_bytes=os.urandom
    )
    volatile.close()
    path = private / "docs.nvec"

    export_snapshot(report.snapshot, repository, path, clock=CLOCK, collection="docs")

    with open_face(settings_in(private)) as face:
        ask(face, "DUMP LOAD docs.nvec")
        found = [(one.id, one.vector.tolist(), one.metadata) for one in face.database.vectors.records()]
        assert found == [("a", [1.0, 0.0], {"n": 1}), ("b", [0.0, 1.0], None)]
    with pytest.raises(ConflictError, match="exists already"):
        export_snapshot(report.snapshot, repository, path, clock=CLOCK, collection="docs")
    with pytest.raises(RequestError, match="'nothing' was chosen"):
        export_snapshot(report.snapshot, repository, private / "n.nvec", clock=CLOCK, collection="nothing")


def test_a_damaged_file_is_not_imported(private: Path, repository: Repository) -> None:
    data = bytearray((GOLDEN / "example_meta.nvec").read_bytes())
    data[700] ^= 1
    (private / "bad.nvec").write_bytes(data)

    with pytest.raises(IntegrityError, match="File CRC32 mismatch"):
        imported(private / "bad.nvec", repository)
    assert Catalog(repository).ids() == []
