"""Backup: what changed is stored, nothing else, and a snapshot exists only when all of it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from recollect.clock import ManualClock
from recollect.engines.base import Capabilities
from recollect.engines.memory import MemoryEngine, MemoryView
from recollect.errors import IntegrityError, NotFoundError, UnavailableError
from recollect.operations import backup
from recollect.operations.backup import BackupOptions
from recollect.policy.compaction import CompactionLimits
from recollect.repository import layout
from recollect.testing.driver import Driver
from recollect.testing.records import Row
from recollect.testing.strategies import EVERY_VECTOR, SOME_VECTORS, collections
from recollect.values.event import Event, Note, Progress
from recollect.values.schema import CollectionSchema, VectorSpec

VECTOR_BYTES = 64 * 4


WideRow = Callable[..., Row]


def test_a_snapshot_is_the_only_thing_that_a_backup_of_unchanged_records_adds(wide: Driver) -> None:
    before = set(wide.stored_keys())

    report = wide.backup()

    added = set(wide.stored_keys()) - before
    assert added == {layout.snapshot_key(report.snapshot.id)}
    assert report.stored_bytes == wide.store.size(added.pop())
    assert report.snapshot.collections[0].changes.total == 0
    wide.assert_sound()


def test_a_snapshot_from_a_clock_that_was_ahead_is_pointed_out(wide: Driver) -> None:
    behind = Driver(
        wide.store, engine=wide.engine, clock=ManualClock(wide.clock.now() - timedelta(days=1)), seed=5
    )
    ahead = wide.catalog().find("latest")
    notes: list[Event] = []

    backup.run(
        wide.engine,
        behind.open(),
        options=BackupOptions(),
        clock=behind.clock,
        random_bytes=behind.random_bytes,
        on_event=notes.append,
    )

    assert wide.catalog().find("latest").id == ahead.id
    assert [ahead.id in note.message for note in notes if isinstance(note, Note)] == [True]


def test_payload_updates_store_their_payloads_and_no_vector(wide: Driver, wide_row: WideRow) -> None:
    wide.upsert("wide", [wide_row(each, payload=1) for each in range(0, 400, 10)])

    report = wide.backup()

    [entry] = report.snapshot.collections
    assert [segment.vectors for segment in entry.runs[-1]] == [{}]
    assert entry.changes.changed == 40
    assert report.stored_bytes < 40 * VECTOR_BYTES
    wide.assert_sound()


def test_a_backup_stores_what_changed_and_counts_it(wide: Driver, wide_row: WideRow) -> None:
    wide.delete("wide", [1, 2, 3])
    wide.upsert("wide", [wide_row(each) for each in (500, 501)])
    wide.upsert("wide", [Row(id=10, payload={"n": 0}, vectors={"v": [0.0] * 64})])

    report = wide.backup()

    [entry] = report.snapshot.collections
    counts = (entry.changes.added, entry.changes.changed, entry.changes.removed)
    assert counts == (2, 1, 3)
    assert entry.record_count == 399
    assert [segment.row_count for segment in entry.runs[-1]] == [6]
    assert report.stored_bytes < 400 * VECTOR_BYTES / 10
    wide.assert_sound()


@pytest.mark.parametrize("compare", ["changes", "scan", "nothing"])
def test_every_way_of_comparing_gives_the_same_state(wide: Driver, compare: Any, wide_row: WideRow) -> None:
    wide.upsert("wide", [wide_row(7, payload=1)])

    report = wide.backup(BackupOptions(compare=compare))

    assert wide.restored(report.snapshot.id) == wide.live()
    assert (report.snapshot.parent is None) == (compare == "nothing")


@settings(max_examples=25)
@given(before=collections(EVERY_VECTOR), after=collections(EVERY_VECTOR))
def test_any_two_states_are_stored_and_restored_exactly(before: list[Row], after: list[Row]) -> None:
    driver = Driver()
    driver.init()
    driver.create("c", EVERY_VECTOR, before)
    driver.backup()
    driver.create("c", EVERY_VECTOR, after)
    driver.backup()

    driver.assert_sound()


def test_an_engine_without_order_gives_the_same_objects(wide: Driver) -> None:
    unordered = MemoryEngine("driven", capabilities=Capabilities(point_in_time=True, ordered_scan=False))
    unordered.adopt("wide", wide.engine)
    before = set(wide.stored_keys())
    wide.engine = unordered

    report = wide.backup(BackupOptions(compare="nothing"))

    assert set(wide.stored_keys()) - before == {layout.snapshot_key(report.snapshot.id)}
    wide.assert_sound()


def test_empty_collections_are_kept_as_collections(driver: Driver) -> None:
    driver.create("c", SOME_VECTORS)
    driver.backup()
    driver.upsert("c", [Row(id=1)])
    driver.backup()
    driver.delete("c", [1])
    report = driver.backup()

    assert report.snapshot.collections[0].record_count == 0
    assert driver.restored("latest") == {"c": {}}
    driver.assert_sound()


def test_a_collection_that_was_made_anew_with_other_vectors_is_stored_in_full(driver: Driver) -> None:
    driver.create("c", SOME_VECTORS, [Row(id=1, vectors={"": [1.0, 2.0]})])
    driver.backup()
    other = CollectionSchema(vectors=(VectorSpec(name="", dimension=3, metric="dot"),))
    driver.create("c", other, [Row(id=1, vectors={"": [1.0, 2.0, 3.0]})])
    events: list[Event] = []

    report = backup.run(
        driver.engine,
        driver.open(),
        options=BackupOptions(),
        clock=driver.clock,
        random_bytes=driver.random_bytes,
        on_event=events.append,
    )
    driver.note_commits()

    notes = [event.message for event in events if isinstance(event, Note)]
    assert "stored in full" in notes[0]
    assert "dimension 3, expected 2" in notes[0]
    assert report.snapshot.collections[0].changes.added == 1
    driver.assert_sound()


def test_progress_tells_how_many_records_were_read(wide: Driver, wide_row: WideRow) -> None:
    events: list[Event] = []
    wide.create("wide", wide.schema("wide"), [wide_row(each) for each in range(50)])

    backup.run(
        wide.engine,
        wide.open(),
        options=BackupOptions(compare="nothing"),
        clock=wide.clock,
        random_bytes=wide.random_bytes,
        on_event=events.append,
    )

    assert [event for event in events if isinstance(event, Progress)][-1].done == 50


def test_chosen_collections_are_found_by_name_and_alias(filled: Driver) -> None:
    filled.engine.create("prod", SOME_VECTORS, aliases=("live",))

    report = filled.backup(BackupOptions(collections=("live", "docs", "prod")))

    assert [entry.name for entry in report.snapshot.collections] == ["docs", "prod"]
    assert report.snapshot.collections[1].aliases == ("live",)


def test_the_parent_of_a_collection_is_its_newest_state_even_if_the_last_snapshot_lacks_it(
    wide: Driver,
) -> None:
    wide.create("other", SOME_VECTORS, [Row(id=1)])
    wide.backup(BackupOptions(collections=("other",)))
    before = set(wide.stored_keys())

    report = wide.backup()

    assert set(wide.stored_keys()) - before == {layout.snapshot_key(report.snapshot.id)}


def test_sources_do_not_see_each_others_snapshots(wide: Driver, wide_row: WideRow) -> None:
    wide.engine = MemoryEngine("another")
    wide.create("wide", wide_schema(), [wide_row(1)])

    report = wide.backup()

    assert report.snapshot.parent is None
    assert report.snapshot.collections[0].changes.added == 1


def wide_schema() -> CollectionSchema:
    return CollectionSchema(vectors=(VectorSpec(name="v", dimension=64, metric="dot"),))


def test_an_unknown_collection_is_refused_before_anything_is_written(filled: Driver) -> None:
    before = filled.stored_keys()

    with pytest.raises(NotFoundError, match="docs, more"):
        filled.backup(BackupOptions(collections=("docs", "nothing")))

    assert filled.stored_keys() == before


def test_a_source_without_collections_is_refused(driver: Driver) -> None:
    before = driver.stored_keys()

    with pytest.raises(NotFoundError, match="no collections"):
        driver.backup()

    assert driver.stored_keys() == before


def test_many_rounds_stay_exact_and_list_a_bounded_number_of_runs(wide: Driver, wide_row: WideRow) -> None:
    random = np.random.default_rng(3)
    full_bytes = sum(wide.store.size(key) for key in wide.stored_keys())
    for turn in range(25):
        chosen = random.choice(450, 6, replace=False).tolist()
        wide.upsert("wide", [wide_row(each, payload=turn + 1) for each in chosen[:4]])
        wide.delete("wide", chosen[4:])
        report = wide.backup(BackupOptions(limits=CompactionLimits(runs_max=5)))
        assert len(report.snapshot.collections[0].runs) <= 5

    wide.assert_sound()
    assert sum(wide.store.size(key) for key in wide.stored_keys()) < 3 * full_bytes


def test_a_damaged_parent_stops_the_backup_and_a_full_one_goes_round_it(wide: Driver) -> None:
    [entry] = wide.catalog().find("latest").collections
    key = layout.object_key(entry.runs[0][0].index.digest)
    data = bytearray(wide.store.get(key))
    data[len(data) // 2] ^= 1
    wide.store.put(key, bytes(data))
    before = wide.stored_keys()

    with pytest.raises(IntegrityError):
        wide.backup()
    assert wide.stored_keys() == before

    wide.backup(BackupOptions(compare="nothing"))
    wide.assert_sound()  # the damaged object is written anew, since the full backup needs the same bytes


class FailingEngine(MemoryEngine):
    """An engine that goes away, or a user who does, after some batches of a scan."""

    def __init__(self, inner: MemoryEngine, error: BaseException, *, batches: int) -> None:
        super().__init__("driven")
        self._inner = inner
        self._error = error
        self._batches = batches

    @contextmanager
    def hold(self) -> Iterator[MemoryView]:
        with self._inner.hold() as view:
            yield FailingView(view, self._error, self._batches)


class FailingView(MemoryView):
    def __init__(self, inner: MemoryView, error: BaseException, batches: int) -> None:
        super().__init__(inner._collections, inner._capabilities)
        self._error = error
        self._batches = batches

    def scan(self, name: str, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(super().scan(name, batch_rows=min(batch_rows, 100))):
            if number == self._batches:
                raise self._error
            yield batch


@pytest.mark.parametrize("order", [[0, 2, 1], [0, 1, 1], [2, 1, 0]])
@pytest.mark.parametrize("batch_rows", [1, 3])
def test_an_engine_that_breaks_the_order_it_promised_is_found_out(
    driver: Driver, order: list[int], batch_rows: int
) -> None:
    driver.create("c", SOME_VECTORS, [Row(id=each) for each in range(3)])
    driver.engine = DisorderedEngine(driver.engine, order, batch_rows)

    with pytest.raises(IntegrityError, match="out of key order"):
        driver.backup()

    assert driver.catalog().ids() == []


class DisorderedEngine(MemoryEngine):
    def __init__(self, inner: MemoryEngine, order: list[int], batch_rows: int) -> None:
        super().__init__("driven")
        self._inner, self._order, self._batch_rows = inner, order, batch_rows

    @contextmanager
    def hold(self) -> Iterator[MemoryView]:
        with self._inner.hold() as view:
            yield DisorderedView(view, self._order, self._batch_rows)


class DisorderedView(MemoryView):
    def __init__(self, inner: MemoryView, order: list[int], batch_rows: int) -> None:
        super().__init__(inner._collections, inner._capabilities)
        self._order, self._batch_rows = order, batch_rows

    def scan(self, name: str, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        whole = pa.Table.from_batches(super().scan(name, batch_rows=batch_rows)).take(self._order)
        yield from whole.combine_chunks().to_batches(max_chunksize=self._batch_rows)


@pytest.mark.parametrize("error", [UnavailableError("the engine went away"), KeyboardInterrupt()])
@pytest.mark.parametrize("batches", [0, 1, 3])
def test_a_scan_that_ends_early_commits_nothing_and_gives_its_lease_back(
    wide: Driver, error: BaseException, batches: int, wide_row: WideRow
) -> None:
    engine = wide.engine
    wide.upsert("wide", [wide_row(each, payload=5) for each in range(400)])
    wide.engine = FailingEngine(engine, error, batches=batches)
    snapshots = wide.catalog().ids()

    with pytest.raises(type(error)):
        wide.backup()

    assert wide.catalog().ids() == snapshots
    assert not [key for key in wide.stored_keys() if key.startswith((layout.LEASES, layout.FENCES))]
    wide.engine = engine
    wide.backup()
    wide.assert_sound()


def test_backups_in_a_row_keep_their_order_and_know_their_parent(filled: Driver) -> None:
    first = filled.backup().snapshot
    filled.upsert("docs", [Row(id=1000)])
    second = filled.backup().snapshot

    assert [snapshot.id for snapshot in filled.catalog().list()][-2:] == [first.id, second.id]
    assert second.parent == first.id


def test_the_report_counts_uncompressed_bytes_of_the_source(driver: Driver, wide_row: WideRow) -> None:
    driver.create("c", wide_schema(), [wide_row(each) for each in range(100)])

    report = driver.backup()

    per_record = 9 + VECTOR_BYTES + len(b'{"n":0}')
    assert report.source_bytes == pytest.approx(100 * per_record, rel=0.1)
    assert report.snapshot.collections[0].source_bytes == report.source_bytes
