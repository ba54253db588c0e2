"""Finding a record in all snapshots: every change of it, and nothing that did not change."""

from __future__ import annotations

import pytest

from recollect.errors import IntegrityError, NotFoundError
from recollect.operations import find
from recollect.operations.backup import BackupOptions
from recollect.repository import layout
from recollect.testing.driver import Driver
from recollect.testing.faults import READS, FaultPlan, FaultyStore
from recollect.testing.records import Row
from recollect.testing.strategies import SOME_VECTORS
from recollect.values.key import RecordId, encode_key


def look(driver: Driver, *ids: RecordId, collection: str = "") -> list[find.RecordHistory]:
    return find.run(driver.open(), driver.catalog().list(), ids, collection=collection)


def changes(history: find.RecordHistory) -> list[tuple[str, tuple[str, ...], int]]:
    return [(each.change, each.fields, len(each.snapshots)) for each in history.versions]


def row(payload: int, vector: float) -> Row:
    return Row(id=1, payload={"n": payload}, vectors={"": [vector, 1.0]})


@pytest.fixture
def changing(driver: Driver) -> Driver:
    """Return a driver whose record 1 comes, stays, changes in each way, goes, and comes back."""
    driver.create("docs", SOME_VECTORS, [Row(id=2)])
    driver.backup()
    for one in (row(1, 1.0), row(1, 1.0), row(2, 1.0), row(2, 5.0)):
        driver.upsert("docs", [one])
        driver.backup()
    driver.delete("docs", [1])
    driver.backup()
    driver.upsert("docs", [row(2, 5.0)])
    driver.backup(BackupOptions(compare="nothing"))
    return driver


def test_every_change_is_shown_with_what_changed(changing: Driver) -> None:
    (history,) = look(changing, 1)

    assert changes(history) == [
        ("absent", (), 1),
        ("added", (), 2),
        ("changed", ("payload",), 1),
        ("changed", ("vector:",), 1),
        ("removed", (), 1),
        ("added", (), 1),
    ]
    assert [each for version in history.versions for each in version.snapshots] == changing.catalog().ids()
    assert all(
        (version.first.id, version.last.id) == (version.snapshots[0], version.snapshots[-1])
        for version in history.versions
    )


def test_what_is_found_is_what_each_snapshot_restores(changing: Driver) -> None:
    (history,) = look(changing, 1)

    for version in history.versions:
        held = [encode_key(1) in changing.restored(identity)["docs"] for identity in version.snapshots]
        assert set(held) == {version.change not in {"absent", "removed"}}


def test_only_collections_that_ever_had_the_record_are_shown(filled: Driver) -> None:
    found = look(filled, 99, "a", 3, 424242)

    assert [(each.record_id, each.collection) for each in found] == [(99, "docs"), ("a", "more"), (3, "docs")]
    assert changes(found[1]) == [("added", (), 2), ("removed", (), 1)]


def test_one_collection_can_be_named(filled: Driver) -> None:
    assert [each.collection for each in look(filled, 3, "a", collection="more")] == ["more"]
    with pytest.raises(NotFoundError, match=r"no snapshot in .* has a collection 'nothing'"):
        look(filled, 3, collection="nothing")


def test_an_index_is_read_once_however_many_snapshots_list_it(filled: Driver) -> None:
    filled.backup()
    filled.backup()
    store = FaultyStore(filled.store, FaultPlan(faults=(), counted=READS))

    find.run(filled.open(store), filled.catalog().list(), [3])

    read = [each.key for each in store.operations if each.key.startswith(layout.OBJECTS)]
    indexes = {
        segment.index.digest
        for snapshot in filled.catalog().list()
        for entry in snapshot.collections
        if entry.name == "docs"
        for segment in entry.segments()
    }
    assert len(read) == len(set(read))
    assert {layout.object_digest(key) for key in read} <= indexes


def test_a_damaged_index_is_an_error_that_names_it(filled: Driver) -> None:
    segment = filled.catalog().list()[0].collections[0].segments()[0]
    key = layout.object_key(segment.index.digest)
    filled.store.put(key, filled.store.get(key)[:-1] + b"x")

    with pytest.raises(IntegrityError, match=segment.index.digest):
        look(filled, 3)
