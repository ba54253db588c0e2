"""The face: the README's calls, what they promise, and what they refuse."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recollect.clock import ManualClock
from recollect.compat.ruvector import Snapshot, SnapshotConfig, SnapshotManager, SnapshotType
from recollect.compat.ruvector.rows import digest_rows
from recollect.database import Database, DatabaseOptions, VectorOptions
from recollect.errors import (
    ConflictError,
    FormatVersionError,
    IntegrityError,
    NotFoundError,
    RequestError,
    VerificationError,
)
from recollect.policy.retention import RetentionRules
from recollect.testing.damage import flip_byte, truncate
from recollect.values.schema import CollectionSchema, VectorSpec
from tests.ruvector.samples import DIMENSION, change, content, run

PATH_LIKE = [
    "../x",
    "/etc/passwd",
    "a/b",
    "",
    ".",
    "..",
    "a..b",
    "-x",
    "x" * 37,
    "a\\b",
    "a\0b",
    "ü",
    ".hidden",
]


def _restore(manager: SnapshotManager, snapshot_id: str, path: Path) -> dict[Any, Any]:
    with run(manager.restore_snapshot(snapshot_id, path)) as restored:
        return content(restored)


def test_the_defaults_are_the_readmes() -> None:
    config = SnapshotConfig()

    assert (str(config.snapshot_dir), config.compression, config.verify_checksum) == (
        "./snapshots",
        True,
        True,
    )


def test_a_snapshot_has_all_fields_of_the_readme(manager: SnapshotManager, database: Database) -> None:
    snapshot = run(manager.create_snapshot(database, "backup-2024-01"))

    assert snapshot.created_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert snapshot.snapshot_type == SnapshotType.Full()
    assert snapshot.vector_count == 300
    assert snapshot.name == snapshot.metadata["name"] == "backup-2024-01"
    assert snapshot.size_bytes > 300 * DIMENSION * 2
    assert len(snapshot.checksum) == 64
    assert run(manager.get_snapshot(snapshot.id)) == snapshot
    assert run(manager.list_snapshots()) == [snapshot]


def test_the_directory_is_the_documented_one_and_sha256sum_and_gzip_read_it(
    manager: SnapshotManager, database: Database, tmp_path: Path
) -> None:
    snapshot = run(manager.create_snapshot(database, "one"))
    directory = tmp_path / "snapshots" / f"snapshot-{snapshot.id}"

    assert sorted(path.name for path in directory.iterdir()) == [
        "checksum.sha256",
        "index.bin.gz",
        "metadata.bin.gz",
        "metadata.json",
        "vectors.bin.gz",
    ]
    subprocess.run(["sha256sum", "--check", "--strict", "checksum.sha256"], cwd=directory, check=True)
    for path in directory.glob("*.gz"):
        subprocess.run(["gzip", "--test", path], check=True)
        assert gzip.decompress(path.read_bytes())
    assert json.loads((directory / "metadata.json").read_bytes())["vector_count"] == 300
    lines = [
        line
        for line in (directory / "checksum.sha256").read_text().splitlines(keepends=True)
        if ".gz" in line
    ]
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == snapshot.checksum


@pytest.mark.parametrize(
    "settings", [{}, {"compression": False}, {"compression_level": 1, "max_concurrent_io": 1}]
)
def test_a_full_snapshot_restores_bit_by_bit(
    make_manager: Callable[..., SnapshotManager], database: Database, tmp_path: Path, settings: dict[str, Any]
) -> None:
    manager = make_manager(**settings)
    expected = content(database)
    snapshot = run(manager.create_snapshot(database, "one"))
    change(database, 1)

    assert _restore(manager, snapshot.id, tmp_path / "restored") == expected


def test_special_values_come_back_as_they_were(manager: SnapshotManager, tmp_path: Path) -> None:
    row = np.array([[-0.0, 1e-45, 3.4e38, -1e-38]], dtype=np.float32)
    with Database.open(tmp_path / "db") as database:
        database.vectors.set_many(
            ["x", -5, 2**64 - 1], np.repeat(row, 3, axis=0), [{}, None, {"a": [1.0, None]}]
        )
        expected = content(database)
        snapshot = run(manager.create_snapshot(database, "one"))

    assert _restore(manager, snapshot.id, tmp_path / "restored") == expected


def test_large_metadata_is_cut_into_blocks(manager: SnapshotManager, tmp_path: Path) -> None:
    with Database.open(tmp_path / "db", fsync="off") as database:
        big = [{"t": "y" * (9 << 20)} for _ in range(5)]
        database.vectors.set_many([1, 2, 3, 4, 5], np.ones((5, 2), dtype=np.float32), big)
        base = run(manager.create_snapshot(database, "one"))
        for number in range(1, 6):
            database.vectors.set_metadata(number, {"u": "z" * (9 << 20)})
        expected = content(database)
        snapshot = run(manager.create_incremental_snapshot(database, "two", base.id))

    assert _restore(manager, snapshot.id, tmp_path / "restored") == expected


def test_a_chain_of_increments_restores_each_of_its_states(
    manager: SnapshotManager, database: Database, tmp_path: Path
) -> None:
    states, snapshots = [content(database)], [run(manager.create_snapshot(database, "base"))]
    for step in range(6):
        change(database, step)
        states.append(content(database))
        snapshots.append(run(manager.create_incremental_snapshot(database, f"inc-{step}", snapshots[-1].id)))

    for number, (state, snapshot) in enumerate(zip(states, snapshots, strict=True)):
        assert run(manager.verify_snapshot(snapshot.id))
        assert _restore(manager, snapshot.id, tmp_path / f"restored-{number}") == state


def test_an_incremental_snapshot_holds_what_changed_and_nothing_else(
    manager: SnapshotManager, database: Database
) -> None:
    base = run(manager.create_snapshot(database, "base"))
    vector = database.vectors.get(1)
    assert vector is not None
    database.vectors.set("added", vector.vector)
    database.vectors.set(2, vector.vector)
    database.vectors.set_metadata(4, {"other": 1})
    database.vectors.set_metadata(5, None)
    database.vectors.delete_many([7, 8])
    database.vectors.set(1, vector.vector, vector.metadata)  # written again, but the same

    found = run(manager.create_incremental_snapshot(database, "inc", base.id))

    counts = [found.metadata[name] for name in ("added_or_changed", "metadata_changed", "removed")]
    assert counts == [2, 1, 2]  # 5 had no metadata before, either
    assert found.snapshot_type == SnapshotType.Incremental(base.id)
    assert found.vector_count == 299
    assert found.size_bytes < base.size_bytes / 20


def test_an_increment_of_nothing_is_tiny_and_restores(
    manager: SnapshotManager, database: Database, tmp_path: Path
) -> None:
    base = run(manager.create_snapshot(database, "base"))
    snapshot = run(manager.create_incremental_snapshot(database, "inc", base.id))

    assert snapshot.size_bytes < 1000
    assert _restore(manager, snapshot.id, tmp_path / "restored") == content(database)


def test_a_copy_of_the_database_that_went_another_way_is_compared_by_content(
    manager: SnapshotManager, database: Database, tmp_path: Path
) -> None:
    base = run(manager.create_snapshot(database, "base"))
    copy = run(manager.restore_snapshot(base.id, tmp_path / "copy"))
    with copy:
        change(database, 1)
        change(copy, 2)
        snapshot = run(manager.create_incremental_snapshot(copy, "inc", base.id))
        expected = content(copy)

    assert _restore(manager, snapshot.id, tmp_path / "restored") == expected


def test_an_empty_database_goes_round(manager: SnapshotManager, tmp_path: Path) -> None:
    with Database.open(tmp_path / "empty") as database:
        snapshot = run(manager.create_snapshot(database, "empty"))
        later = run(manager.create_incremental_snapshot(database, "still empty", snapshot.id))
        database.vectors.set("first", [1.0, 2.0])
        filled = run(manager.create_incremental_snapshot(database, "filled", later.id))
        database.vectors.clear()
        cleared = run(manager.create_incremental_snapshot(database, "cleared", filled.id))

    assert (snapshot.vector_count, filled.vector_count, cleared.vector_count) == (0, 1, 0)
    for number, one in enumerate((snapshot, later, filled, cleared)):
        assert run(manager.verify_snapshot(one.id))
        assert len(_restore(manager, one.id, tmp_path / f"restored-{number}")) == one.vector_count


def test_metric_and_schema_are_restored(manager: SnapshotManager, tmp_path: Path) -> None:
    options = DatabaseOptions(vectors=VectorOptions(metric="euclid"))
    with Database.open(tmp_path / "db", options=options) as database:
        database.vectors.set("a", [1.0, 2.0])
        schema = database.vectors.schema
        snapshot = run(manager.create_snapshot(database, "one"))

    with run(manager.restore_snapshot(snapshot.id, tmp_path / "restored")) as restored:
        assert restored.vectors.schema == schema
        assert snapshot.metadata["metric"] == "euclid"


def test_another_collection_can_be_given_and_comes_back_under_its_name(
    manager: SnapshotManager, database: Database, tmp_path: Path
) -> None:
    spec = VectorSpec(name="", dimension=2, metric="dot")
    other = database.create_collection("other", CollectionSchema(vectors=(spec,)))
    other.set("a", [1.0, 2.0], {"x": 1})
    snapshot = run(manager.create_snapshot(other, "one"))

    with run(manager.restore_snapshot(snapshot.id, tmp_path / "restored")) as restored:
        assert content(restored.collection("other")) == content(other)
        assert len(restored.vectors) == 0


def test_what_a_snapshot_leaves_out_is_said(manager: SnapshotManager, database: Database) -> None:
    database.events.add("context", "item", 1)
    database.state.set("ns", "agent", "key", 1)
    database.collection("second").set("a", [1.0])

    snapshot = run(manager.create_snapshot(database, "one"))

    assert snapshot.metadata["left_out"] == ["collection second", "events", "state"]


def test_the_index_is_restored_without_building_it(
    manager: SnapshotManager, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("usearch")
    database.vectors.build_index(tmp_path / "vectors.usearch")
    change(database, 1)  # some nodes of the graph are no rows any more, some rows no nodes
    base = run(manager.create_snapshot(database, "base"))
    change(database, 2)
    snapshot = run(manager.create_incremental_snapshot(database, "inc", base.id))
    monkeypatch.setattr("usearch.index.Index.add", lambda *_: pytest.fail("the index is built again"))

    for number, one in enumerate((base, snapshot)):
        with run(manager.restore_snapshot(one.id, tmp_path / f"restored-{number}")) as restored:
            assert restored.vectors.index is not None
            assert len(restored.vectors.index) == 300
            for record in [*restored.vectors.records()][::7]:
                assert restored.vectors.search(record.vector, 1)[0].id == record.id
    assert (base.metadata["index"], snapshot.metadata["index"]) == ("hnsw", "of base")


def test_an_index_in_an_unknown_layout_costs_the_index_not_the_backup(
    manager: SnapshotManager, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("usearch")
    database.vectors.build_index(tmp_path / "vectors.usearch")
    index = database.vectors.index
    assert index is not None
    other = index.content.copy()
    other[8 + 300 * 4 * DIMENSION] ^= 1  # the name at the head of the graph
    monkeypatch.setattr(index, "content", other)

    snapshot = run(manager.create_snapshot(database, "one"))

    assert snapshot.metadata["index"] == "none"
    assert _restore(manager, snapshot.id, tmp_path / "restored") == content(database)


def test_the_vectors_are_not_stored_again_in_the_index(manager: SnapshotManager, tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    wide = np.random.default_rng(1).normal(size=(300, 384)).astype(np.float32)
    with Database.open(tmp_path / "wide", fsync="off") as other:
        other.vectors.set_many(list(range(300)), wide)
        other.vectors.build_index(tmp_path / "wide.usearch")
        snapshot = run(manager.create_snapshot(other, "one"))

    file = tmp_path / "snapshots" / f"snapshot-{snapshot.id}" / "index.bin.gz"
    assert file.stat().st_size < (tmp_path / "wide.usearch").stat().st_size / 8


def test_a_restore_without_a_path_makes_a_directory_of_its_own(
    manager: SnapshotManager, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = run(manager.create_snapshot(database, "one"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    with run(manager.restore_snapshot(snapshot.id)) as restored:
        assert content(restored) == content(database)
        assert restored.path.is_dir()
        assert restored.path.is_relative_to(tmp_path)


def test_a_restored_database_has_the_length_that_the_readme_prints(
    manager: SnapshotManager, database: Database, tmp_path: Path
) -> None:
    snapshot = run(manager.create_snapshot(database, "full"))
    with run(manager.restore_snapshot(snapshot.id, tmp_path / "restored")) as restored:
        assert len(restored) == snapshot.vector_count == len(database.vectors)
    with Database.open(tmp_path / "empty") as empty:
        assert (len(empty), bool(empty)) == (0, True)


def test_a_restore_never_writes_over_anything(
    manager: SnapshotManager, database: Database, tmp_path: Path
) -> None:
    snapshot = run(manager.create_snapshot(database, "one"))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")

    with pytest.raises(ConflictError, match="taken"):
        run(manager.restore_snapshot(snapshot.id, tmp_path / "taken"))

    assert (tmp_path / "taken" / "file").read_text() == "mine"


@pytest.mark.parametrize("snapshot_id", PATH_LIKE)
def test_an_id_that_could_be_a_path_is_refused_everywhere(
    manager: SnapshotManager, database: Database, snapshot_id: str, tmp_path: Path
) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: manager.get_snapshot(snapshot_id),
        lambda: manager.restore_snapshot(snapshot_id, tmp_path / "r"),
        lambda: manager.verify_snapshot(snapshot_id),
        lambda: manager.delete_snapshot(snapshot_id),
        lambda: manager.create_incremental_snapshot(database, "x", snapshot_id),
        lambda: manager.export_crate_snapshot(snapshot_id, tmp_path / "crate"),
        lambda: manager.import_crate_snapshot(tmp_path / "crate", snapshot_id),
    ]
    for call in calls:
        if snapshot_id == "x" * 37 and call is calls[-1]:
            continue  # the crate has no such limit
        with pytest.raises(RequestError):
            run(call())


def test_an_unknown_id_is_none_or_not_found(
    manager: SnapshotManager, database: Database, tmp_path: Path
) -> None:
    assert run(manager.get_snapshot("unknown")) is None
    calls: list[Callable[[], Any]] = [
        lambda: manager.restore_snapshot("unknown", tmp_path / "r"),
        lambda: manager.restore_snapshot("unknown"),
        lambda: manager.verify_snapshot("unknown"),
        lambda: manager.delete_snapshot("unknown"),
        lambda: manager.create_incremental_snapshot(database, "x", "unknown"),
    ]
    for call in calls:
        with pytest.raises(NotFoundError, match="unknown"):
            run(call())
    assert not (tmp_path / "r").exists()


def test_a_base_of_another_dimension_or_metric_is_refused(
    manager: SnapshotManager, database: Database, tmp_path: Path
) -> None:
    base = run(manager.create_snapshot(database, "base"))
    for name, metric, dimension, message in (
        ("a", "cosine", 3, "dimension mismatch"),
        ("b", "dot", 24, "metric"),
    ):
        options = DatabaseOptions(vectors=VectorOptions(metric=metric))  # type: ignore[arg-type]
        with Database.open(tmp_path / name, options=options) as other:
            other.vectors.set("x", [1.0] * dimension)
            with pytest.raises(RequestError, match=message):
                run(manager.create_incremental_snapshot(other, "inc", base.id))
    assert len(run(manager.list_snapshots())) == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"compression_level": 10},
        {"compression_level": -1},
        {"compression_level": "6"},
        {"compression_level": 2.5},
        {"max_concurrent_io": 0},
        {"max_concurrent_io": None},
        {"snapshot_dir": 5},
        {"compression": "yes"},
    ],
)
def test_settings_without_a_meaning_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(settings))):
        SnapshotConfig(**settings)


@pytest.mark.parametrize("value", [5, None, b"x", ["x"]])
def test_an_id_or_a_name_that_is_no_text_is_refused(
    manager: SnapshotManager, database: Database, value: Any
) -> None:
    for call in (manager.get_snapshot, manager.delete_snapshot, manager.restore_snapshot):
        with pytest.raises(RequestError, match="id"):
            run(call(value))
    with pytest.raises(RequestError, match="name"):
        run(manager.create_snapshot(database, value))


@pytest.mark.parametrize("keep", [-1, 1.5, None, "3"])
def test_a_count_to_keep_that_is_none_is_refused(manager: SnapshotManager, keep: Any) -> None:
    with pytest.raises(RequestError, match="keep"):
        run(manager.cleanup_old_snapshots(keep))


def test_a_name_that_no_json_can_hold_is_refused(manager: SnapshotManager, database: Database) -> None:
    with pytest.raises(RequestError, match="name"):
        run(manager.create_snapshot(database, "\ud800"))
    assert run(manager.list_snapshots()) == []


def test_something_that_is_no_database_is_refused(manager: SnapshotManager) -> None:
    with pytest.raises(RequestError, match="dict"):
        run(manager.create_snapshot({}, "x"))  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="name"):
        run(manager.create_snapshot(None, ""))  # type: ignore[arg-type]


def test_the_list_is_newest_first_also_within_one_moment(
    manager: SnapshotManager, database: Database, clock: ManualClock
) -> None:
    made = []
    for number in range(5):
        made.append(run(manager.create_snapshot(database, f"n{number}")).name)
        clock.advance(number % 2)

    assert [one.name for one in run(manager.list_snapshots())] == made[::-1]


# ------------------------------------------------------------------ deleting


def test_deleting_removes_the_directory(manager: SnapshotManager, database: Database, tmp_path: Path) -> None:
    snapshot = run(manager.create_snapshot(database, "one"))

    run(manager.delete_snapshot(snapshot.id))

    assert run(manager.list_snapshots()) == []
    assert [*(tmp_path / "snapshots").iterdir()] == []


def test_a_base_with_dependants_is_not_deleted_and_they_are_named(
    manager: SnapshotManager, database: Database
) -> None:
    base = run(manager.create_snapshot(database, "base"))
    first = run(manager.create_incremental_snapshot(database, "a", base.id))
    second = run(manager.create_incremental_snapshot(database, "b", base.id))

    with pytest.raises(ConflictError, match=f"{second.id}, {first.id}"):
        run(manager.delete_snapshot(base.id))

    assert all(run(manager.verify_snapshot(one.id)) for one in (base, first, second))
    for one in (first, second, base):
        run(manager.delete_snapshot(one.id))
    assert run(manager.list_snapshots()) == []


def _names(manager: SnapshotManager) -> list[str]:
    return [one.name for one in run(manager.list_snapshots())]


def test_cleanup_keeps_the_newest_and_the_bases_they_need_and_counts_truly(
    manager: SnapshotManager, database: Database, clock: ManualClock
) -> None:
    def create(name: str, base: Snapshot | None = None) -> Snapshot:
        clock.advance(1)
        if base is None:
            return run(manager.create_snapshot(database, name))
        return run(manager.create_incremental_snapshot(database, name, base.id))

    create("old")
    base = create("base")
    middle = create("middle", base)
    create("side", base)
    create("newest", middle)

    assert run(manager.cleanup_old_snapshots(1)) == 2
    assert _names(manager) == ["newest", "middle", "base"]
    assert run(manager.cleanup_old_snapshots(1)) == 0
    assert run(manager.cleanup_old_snapshots(5)) == 0
    assert run(manager.cleanup_old_snapshots(0)) == 3
    assert _names(manager) == []
    with pytest.raises(RequestError, match="-1"):
        run(manager.cleanup_old_snapshots(-1))


def test_a_damaged_snapshot_does_not_count_as_kept(
    manager: SnapshotManager, database: Database, clock: ManualClock, tmp_path: Path
) -> None:
    made = []
    for name in ("a", "b", "c"):
        clock.advance(1)
        made.append(run(manager.create_snapshot(database, name)))
    truncate(tmp_path / "snapshots" / f"snapshot-{made[2].id}" / "vectors.bin.gz", 100)

    assert run(manager.cleanup_old_snapshots(1)) == 1

    assert _names(manager) == ["c", "b"]


def test_an_unreadable_snapshot_hides_no_other_and_blocks_deletion_until_it_is_gone(
    manager: SnapshotManager, database: Database, tmp_path: Path
) -> None:
    base = run(manager.create_snapshot(database, "base"))
    broken = run(manager.create_incremental_snapshot(database, "inc", base.id))
    truncate(tmp_path / "snapshots" / f"snapshot-{broken.id}" / "metadata.json", 20)

    assert _names(manager) == ["base"]
    with pytest.raises(IntegrityError, match=broken.id):
        run(manager.delete_snapshot(base.id))
    run(manager.delete_snapshot(broken.id))
    run(manager.delete_snapshot(base.id))


def test_retention_rules_keep_bases_too(
    manager: SnapshotManager, database: Database, clock: ManualClock
) -> None:
    base = run(manager.create_snapshot(database, "day 0"))
    for day in range(1, 5):
        clock.advance(timedelta(days=1).total_seconds())
        run(manager.create_incremental_snapshot(database, f"day {day}", base.id))

    gone = run(manager.apply_retention(RetentionRules(keep_daily=2)))

    assert len(gone) == 2
    assert _names(manager) == ["day 4", "day 3", "day 0"]


# ------------------------------------------------------------------ damage


def test_verify_looks_at_the_whole_chain_and_says_what_is_wrong(
    manager: SnapshotManager, database: Database, tmp_path: Path
) -> None:
    base = run(manager.create_snapshot(database, "base"))
    change(database, 1)
    snapshot = run(manager.create_incremental_snapshot(database, "inc", base.id))
    assert run(manager.verify_snapshot(snapshot.id)) is True
    flip_byte(tmp_path / "snapshots" / f"snapshot-{base.id}" / "vectors.bin.gz", -1)

    report = run(manager.check_snapshot(snapshot.id))

    assert run(manager.verify_snapshot(snapshot.id)) is False
    assert report.chain == (snapshot.id, base.id)
    assert f"snapshot-{base.id}/vectors.bin.gz" in report.problem


def test_a_missing_base_is_reported(manager: SnapshotManager, database: Database, tmp_path: Path) -> None:
    base = run(manager.create_snapshot(database, "base"))
    snapshot = run(manager.create_incremental_snapshot(database, "inc", base.id))
    (tmp_path / "snapshots" / f"snapshot-{base.id}" / "checksum.sha256").unlink()

    assert not run(manager.verify_snapshot(snapshot.id))
    with pytest.raises(IntegrityError, match=base.id):
        run(manager.restore_snapshot(snapshot.id, tmp_path / "r"))


def test_a_newer_format_is_unsupported_not_damaged(
    manager: SnapshotManager, database: Database, tmp_path: Path
) -> None:
    snapshot = run(manager.create_snapshot(database, "one"))
    path = tmp_path / "snapshots" / f"snapshot-{snapshot.id}" / "metadata.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))

    with pytest.raises(FormatVersionError, match="format 2"):
        run(manager.verify_snapshot(snapshot.id))


def test_records_that_are_intact_but_not_those_of_the_snapshot_are_not_restored(
    manager: SnapshotManager, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a codec that loses something would do: files agree with themselves, the records are others."""

    def other(*arguments: Any) -> Any:
        found = digest_rows(*arguments)
        return found._replace(fingerprint=found.fingerprint + found.fingerprint)

    with monkeypatch.context() as patch:
        patch.setattr("recollect.compat.ruvector.capture.digest_rows", other)
        snapshot = run(manager.create_snapshot(database, "one"))

    with pytest.raises(VerificationError, match="fingerprint"):
        run(manager.restore_snapshot(snapshot.id, tmp_path / "r"))
    assert not (tmp_path / "r").exists()
    assert not run(manager.verify_snapshot(snapshot.id))
