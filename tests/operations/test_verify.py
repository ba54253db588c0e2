"""Verify: stored is what was written, or a live engine is what was stored; damage is named, never raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect.codec.document import seal_document
from recollect.codec.snapshot import encode_snapshot
from recollect.errors import NotFoundError, RequestError
from recollect.operations import verify
from recollect.operations.verify import Share, VerifyReport
from recollect.repository import layout
from recollect.testing.driver import Driver
from recollect.testing.faults import READS, FaultyStore
from recollect.testing.records import Row
from recollect.testing.strategies import SOME_VECTORS
from recollect.values.schema import CollectionSchema, VectorSpec
from recollect.values.snapshot import Snapshot


def harm(driver: Driver, key: str, kind: str) -> None:
    data = driver.store.get(key)
    if kind == "delete":
        driver.store.delete(key)
    elif kind == "cut":
        driver.store.put(key, data[:-1])
    elif kind == "grow":
        driver.store.put(key, data + b"\0")
    else:
        driver.store.put(key, data[:20] + bytes([data[20] ^ 1]) + data[21:])


def named(report: VerifyReport) -> set[tuple[str, str]]:
    return {(problem.kind, problem.what) for problem in report.problems}


def objects_of(snapshot: Snapshot) -> list[str]:
    return sorted({layout.object_key(reference.digest) for reference in snapshot.objects()})


def test_a_sound_repository_is_reported_as_such_with_what_was_read(filled: Driver) -> None:
    report = filled.verify()

    listed = {key for snapshot in filled.catalog().list() for key in objects_of(snapshot)}
    assert report.is_sound
    assert (report.snapshot_count, report.object_count, report.read_count) == (3, len(listed), len(listed))
    assert report.read_bytes == sum(filled.store.size(key) for key in listed)
    assert [check.name for check in report.collections] == ["docs", "more"]
    assert all(check.found == check.fingerprint for check in report.collections)


def test_verifying_changes_nothing(filled: Driver) -> None:
    before = {key: filled.store.get(key) for key in filled.stored_keys()}
    watched = FaultyStore(filled.store)

    verify.run(filled.open(watched), options=verify.VerifyOptions(share=Share()))

    assert {operation.name for operation in watched.operations} <= READS
    assert {key: filled.store.get(key) for key in filled.stored_keys()} == before


@pytest.mark.parametrize(
    ("kind", "problem", "depth"),
    [
        ("delete", "missing", None),
        ("cut", "size", None),
        ("grow", "size", None),
        ("flip", "damaged", Share()),
    ],
)
def test_every_harmed_object_is_named_with_the_snapshots_that_need_it(
    filled: Driver, kind: str, problem: str, depth: Share | None
) -> None:
    snapshots = filled.catalog().list()
    for key in sorted({key for snapshot in snapshots for key in objects_of(snapshot)}):
        data = filled.store.get(key)
        harm(filled, key, kind)

        report = filled.verify(share=depth)

        assert named(report) == {(problem, key)}
        users = {snapshot.id for snapshot in snapshots if key in objects_of(snapshot)}
        assert set(report.problems[0].snapshots) == users
        filled.store.put(key, data)


def test_several_harmed_things_are_all_named(filled: Driver) -> None:
    first, *_, last = filled.catalog().list()
    gone, damaged = objects_of(first)[0], objects_of(last)[-1]
    harm(filled, gone, "delete")
    harm(filled, damaged, "flip")
    harm(filled, layout.snapshot_key(filled.catalog().ids()[1]), "flip")

    report = filled.verify()

    broken_snapshot = layout.snapshot_key(sorted(filled.expected)[1])
    assert named(report) >= {("missing", gone), ("snapshot", broken_snapshot)}
    assert gone == damaged or ("damaged", damaged) in named(report)


def test_one_snapshot_is_judged_by_its_own_objects(filled: Driver) -> None:
    first, _, last = filled.catalog().list()
    only_last = set(objects_of(last)) - set(objects_of(first))
    harm(filled, min(only_last), "delete")

    assert filled.verify(first.id).is_sound
    assert not filled.verify(last.id).is_sound


@given(count=st.integers(1, 7), digests=st.lists(st.binary(min_size=32, max_size=32), max_size=20))
def test_every_object_is_in_exactly_one_share(count: int, digests: list[bytes]) -> None:
    for digest in digests:
        holding = [
            number for number in range(1, count + 1) if Share(number=number, count=count).holds(digest.hex())
        ]
        assert len(holding) == 1


def test_the_shares_together_read_every_object_once(filled: Driver) -> None:
    whole = filled.verify()

    parts = [filled.verify(share=Share(number=number, count=3)) for number in (1, 2, 3)]

    assert sum(part.read_count for part in parts) == whole.read_count
    assert sum(part.read_bytes for part in parts) == whole.read_bytes


def commit_as(driver: Driver, snapshot: Snapshot, **changes: Any) -> str:
    """Write a changed snapshot under a new id, as a bug of another release might."""
    forged = msgspec.structs.replace(snapshot, id="7" + "0" * 25, **changes)
    driver.store.put(layout.snapshot_key(forged.id), seal_document(encode_snapshot(forged)))
    return forged.id


def test_records_that_do_not_fit_the_fingerprint_are_found(filled: Driver) -> None:
    latest = filled.catalog().find("latest")
    entries = [msgspec.structs.replace(entry, fingerprint="0-" + "0" * 64) for entry in latest.collections]

    report = filled.verify(commit_as(filled, latest, collections=tuple(entries)))

    assert [check.is_match for check in report.collections] == [False, False]
    assert not report.is_sound


def test_a_run_that_misses_a_promised_value_is_found(filled: Driver) -> None:
    latest = filled.catalog().find("latest")
    [docs] = [entry for entry in latest.collections if entry.name == "docs"]
    assert len(docs.runs) > 1
    cut = msgspec.structs.replace(docs, runs=docs.runs[1:])

    report = filled.verify(commit_as(filled, latest, collections=(cut,)))

    assert not report.is_sound


def test_snapshots_and_objects_of_a_newer_format_are_unsupported_not_corrupt(filled: Driver) -> None:
    identity = commit_as(filled, filled.catalog().find("latest"), format=2)

    report = filled.verify()

    assert named(report) == {("unsupported", layout.snapshot_key(identity))}
    assert "format 2" in report.problems[0].message


def test_foreign_files_are_named(filled: Driver) -> None:
    filled.store.put("objects/ab/notes.txt", b"hello")
    filled.store.put("snapshots/notes.json", b"{}")

    assert {what for _, what in named(filled.verify())} == {"objects/ab/notes.txt", "snapshots/notes.json"}


def test_an_unknown_snapshot_is_not_found(filled: Driver) -> None:
    with pytest.raises(NotFoundError, match="3 snapshots"):
        filled.verify("nothing")


# ---------------------------------------------------------------- tags


@pytest.mark.parametrize("kind", ["flip", "cut"])
@pytest.mark.parametrize("revision", [1, 2, 3])
def test_damage_to_any_revision_of_tags_is_named(filled: Driver, kind: str, revision: int) -> None:
    identity = filled.catalog().ids()[0]
    for tag in ("a", "b", "c"):
        filled.catalog().tag(identity, add=[tag])
    key = layout.tags_key(identity, revision)
    harm(filled, key, kind)

    report = filled.verify(share=None)

    assert not report.is_sound
    assert any(key in problem.message for problem in report.problems)


def test_exchanged_revisions_of_tags_are_named(filled: Driver) -> None:
    identity = filled.catalog().ids()[0]
    for tag in ("a", "b"):
        filled.catalog().tag(identity, add=[tag])
    keys = [layout.tags_key(identity, revision) for revision in (1, 2)]
    first, second = (filled.store.get(key) for key in keys)
    filled.store.put(keys[0], second)
    filled.store.put(keys[1], first)

    report = filled.verify(share=None)

    assert not report.is_sound
    assert any(keys[1] in problem.message for problem in report.problems)


# ---------------------------------------------------------------- against a live engine


def against(driver: Driver, selector: str = "latest", *names: str) -> VerifyReport:
    return verify.against(driver.open(), driver.catalog().find(selector), driver.engine, collections=names)


def test_an_unchanged_engine_matches(filled: Driver) -> None:
    report = against(filled)

    assert report.is_sound
    assert [check.name for check in report.collections] == ["docs", "more"]


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (lambda driver: driver.upsert("docs", [Row(id=3, payload={"n": "other"})]), (0, 1, 0)),
        (lambda driver: driver.upsert("docs", [Row(id=777)]), (1, 0, 0)),
        (lambda driver: driver.delete("docs", [1, 2]), (0, 0, 2)),
        (
            lambda driver: driver.upsert("docs", [Row(id=4, payload={"n": 4}, vectors={"": [1.0, -4.0]})]),
            (0, 1, 0),
        ),
    ],
)
def test_every_difference_to_the_live_engine_is_counted(
    filled: Driver, change: Callable[[Driver], None], counts: tuple[int, int, int]
) -> None:
    change(filled)

    report = against(filled)

    [docs, more] = report.collections
    assert not report.is_sound
    assert (docs.changes.added, docs.changes.changed, docs.changes.removed) == counts
    assert docs.found != docs.fingerprint
    assert more.is_match


def test_a_collection_that_is_gone_or_of_other_vectors_is_a_problem(filled: Driver) -> None:
    filled.engine.drop("more")
    filled.create("docs", CollectionSchema(vectors=(VectorSpec(name="", dimension=9, metric="dot"),)))

    report = against(filled)

    assert named(report) == {("missing", "more"), ("fingerprint", "docs")}
    assert not report.is_sound


def test_only_the_chosen_collections_are_compared(filled: Driver) -> None:
    filled.engine.drop("more")

    assert against(filled, "latest", "docs").is_sound
    with pytest.raises(RequestError, match="docs, more"):
        against(filled, "latest", "nothing")


def test_an_empty_collection_matches_an_empty_one(driver: Driver) -> None:
    driver.create("c", SOME_VECTORS)
    driver.backup()

    assert against(driver).is_sound
    assert driver.verify().is_sound
