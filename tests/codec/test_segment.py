from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect.codec.index_file import RangeFile, vector_stored_column
from recollect.codec.segment import EncodedSegment, SegmentReader, encode_segment
from recollect.codec.vector_column import VectorColumnReader
from recollect.testing.records import Row, build_records
from recollect.testing.strategies import EVERY_VECTOR, collections
from recollect.values import batch as columns
from recollect.values.digest import digest_records
from recollect.values.schema import CollectionSchema, VectorSpec
from tests.codec.changes import changes_of, same_bits
from tests.codec.columns import range_reader

SCHEMA = CollectionSchema(
    vectors=(
        VectorSpec(name="many", kind="multi", dimension=2),
        VectorSpec(name="v", dimension=3),
        VectorSpec(name="words", kind="sparse"),
    )
)
FIELDS = [columns.PAYLOAD, "vector:many", "vector:v", "vector:words"]


def reader_of(segment: EncodedSegment, schema: CollectionSchema) -> SegmentReader:
    return SegmentReader(segment.index, schema, opener(segment, schema))


def opener(segment: EncodedSegment, schema: CollectionSchema) -> Callable[[str], VectorColumnReader | None]:
    def open_vector(name: str) -> VectorColumnReader | None:
        data = segment.vectors.get(name)
        return data and VectorColumnReader(range_reader(data), len(data), schema.vector(name))  # type: ignore[return-value]

    return open_vector


@given(collections(EVERY_VECTOR), st.randoms(use_true_random=False))
def test_every_change_comes_back(rows: list[Row], random: np.random.Generator) -> None:
    """Absent, stored here and as before are three states, and each survives; so do deletes."""
    if not rows:
        return
    changes = digest_records(build_records(EVERY_VECTOR, rows), EVERY_VECTOR)
    seed = random.randint(0, 2**32)  # type: ignore[attr-defined]
    changes = changes_of(changes, EVERY_VECTOR, seed=seed)

    segment = encode_segment(changes, EVERY_VECTOR)
    decoded = pa.Table.from_batches(reader_of(segment, EVERY_VECTOR).read_changes())

    decoded.validate(full=True)
    assert decoded.schema.equals(columns.change_schema(EVERY_VECTOR))
    assert same_bits(decoded, pa.Table.from_batches([changes]), EVERY_VECTOR)


@pytest.fixture(scope="module")
def changes() -> pa.RecordBatch:
    """20,000 changes, so three row groups: all states of all fields, deletes, positions."""
    rows = [
        Row(
            id=3 * number,
            payload={"n": number},
            vectors={"v": [1, 2, number], "many": [[number, 0]] * (number % 3)},
        )
        for number in range(20_000)
    ]
    digested = digest_records(build_records(SCHEMA, rows), SCHEMA)
    return changes_of(digested, SCHEMA, seed=5)


@pytest.fixture(scope="module")
def segment(changes: pa.RecordBatch) -> EncodedSegment:
    return encode_segment(changes, SCHEMA)


def test_the_summary_says_what_is_inside(changes: pa.RecordBatch, segment: EncodedSegment) -> None:
    positions = [value for value in changes.column(columns.POSITION).to_pylist() if value is not None]

    assert segment.row_count == 20_000
    assert segment.delete_count == changes.column(columns.OP).to_pylist().count(columns.DELETE)
    assert segment.key_min == changes.column(columns.KEY)[0].as_py()
    assert segment.key_max == changes.column(columns.KEY)[-1].as_py()
    assert (segment.position_min, segment.position_max) == (min(positions), max(positions))


def test_a_vector_that_no_row_stores_has_no_column(segment: EncodedSegment) -> None:
    assert sorted(segment.vectors) == ["many", "v"]


def test_changes_are_read_a_row_group_at_a_time(changes: pa.RecordBatch, segment: EncodedSegment) -> None:
    batches = list(reader_of(segment, SCHEMA).read_changes())

    assert [batch.num_rows for batch in batches] == [8192, 8192, 3616]
    assert same_bits(pa.Table.from_batches(batches), pa.Table.from_batches([changes]), SCHEMA)


@pytest.mark.parametrize(
    ("start", "count"), [(0, 20_000), (8191, 2), (8192, 8192), (19_999, 1), (7, 0), (20_000, 0)]
)
def test_rows_are_read_at_random(
    changes: pa.RecordBatch, segment: EncodedSegment, start: int, count: int
) -> None:
    reader = reader_of(segment, SCHEMA)
    expected = pa.Table.from_batches([changes.slice(start, count)])

    found = reader.read_change_rows(start, count)
    index = reader.read_index_rows(start, count)

    assert same_bits(pa.Table.from_batches([found]), expected, SCHEMA)
    for name in columns.index_schema(SCHEMA).names:
        assert index.column(name).equals(expected.column(name).combine_chunks())


