from __future__ import annotations

import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recollect.codec import index_file
from recollect.codec.segment import EncodedSegment, SegmentReader, encode_segment
from recollect.codec.vector_column import VectorColumnReader
from recollect.errors import FormatVersionError, IntegrityError
from recollect.testing.records import Row, build_records
from recollect.values import batch as columns
from recollect.values.digest import digest_records
from recollect.values.schema import CollectionSchema, VectorSpec
from tests.codec.changes import changes_of, same_bits
from tests.codec.columns import range_reader

SCHEMA = CollectionSchema(
    vectors=(VectorSpec(name="v", dimension=3), VectorSpec(name="words", kind="sparse"))
)


def small_changes() -> pa.RecordBatch:
    rows = [
        Row(id=7 * number, payload={"n": number}, vectors={"v": [1, 2, number], "words": {number: 0.5}})
        for number in range(40)
    ]
    return changes_of(digest_records(build_records(SCHEMA, rows), SCHEMA), SCHEMA, seed=3)


@pytest.fixture(scope="module")
def changes() -> pa.RecordBatch:
    return small_changes()


@pytest.fixture(scope="module")
def segment(changes: pa.RecordBatch) -> EncodedSegment:
    return encode_segment(changes, SCHEMA)


def read_all(index: bytes, segment: EncodedSegment, schema: CollectionSchema = SCHEMA) -> pa.Table:
    def open_vector(name: str) -> VectorColumnReader | None:
        data = segment.vectors[name]
        return VectorColumnReader(range_reader(data), len(data), schema.vector(name))

    reader = SegmentReader(index, schema, open_vector)
    list(reader.read_index())
    return pa.Table.from_batches(reader.read_changes())


@pytest.mark.parametrize("mask", [0x01, 0x10, 0x80, 0xFF])
def test_every_flipped_byte_of_the_index_is_noticed_or_changes_nothing(
    mask: int, changes: pa.RecordBatch, segment: EncodedSegment
) -> None:
    """Parquet's footer has no checksum: where a flip is not noticed, every change must still be the same."""
    expected = pa.Table.from_batches([changes])
    noticed = 0
    for offset in range(len(segment.index)):
        broken = bytearray(segment.index)
        broken[offset] ^= mask
        try:
            found = read_all(bytes(broken), segment)
        except (IntegrityError, FormatVersionError):
            noticed += 1
        else:
            assert same_bits(found, expected, SCHEMA), f"byte {offset}"
    assert noticed > 0.7 * len(segment.index)


def test_every_flipped_bit_of_the_pages_is_noticed(segment: EncodedSegment) -> None:
    """What a page holds is under its checksum, so no flip there may go unnoticed."""
    metadata = pq.read_metadata(pa.BufferReader(segment.index)).row_group(0)
    for number in range(metadata.num_columns):
        column = metadata.column(number)
        end = column.data_page_offset + column.total_compressed_size
        for offset in range(end - column.total_compressed_size // 3, end):  # past the page's header
            broken = bytearray(segment.index)
            broken[offset] ^= 0x04
            with pytest.raises(IntegrityError):
                read_all(bytes(broken), segment)


def test_every_truncation_of_the_index_is_noticed(segment: EncodedSegment) -> None:
    for size in range(len(segment.index)):
        with pytest.raises(IntegrityError):
            read_all(segment.index[:size], segment)


def test_a_newer_segment_is_unsupported_rather_than_damaged(
    changes: pa.RecordBatch, segment: EncodedSegment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(index_file.METADATA, index_file.FORMAT_KEY, b"2")
    newer = encode_segment(changes, SCHEMA).index
    monkeypatch.undo()

    with pytest.raises(FormatVersionError, match="version 2"):
        read_all(newer, segment)


@pytest.mark.parametrize(
    ("key", "value"), [("KIND_KEY", b"other"), ("FORMAT_KEY", b"0"), ("FORMAT_KEY", b"one")]
)
def test_what_does_not_say_that_it_is_a_segment_is_refused(
    key: str, value: bytes, changes: pa.RecordBatch, segment: EncodedSegment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(index_file.METADATA, getattr(index_file, key), value)
    other = encode_segment(changes, SCHEMA).index
    monkeypatch.undo()

    with pytest.raises(IntegrityError, match="does not say"):
        read_all(other, segment)


def test_an_ordinary_parquet_file_is_refused(segment: EncodedSegment) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), sink)

    with pytest.raises(IntegrityError, match="does not say"):
        read_all(sink.getvalue(), segment)


def test_a_segment_of_another_schema_is_refused(segment: EncodedSegment) -> None:
    other = CollectionSchema(vectors=(VectorSpec(name="other", dimension=3),))

    with pytest.raises(IntegrityError, match="columns of its collection's schema"):
        read_all(segment.index, segment, other)


def test_a_missing_column_file_is_noticed_where_rows_store_values(segment: EncodedSegment) -> None:
    reader = SegmentReader(segment.index, SCHEMA, lambda _: None)

    with pytest.raises(IntegrityError, match="'v' has 0 values"):
        list(reader.read_changes())


def test_the_column_file_of_another_segment_is_noticed(
    changes: pa.RecordBatch, segment: EncodedSegment
) -> None:
    other = encode_segment(changes.slice(0, 20), SCHEMA)

    with pytest.raises(IntegrityError, match="rows of its segment store one"):
        read_all(segment.index, other)


def test_a_footer_that_claims_a_huge_length_is_refused(segment: EncodedSegment) -> None:
    for length in (2**31 - 1, 2**32 - 1, len(segment.index)):
        with pytest.raises(IntegrityError):
            read_all(segment.index[:-8] + struct.pack("<I", length) + b"PAR1", segment)


def test_a_range_file_reads_like_a_file(segment: EncodedSegment) -> None:
    file = index_file.RangeFile(range_reader(segment.index), len(segment.index))

    assert file.read(4) == b"PAR1"
    assert file.tell() == 4
    assert file.seek(-4, 2) == len(segment.index) - 4
    assert file.read() == b"PAR1"
    assert file.read(10) == b""
    assert (file.seek(1), file.seek(2, 1)) == (1, 3)
    assert (file.readable(), file.seekable()) == (True, True)
    assert file.readall() == segment.index[3:]
    assert columns.KEY in pq.read_schema(pa.PythonFile(file)).names
