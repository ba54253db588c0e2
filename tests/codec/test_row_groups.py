"""Row groups are bounded in rows and in bytes: a merge of many runs holds one of each in memory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recollect.codec.index_file import ROW_GROUP_BYTES
from recollect.codec.segment import encode_segment
from recollect.values.batch import PAYLOAD, record_schema
from recollect.values.digest import digest_records
from recollect.values.key import integer_keys
from recollect.values.schema import CollectionSchema

NO_VECTORS = CollectionSchema()


def group_rows(payload_bytes: int, count: int) -> list[int]:
    keys = integer_keys(np.arange(count, dtype=np.uint64))
    payloads = pa.array([b"x" * payload_bytes] * count, type=pa.binary())
    arrays = [keys, pa.nulls(count, pa.uint64()), payloads]
    records = pa.RecordBatch.from_arrays(arrays, schema=record_schema(NO_VECTORS))
    encoded = encode_segment(digest_records(records, NO_VECTORS), NO_VECTORS)
    found = pq.read_metadata(pa.BufferReader(encoded.index))
    return [found.row_group(number).num_rows for number in range(found.num_row_groups)]


def test_small_payloads_come_in_groups_of_the_usual_size() -> None:
    assert group_rows(100, 20_000) == [8192, 8192, 3616]


@pytest.mark.parametrize("payload_bytes", [1000, 4000, 10_000])
def test_large_payloads_come_in_smaller_groups(payload_bytes: int) -> None:
    sizes = group_rows(payload_bytes, 5000)

    assert len(sizes) > 1
    assert max(sizes) * payload_bytes <= ROW_GROUP_BYTES
    assert sum(sizes) == 5000


def test_huge_payloads_still_share_a_group() -> None:
    assert group_rows(100_000, 600) == [256, 256, 88]


def test_the_payload_column_is_the_last_so_that_the_others_are_read_in_one_piece() -> None:
    records = pa.RecordBatch.from_arrays(
        [
            integer_keys(np.arange(3, dtype=np.uint64)),
            pa.nulls(3, pa.uint64()),
            pa.array([b"{}"] * 3, pa.binary()),
        ],
        schema=record_schema(NO_VECTORS),
    )
    encoded = encode_segment(digest_records(records, NO_VECTORS), NO_VECTORS)

    assert pq.read_schema(pa.BufferReader(encoded.index)).names[-1] == PAYLOAD