def test_selected_rows_bring_their_vectors_and_payloads(
    changes: pa.RecordBatch, segment: EncodedSegment
) -> None:
    reader = reader_of(segment, SCHEMA)
    rows = np.unique(np.random.default_rng(1).integers(0, 20_000, 700))

    for name in ("many", "v", "words"):
        expected = changes.column(columns.vector_column(name)).take(pa.array(rows))
        assert reader.take_vectors(name, rows).equals(expected)
    assert reader.take_payloads(rows).equals(changes.column(columns.PAYLOAD).take(pa.array(rows)))
    assert len(reader.take_payloads(rows[:0])) == len(reader.take_vectors("v", rows[:0])) == 0


def test_the_index_is_read_without_payloads_and_vectors(
    changes: pa.RecordBatch, segment: EncodedSegment
) -> None:
    def refuse(name: str) -> VectorColumnReader | None:
        raise AssertionError(f"the column of {name} was opened")

    touched = bytearray(len(segment.index))

    def read(start: int, length: int) -> bytes:
        touched[start : start + length] = b"\1" * length
        return segment.index[start : start + length]

    reader = SegmentReader(RangeFile(read, len(segment.index)), SCHEMA, refuse)
    index = pa.Table.from_batches(reader.read_index())

    assert index.select(columns.index_schema(SCHEMA).names).equals(
        pa.Table.from_batches([changes]).select(columns.index_schema(SCHEMA).names)
    )
    stored = index.column(vector_stored_column("v")).to_pylist()
    assert stored == changes.column("vector:v").is_valid().to_pylist()
    payload = pq.read_metadata(io.BytesIO(segment.index)).row_group(0).column(len(index.schema))
    assert payload.path_in_schema == columns.PAYLOAD
    assert not any(touched[payload.data_page_offset :][: payload.total_compressed_size])


def test_rows_with_payloads_are_read_without_vectors(
    changes: pa.RecordBatch, segment: EncodedSegment
) -> None:
    rows = pa.Table.from_batches(SegmentReader(segment.index, SCHEMA, lambda _: None).read_rows())

    assert rows.column(columns.PAYLOAD).combine_chunks().equals(changes.column(columns.PAYLOAD))


def test_equal_changes_give_equal_bytes_however_they_are_chunked(
    changes: pa.RecordBatch, segment: EncodedSegment
) -> None:
    chunked = pa.Table.from_batches([changes.slice(0, 700), changes.slice(700, 9000), changes.slice(9700)])

    again = encode_segment(chunked, SCHEMA)

    assert (again.index, again.vectors) == (segment.index, segment.vectors)


def test_other_parquet_readers_see_plain_columns(changes: pa.RecordBatch, segment: EncodedSegment) -> None:
    table = pq.read_table(io.BytesIO(segment.index))

    assert table.column(columns.PAYLOAD).combine_chunks().equals(changes.column(columns.PAYLOAD))
    assert pq.read_metadata(io.BytesIO(segment.index)).metadata == {
        b"recollect.format": b"1",
        b"recollect.kind": b"segment",
    }


def test_a_collection_without_vectors_is_a_parquet_file_alone() -> None:
    schema = CollectionSchema()
    changes = digest_records(build_records(schema, [Row(id="a", payload={"x": 1})]), schema)

    segment = encode_segment(changes, schema)

    assert segment.vectors == {}
    assert next(reader_of(segment, schema).read_changes()).equals(changes)


def one(**fields: object) -> pa.RecordBatch:
    target = columns.change_schema(SCHEMA)
    row = (
        dict.fromkeys(target.names) | {columns.KEY: b"\x10" + b"\0" * 8, columns.OP: columns.UPSERT} | fields
    )
    return pa.RecordBatch.from_pylist([row], schema=target)


@pytest.mark.parametrize("field", FIELDS)
def test_a_value_without_a_digest_is_a_bug(field: str) -> None:
    values = {columns.PAYLOAD: b"{}", "vector:many": [[1.0, 2.0]], "vector:v": [1.0, 2.0, 3.0]}
    values["vector:words"] = [{"index": 1, "value": 2.0}]

    with pytest.raises(AssertionError, match="has a digest"):
        encode_segment(one(**{field: values[field]}), SCHEMA)


def test_a_delete_with_a_digest_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="a delete has none"):
        encode_segment(one(op=columns.DELETE, payload_digest=b"d" * 16), SCHEMA)


def test_keys_that_do_not_ascend_are_a_bug() -> None:
    with pytest.raises(AssertionError, match="keys ascend"):
        encode_segment(pa.concat_batches([one(), one()]), SCHEMA)


def test_other_columns_are_a_bug() -> None:
    with pytest.raises(AssertionError, match="change_schema"):
        encode_segment(one().select([columns.KEY, columns.OP]), SCHEMA)


def test_no_changes_are_a_bug() -> None:
    with pytest.raises(AssertionError, match="at least one row"):
        encode_segment(one().slice(0, 0), SCHEMA)
