"""The external sort: any order in, key order out, in files that nobody else sees."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect.errors import IntegrityError, StorageFullError
from recollect.segments import sort
from recollect.segments.sort import sorted_by_key
from recollect.testing.model import state_of
from recollect.testing.records import Row, build_records
from recollect.testing.strategies import EVERY_VECTOR, collections
from recollect.values import batch as columns
from recollect.values.key import RecordId, encode_keys


def in_batches(records: pa.RecordBatch, order: list[int], sizes: list[int]) -> Iterator[pa.RecordBatch]:
    """Hand out rows in an order, cut into batches of these sizes over and over."""
    shuffled = records.take(pa.array(order, pa.int64()))
    start, turn = 0, 0
    while start < shuffled.num_rows:
        size = sizes[turn % len(sizes)]
        yield shuffled.slice(start, size)
        start, turn = start + size, turn + 1


@settings(max_examples=30)
@given(
    collections(EVERY_VECTOR),
    st.randoms(use_true_random=False),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sampled_from([1, 300, 10**9]),
)
def test_rows_come_out_whole_and_ascending(
    rows: list[Row], chance: random.Random, sizes: list[int], spill_bytes: int
) -> None:
    records = build_records(EVERY_VECTOR, rows)
    order = list(range(len(rows)))
    chance.shuffle(order)

    found = list(sorted_by_key(in_batches(records, order, sizes), spill_bytes=spill_bytes))

    keys = [key for batch in found for key in batch.column(columns.KEY).to_pylist()]
    assert keys == sorted(keys)
    assert state_of(found, EVERY_VECTOR) == state_of([records], EVERY_VECTOR)
    assert all(batch.schema == records.schema for batch in found)


@pytest.mark.parametrize("spill_bytes", [1, 10**9])
@pytest.mark.parametrize("batch_rows", [1, 2, 10])
@pytest.mark.parametrize("twin", [0, 3, 5])
def test_a_record_that_comes_twice_is_refused(spill_bytes: int, batch_rows: int, twin: int) -> None:
    ids: list[RecordId] = [5, 3, 1, 0, 2, 4, twin]
    batch = pa.RecordBatch.from_arrays([encode_keys(ids)], names=[columns.KEY])

    with pytest.raises(IntegrityError, match="twice"):
        list(sorted_by_key(in_batches(batch, list(range(7)), [batch_rows]), spill_bytes=spill_bytes))


def test_more_runs_than_are_merged_at_once_become_longer_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sort, "FAN_IN_MAX", 3)
    ids: list[RecordId] = [each * 7919 % 100 for each in range(100)]
    batch = pa.RecordBatch.from_arrays([encode_keys(ids)], names=[columns.KEY])
    before = len(list(Path("/proc/self/fd").iterdir()))

    stream = sorted_by_key(in_batches(batch, list(range(100)), [1]), spill_bytes=1)
    first = next(stream)

    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 3 * 4, "files of merged runs are closed"
    found = [key for part in (first, *stream) for key in part.column(columns.KEY).to_pylist()]
    assert found == encode_keys(list(range(100))).to_pylist()


def test_nothing_stays_in_the_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    records = build_records(EVERY_VECTOR, [Row(id=each) for each in range(50)])
    before = set(Path("/proc/self/fd").iterdir())

    stream = sorted_by_key(in_batches(records, list(range(49, -1, -1)), [5]), spill_bytes=1)
    next(stream)

    assert list(tmp_path.iterdir()) == [], "spilled runs have no name that a crash could leave"
    stream.close()  # type: ignore[attr-defined]
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_a_full_temporary_directory_is_reported_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Path("/dev/full").open("wb"))  # noqa: SIM115
    records = build_records(EVERY_VECTOR, [Row(id=each) for each in range(50)])

    with pytest.raises(StorageFullError, match="No space left") as caught:
        list(sorted_by_key(iter([records]), spill_bytes=1))

    assert "TMPDIR" in caught.value.next_step
