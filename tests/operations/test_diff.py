"""Diff: which records differ, between snapshots and live engines, against dictionaries."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from recollect.errors import NotFoundError
from recollect.operations import diff
from recollect.operations.diff import CollectionDifference, LiveSide, RecordDifference, Side, SnapshotSide
from recollect.testing.driver import Driver, States
from recollect.testing.model import State
from recollect.testing.records import Row
from recollect.testing.strategies import SOME_VECTORS, histories
from recollect.values.key import decode_key, encode_key
from recollect.values.schema import CollectionSchema, VectorSpec

FIELDS = ("payload", "vector:", "vector:many", "vector:words")


def between(
    driver: Driver, before: str, after: str, *names: str
) -> tuple[list[CollectionDifference], list[RecordDifference]]:
    """Diff two snapshots; "live" means the engine."""
    records: list[RecordDifference] = []
    with driver.engine.hold() as view:
        live = LiveSide(driver.engine, view)
        sides: list[Side] = [
            live if side == "live" else SnapshotSide(driver.open(), driver.catalog().find(side))
            for side in (before, after)
        ]
        return diff.run(*sides, collections=names, on_record=records.append), records


def expected_records(name: str, old: State, new: State) -> list[RecordDifference]:
    found = []
    for key in sorted(old.keys() | new.keys()):
        if key not in old:
            found.append(RecordDifference(collection=name, record_id=decode_key(key), change="added"))
        elif key not in new:
            found.append(RecordDifference(collection=name, record_id=decode_key(key), change="removed"))
        elif old[key] != new[key]:
            differing = tuple(field for field in FIELDS if old[key].get(field) != new[key].get(field))
            found.append(
                RecordDifference(
                    collection=name, record_id=decode_key(key), change="changed", fields=differing
                )
            )
    return found


@settings(max_examples=30)
@given(history=histories(max_states=3))
def test_records_and_counts_are_those_of_the_dictionaries(history: list[list[Row]]) -> None:
    driver = Driver()
    driver.init()
    states: list[States] = []
    for rows in history:
        driver.create("c", SOME_VECTORS, rows)
        driver.backup()
        states.append(driver.live())
    first, last = states[0]["c"], states[-1]["c"]

    for sides in ((f"latest~{len(history) - 1}", "latest"), (f"latest~{len(history) - 1}", "live")):
        [found], records = between(driver, *sides)

        assert records == expected_records("c", first, last)
        assert found.changes.total == len(records)
        assert found.state == ("changed" if first != last else "same")
        assert (found.fingerprint_before == found.fingerprint_after) == (first == last)


def test_the_other_way_round_added_and_removed_change_places(filled: Driver) -> None:
    there, _ = between(filled, "latest~2", "latest")
    back, _ = between(filled, "latest", "latest~2")

    for forth, reverse in zip(there, back, strict=True):
        assert (forth.changes.added, forth.changes.removed) == (
            reverse.changes.removed,
            reverse.changes.added,
        )
        assert forth.changes.changed == reverse.changes.changed
        assert (forth.fingerprint_before, forth.fingerprint_after) == (
            reverse.fingerprint_after,
            reverse.fingerprint_before,
        )


def test_a_snapshot_does_not_differ_from_itself_or_from_its_source(filled: Driver) -> None:
    for sides in (("latest", "latest"), ("latest", "live"), ("live", "latest"), ("live", "live")):
        found, records = between(filled, *sides)

        assert [each.state for each in found] == ["same", "same"]
        assert records == []


def test_collections_that_came_went_or_were_made_anew_are_told_apart(filled: Driver) -> None:
    filled.engine.drop("more")
    filled.create("fresh", SOME_VECTORS, [Row(id=1), Row(id=2)])
    filled.create(
        "docs", CollectionSchema(vectors=(VectorSpec(name="", dimension=9, metric="dot"),)), [Row(id=1)]
    )

    found, records = between(filled, "latest", "live")

    by_name = {each.name: each for each in found}
    assert {name: each.state for name, each in by_name.items()} == {
        "docs": "recreated",
        "fresh": "added",
        "more": "removed",
    }
    assert "dimension 9, expected 2" in by_name["docs"].reason
    assert by_name["fresh"].changes.added == 2
    assert by_name["fresh"].fingerprint_before == ""
    assert by_name["more"].changes.removed == 1
    assert by_name["more"].fingerprint_after == ""
    assert {(each.collection, each.change) for each in records} == {("fresh", "added"), ("more", "removed")}


def test_only_the_chosen_collections_are_compared(filled: Driver) -> None:
    found, _ = between(filled, "latest~2", "latest", "more")

    assert [each.name for each in found] == ["more"]


def test_an_unknown_collection_is_refused_with_those_that_exist(filled: Driver) -> None:
    with pytest.raises(NotFoundError, match="docs, more"):
        between(filled, "latest", "live", "nothing")


def test_records_come_in_key_order_across_batches(driver: Driver) -> None:
    rows = [Row(id=each, payload={"n": each}) for each in range(20_000)]
    driver.create("c", CollectionSchema(), rows)
    driver.backup()
    driver.delete("c", range(0, 20_000, 3))
    driver.upsert("c", [Row(id=each, payload={"n": -1}) for each in range(1, 20_000, 3)])
    driver.upsert("c", [Row(id=each) for each in range(30_000, 30_010)])

    [found], records = between(driver, "latest", "live")

    keys = [encode_key(each.record_id) for each in records]
    assert keys == sorted(keys)
    assert found.changes.total == len(records) == 6667 + 6667 + 10
