"""Digests of fields: the same for a value wherever it stands, another for every other value."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect.testing.records import Row, build_records
from recollect.testing.strategies import EVERY_VECTOR, collections
from recollect.values import batch as columns
from recollect.values.digest import digest_payloads, digest_records, digest_vectors
from recollect.values.key import decode_keys
from recollect.values.payload import encode_payload
from recollect.values.schema import VectorSpec

EMPTY = xxhash.xxh3_128_digest(b"")


def field_bytes(row: Row, spec: VectorSpec) -> bytes | None:
    """Return what the format says is hashed, computed the plain way; None for an absent vector."""
    value: Any = row.vectors.get(spec.name)
    if value is None:
        return None
    if spec.kind == "sparse":
        pairs: Mapping[int, float] = value
        return b"".join(struct.pack("<If", index, pairs[index]) for index in sorted(pairs))
    return np.array(value, dtype=columns.numpy_datatype(spec)).tobytes()


def digests(changes: pa.RecordBatch) -> pa.RecordBatch:
    """Leave out the values: Arrow holds NaN to be unequal to itself."""
    return changes.select([columns.KEY, *columns.digest_columns(EVERY_VECTOR)])


def digest_of(data: bytes | None) -> bytes | None:
    return None if data is None else xxhash.xxh3_128_digest(data)


@settings(max_examples=60)
@given(collections(EVERY_VECTOR))
def test_digests_are_those_of_the_bytes_that_the_format_names(rows: list[Row]) -> None:
    records = build_records(EVERY_VECTOR, rows)
    by_key = {row.id: row for row in rows}

    changes = digest_records(records, EVERY_VECTOR)

    assert changes.schema == columns.change_schema(EVERY_VECTOR)
    changes.validate(full=True)
    order = [by_key[each] for each in _ids(changes)]
    payloads = [None if row.payload is None else encode_payload(row.payload) for row in order]
    assert changes.column(columns.PAYLOAD_DIGEST).to_pylist() == [digest_of(each) for each in payloads]
    for spec in EVERY_VECTOR.vectors:
        found = changes.column(columns.vector_digest_column(spec.name)).to_pylist()
        assert found == [digest_of(field_bytes(row, spec)) for row in order], spec.name


@settings(max_examples=60)
@given(collections(EVERY_VECTOR), st.data())
def test_a_slice_has_the_digests_of_its_rows(rows: list[Row], data: st.DataObject) -> None:
    records = build_records(EVERY_VECTOR, rows)
    start = data.draw(st.integers(0, len(rows)))
    length = data.draw(st.integers(0, len(rows) - start))

    part = digest_records(records.slice(start, length), EVERY_VECTOR)

    part.validate(full=True)
    expected = digests(digest_records(records, EVERY_VECTOR)).slice(start, length)
    assert digests(part).equals(expected)
    assert digests(digest_records(records.slice(start).slice(0, length), EVERY_VECTOR)).equals(expected)


@settings(max_examples=30)
@given(collections(EVERY_VECTOR), collections(EVERY_VECTOR))
def test_joined_batches_have_the_digests_of_their_parts(left: list[Row], right: list[Row]) -> None:
    parts = [build_records(EVERY_VECTOR, rows) for rows in (left, right)]

    joined = digest_records(pa.concat_batches(parts), EVERY_VECTOR)

    apart = [digests(digest_records(part, EVERY_VECTOR)) for part in parts]
    assert digests(joined).equals(pa.concat_batches(apart))


@pytest.mark.parametrize("offset", range(1, 20))
def test_nulls_stay_null_at_every_bit_offset(offset: int) -> None:
    values = [None if number % 3 == 0 else b"%d" % number for number in range(40)]

    found = digest_payloads(pa.array(values, type=pa.binary()).slice(offset))

    assert found.to_pylist() == [digest_of(each) for each in values[offset:]]
    assert found.null_count == sum(each is None for each in values[offset:])


def test_an_absent_field_has_no_digest_and_an_empty_one_that_of_no_bytes() -> None:
    rows = [
        Row(id=0, payload=None),
        Row(id=1, payload={}, vectors={"many": [], "words": {}}),
    ]

    changes = digest_records(build_records(EVERY_VECTOR, rows), EVERY_VECTOR)

    for name in ("many", "words"):
        assert changes.column(columns.vector_digest_column(name)).to_pylist() == [None, EMPTY]
    payload_digest = xxhash.xxh3_128_digest(b"{}")
    assert changes.column(columns.PAYLOAD_DIGEST).to_pylist() == [None, payload_digest]


def test_a_null_list_that_owns_items_counts_none_of_them() -> None:
    spec = EVERY_VECTOR.vector("many")
    kind = columns.vector_type(spec)
    flat = pa.array(np.arange(12, dtype=np.float32))
    inner = pa.FixedSizeListArray.from_arrays(flat, type=kind.value_type)
    mask = pa.array([False, True, False])
    values = pa.ListArray.from_arrays(pa.array([0, 2, 4, 6], pa.int32()), inner, type=kind, mask=mask)

    found = digest_vectors(values, spec).to_pylist()

    numbers = np.arange(12, dtype="<f4")
    assert found == [digest_of(numbers[:4].tobytes()), None, digest_of(numbers[8:].tobytes())]


def test_a_null_sparse_row_that_owns_items_counts_none_of_them() -> None:
    spec = EVERY_VECTOR.vector("words")
    pairs = [{"index": number, "value": number / 2} for number in range(6)]
    full = pa.array([pairs[:2], pairs[2:4], pairs[4:]], type=columns.vector_type(spec))
    mask = pa.array([False, True, False])
    values = pa.ListArray.from_arrays(full.offsets, full.values, type=full.type, mask=mask)

    expected = digest_vectors(pa.array([pairs[:2], None, pairs[4:]], type=full.type), spec)

    assert digest_vectors(values, spec).equals(expected)


@pytest.mark.parametrize("bit", range(32))
def test_every_bit_of_a_vector_counts(bit: int) -> None:
    spec = VectorSpec(name="v", dimension=2, metric="dot")
    words = np.array([0x3F800000, 0x3F800000], dtype=np.uint32)
    flipped = words ^ np.array([0, 1 << bit], dtype=np.uint32)

    assert _digest_of_words(words, spec) != _digest_of_words(flipped, spec)


def test_negative_zero_and_the_bits_of_a_nan_count() -> None:
    spec = VectorSpec(name="v", dimension=1, metric="dot")
    patterns = [0x00000000, 0x80000000, 0x7FC00000, 0x7FC00001, 0xFFC00000, 0x7F800001]

    found = {_digest_of_words(np.array([each], dtype=np.uint32), spec) for each in patterns}

    assert len(found) == len(patterns)


def _digest_of_words(words: np.ndarray[Any, np.dtype[np.uint32]], spec: VectorSpec) -> bytes:
    values = pa.FixedSizeListArray.from_arrays(
        pa.array(words.view(np.float32)), type=columns.vector_type(spec)
    )
    digest: bytes = digest_vectors(values, spec)[0].as_py()
    return digest


def _ids(changes: pa.RecordBatch) -> list[Any]:
    return list(decode_keys(changes.column(columns.KEY)))
