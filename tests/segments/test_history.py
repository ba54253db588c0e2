"""Runs of changes against a dictionary: whatever happened, reading the runs gives the last state."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect.errors import StorageFullError
from recollect.policy.compaction import CompactionLimits
from recollect.repository.repository import Repository
from recollect.segments import reader
from recollect.segments.compact import compact_runs
from recollect.segments.compare import Comparison, changes_between, changes_from_feed, tombstones
from recollect.segments.reader import RunsReader
from recollect.segments.writer import write_run
from recollect.testing.model import State, changes_of, state_of
from recollect.testing.records import Row, build_records
from recollect.testing.strategies import SOME_VECTORS, histories
from recollect.values import batch as columns
from recollect.values.digest import digest_records
from recollect.values.fingerprint import Fingerprint, fingerprint_batch
from recollect.values.snapshot import Run

pytestmark = pytest.mark.usefixtures("small_segments")

NewRepository = Callable[[], Repository]


def upserts(rows: list[Row]) -> Iterator[pa.RecordBatch]:
    """Yield records as a digested scan does, a few rows at a time."""
    changes = digest_records(build_records(SOME_VECTORS, rows), SOME_VECTORS)
    return columns.rebatch(iter([changes]), rows_max=3)


def model_of(rows: list[Row]) -> State:
    return state_of([build_records(SOME_VECTORS, rows)], SOME_VECTORS)


class History:
    """A repository with one run for each state, and what the readers say of it."""

    def __init__(self, repository: Repository, executor: Executor) -> None:
        self.repository = repository
        self.executor = executor
        self.runs: tuple[Run, ...] = ()
        self.totals = Comparison()

    def reader(self) -> RunsReader:
        return RunsReader(self.repository, SOME_VECTORS, self.runs)

    def record(self, rows: list[Row]) -> Run:
        """Store what leads from the last state to this one; returns the run."""
        self.totals = Comparison()
        changes = changes_between(self.reader().index(), upserts(rows), SOME_VECTORS, self.totals)
        return self.append(changes)

    def append(self, changes: Iterator[pa.RecordBatch]) -> Run:
        run = write_run(changes, SOME_VECTORS, self.repository, executor=self.executor).run
        self.runs = (*self.runs, run) if run else self.runs
        return run

    def state(self) -> State:
        return state_of(self.reader().records(), SOME_VECTORS)

    def fingerprint(self) -> Fingerprint:
        total = Fingerprint()
        for batch in self.reader().index():
            total += fingerprint_batch(batch)
        return total


def of_rows(rows: list[Row]) -> Fingerprint:
    return fingerprint_batch(digest_records(build_records(SOME_VECTORS, rows), SOME_VECTORS))


@settings(max_examples=30)
@given(history=histories())
def test_reading_the_runs_gives_exactly_each_state_in_turn(
    history: list[list[Row]], new_repository: NewRepository, executor: Executor
) -> None:
    written = History(new_repository(), executor)
    before: State = {}
    for rows in history:
        written.record(rows)

        now = model_of(rows)
        assert written.state() == now
        assert written.fingerprint() == of_rows(rows)
        totals = written.totals
        assert (totals.added, totals.changed, totals.removed) == changes_of(before, now)
        assert totals.after == totals.derived == of_rows(rows)
        before = now


@settings(max_examples=20)
@given(history=histories())
def test_every_older_state_stays_readable_from_the_runs_it_had(
    history: list[list[Row]], new_repository: NewRepository, executor: Executor
) -> None:
    written = History(new_repository(), executor)
    kept = []
    for rows in history:
        written.record(rows)
        kept.append((written.runs, model_of(rows)))

    for runs, state in kept:
        reader = RunsReader(written.repository, SOME_VECTORS, runs)
        assert state_of(reader.records(), SOME_VECTORS) == state


@settings(max_examples=30)
@given(history=histories(max_states=6), data=st.data())
def test_merging_any_neighbours_keeps_the_meaning(
    history: list[list[Row]], data: st.DataObject, new_repository: NewRepository, executor: Executor
) -> None:
    written = History(new_repository(), executor)
    for rows in history:
        written.record(rows)
    state = written.state()
    while len(written.runs) > 1 and data.draw(st.booleans()):
        start = data.draw(st.integers(0, len(written.runs) - 1))
        end = data.draw(st.integers(start + 1, len(written.runs)))
        merged = RunsReader(written.repository, SOME_VECTORS, written.runs[start:end])
        drops = start == 0 and data.draw(st.booleans())
        changes = merged.live_changes() if drops else merged.changes()
        run = write_run(changes, SOME_VECTORS, written.repository, executor=executor).run
        written.runs = (*written.runs[:start], *([run] if run else []), *written.runs[end:])

        assert written.state() == state
        assert written.fingerprint() == of_rows(history[-1])


@settings(max_examples=20)
@given(
    history=histories(max_states=8),
    runs_max=st.integers(2, 4),
    shares=st.tuples(st.sampled_from([0.0, 0.5, 9.0]), st.sampled_from([0.0, 0.5, 99.0])),
)
def test_compaction_after_every_change_keeps_the_meaning_and_its_limits(
    history: list[list[Row]],
    runs_max: int,
    shares: tuple[float, float],
    new_repository: NewRepository,
    executor: Executor,
) -> None:
    limits = CompactionLimits(runs_max=runs_max, dead_share_max=shares[0], delta_share_max=shares[1])
    written = History(new_repository(), executor)
    for rows in history:
        written.record(rows)
        written.runs = compact_runs(
            written.runs, SOME_VECTORS, written.repository, executor=executor, limits=limits
        ).runs

        assert written.state() == model_of(rows)
        assert len(written.runs) <= runs_max


@settings(max_examples=30)
@given(history=histories(max_states=3), data=st.data())
def test_a_feed_of_changes_gives_what_a_comparison_gives(
    history: list[list[Row]], data: st.DataObject, new_repository: NewRepository, executor: Executor
) -> None:
    *earlier, new = history
    scanned, fed = (History(new_repository(), executor) for _ in range(2))
    for rows in earlier:
        scanned.record(rows)
        fed.record(rows)
    old_state, new_state = scanned.state(), model_of(new)
    idle = st.lists(st.sampled_from(sorted(new_state)), unique=True) if new_state else st.just([])
    named = {key for key, fields in new_state.items() if old_state.get(key) != fields}
    named |= set(data.draw(idle, label="records that did not change"))
    gone = set(old_state) - set(new_state)
    gone |= set(data.draw(st.sets(st.sampled_from([b"\x100", b"\x30zz"])), label="deletes of nothing"))

    scanned_run = scanned.record(new)
    totals = Comparison()
    feed = feed_of(new, named, gone)
    changes = changes_from_feed(fed.reader().index(), feed, SOME_VECTORS, totals)
    fed_run = fed.append(changes)

    assert fed.state() == new_state
    assert stored_changes(fed, fed_run) == stored_changes(scanned, scanned_run)
    assert totals.changes == scanned.totals.changes
    assert totals.before == scanned.totals.before
    assert totals.after == of_rows(new)


def stored_changes(written: History, run: Run) -> list[tuple[object, ...]]:
    """Return what a run says of each key, and which values it stores, whatever its segments are."""
    found: list[tuple[object, ...]] = []
    for batch in RunsReader(written.repository, SOME_VECTORS, (run,)).changes():
        told = [batch.column(name).to_pylist() for name in columns.index_schema(SOME_VECTORS).names]
        values = [columns.value_column(name) for name in columns.digest_columns(SOME_VECTORS)]
        stored = [batch.column(name).is_valid().to_pylist() for name in values]
        found += zip(*told, *stored, strict=True)
    return found


def feed_of(rows: list[Row], named: set[bytes], gone: set[bytes]) -> Iterator[pa.RecordBatch]:
    """Yield upserts of the named records and deletes, ascending by key, a few at a time."""
    records = digest_records(build_records(SOME_VECTORS, rows), SOME_VECTORS)
    keys = records.column(columns.KEY).to_pylist()
    picked = [row for row, key in enumerate(keys) if key in named]
    deletes = tombstones(pa.array(sorted(gone), pa.binary()), SOME_VECTORS)
    joined = pa.concat_batches([records.take(pa.array(picked, pa.int64())), deletes]).sort_by(columns.KEY)
    return columns.rebatch(iter([joined]), rows_max=2)


def two_states(before: Row, after: Row, repository: Repository, executor: Executor) -> tuple[History, Run]:
    written = History(repository, executor)
    written.record([before, Row(id=9)])
    return written, written.record([after, Row(id=9)])


DENSE = [1.0, 2.0]
FULL = Row(id=1, payload={"a": 1}, vectors={"": DENSE, "words": {1: 0.5}, "many": [DENSE]})


def test_a_payload_update_stores_no_vector(new_repository: NewRepository, executor: Executor) -> None:
    after = Row(id=1, payload={"a": 2}, vectors=FULL.vectors)

    written, run = two_states(FULL, after, new_repository(), executor)

    assert [segment.vectors for segment in run] == [{}]
    assert [segment.row_count for segment in run] == [1]
    assert written.state() == model_of([after, Row(id=9)])


@pytest.mark.parametrize("name", ["", "words", "many"])
def test_a_changed_vector_is_stored_and_no_other(
    name: str, new_repository: NewRepository, executor: Executor
) -> None:
    others = {"": [3.0, 4.0], "words": {2: 0.5}, "many": [DENSE, DENSE]}
    after = Row(id=1, payload=FULL.payload, vectors={**FULL.vectors, name: others[name]})  # type: ignore[dict-item]

    written, run = two_states(FULL, after, new_repository(), executor)

    assert [set(segment.vectors) for segment in run] == [{name}]
    stored = RunsReader(written.repository, SOME_VECTORS, (run,)).changes()
    assert [batch.column(columns.PAYLOAD).null_count for batch in stored] == [1]


@pytest.mark.parametrize("name", ["", "words", "many"])
def test_a_field_that_becomes_absent_stores_nothing_and_is_gone(
    name: str, new_repository: NewRepository, executor: Executor
) -> None:
    rest = {other: value for other, value in FULL.vectors.items() if other != name}
    after = Row(id=1, payload=None, vectors=rest)

    written, run = two_states(FULL, after, new_repository(), executor)

    assert [segment.vectors for segment in run] == [{}]
    assert written.state() == model_of([after, Row(id=9)])
    written.record([FULL, Row(id=9)])
    assert written.state() == model_of([FULL, Row(id=9)])


def test_a_record_that_comes_back_after_a_delete_is_stored_whole(
    new_repository: NewRepository, executor: Executor
) -> None:
    written = History(new_repository(), executor)
    written.record([FULL, Row(id=9)])
    written.record([Row(id=9)])

    run = written.record([FULL, Row(id=9)])

    assert [set(segment.vectors) for segment in run] == [{"", "words", "many"}]
    without_base = RunsReader(written.repository, SOME_VECTORS, written.runs[1:])
    assert state_of(without_base.live_changes(), SOME_VECTORS) == model_of([FULL])


def test_an_unchanged_state_makes_no_run(new_repository: NewRepository, executor: Executor) -> None:
    written = History(new_repository(), executor)
    written.record([FULL, Row(id=9)])

    assert written.record([FULL, Row(id=9)]) == ()


def at_positions(rows: list[Row], *positions: int | None) -> Iterator[pa.RecordBatch]:
    [changes] = upserts(rows)
    place = changes.schema.get_field_index(columns.POSITION)
    yield changes.set_column(place, changes.schema.field(place), pa.array(positions, pa.uint64()))


def test_a_position_of_another_history_is_replaced_without_any_value(
    new_repository: NewRepository, executor: Executor
) -> None:
    """The next backup may go by positions; a stale one that comes up again would hide a change."""
    rows = [FULL, Row(id=9), Row(id=10)]
    written = History(new_repository(), executor)
    for positions in ((500, 7, 8), (5, 7, 9), (5, 7, 9), (None, 7, None)):
        totals = Comparison()
        scan = at_positions(rows, *positions)
        written.append(changes_between(written.reader().index(), scan, SOME_VECTORS, totals))
        if positions[0] != 500:
            assert totals.changes.total == 0

    assert len(written.runs) == 2, "equal positions and unknown ones are nothing new"
    assert [segment.row_count for segment in written.runs[1]] == [2]
    assert [segment.vectors for segment in written.runs[1]] == [{}]
    index = pa.Table.from_batches(written.reader().index())
    assert index.column(columns.POSITION).to_pylist() == [5, 7, 9]
    assert written.state() == model_of(rows)


def test_the_same_history_gives_the_same_objects(new_repository: NewRepository, executor: Executor) -> None:
    stores = []
    for _ in range(2):
        written = History(new_repository(), executor)
        written.record([FULL, Row(id=9)])
        written.record([Row(id=9), Row(id=10)])
        stores.append({item.key for item in written.repository.list_objects()})

    assert stores[0] == stores[1]


def test_indexes_that_are_too_large_for_memory_are_read_from_temporary_files(
    new_repository: NewRepository, executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    written = History(new_repository(), executor)
    written.record([FULL, *(Row(id=each) for each in range(9, 30))])
    written.record([FULL, *(Row(id=each, payload={"a": each}) for each in range(9, 40, 3))])
    held = written.state()
    monkeypatch.setattr(reader, "INDEX_BYTES_MAX", 0)

    assert written.state() == held
    assert list(tmp_path.iterdir()) == [], "the files have no name that a crash could leave"


def test_a_full_temporary_directory_is_reported(
    new_repository: NewRepository, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = History(new_repository(), executor)
    written.record([FULL])
    monkeypatch.setattr(reader, "INDEX_BYTES_MAX", 0)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", lambda **_: Path("/dev/full").open("wb"))  # noqa: SIM115

    with pytest.raises(StorageFullError, match="No space left"):
        written.state()


def test_a_scan_that_hands_out_a_record_twice_is_noticed(
    new_repository: NewRepository, executor: Executor
) -> None:
    written = History(new_repository(), executor)
    twice = [*upserts([FULL]), *upserts([FULL])]

    with pytest.raises(AssertionError, match="not sorted"):
        list(changes_between(written.reader().index(), iter(twice), SOME_VECTORS, Comparison()))
