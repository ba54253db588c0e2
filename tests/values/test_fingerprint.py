"""Fingerprints: equal for equal sets of records, whatever their order and batches; different otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect.errors import IntegrityError
from recollect.testing.records import Row, build_records
from recollect.testing.strategies import EVERY_VECTOR, collections, rows
from recollect.values import batch as columns
from recollect.values.digest import digest_records
from recollect.values.fingerprint import Fingerprint, fingerprint_batch, parse_fingerprint
from recollect.values.schema import CollectionSchema, VectorSpec

TWO = CollectionSchema(
    vectors=(
        VectorSpec(name="a", dimension=2, metric="dot"),
        VectorSpec(name="b", dimension=2, metric="dot"),
    )
)
MASK = 2**64 - 1
SEEDS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5)


def of_rows(found: list[Row], schema: CollectionSchema = EVERY_VECTOR) -> Fingerprint:
    return fingerprint_batch(digest_records(build_records(schema, found), schema))


def mix(word: int) -> int:
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def words_of(digest: bytes) -> tuple[int, int]:
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def by_definition(changes: pa.RecordBatch) -> Fingerprint:
    """Compute a fingerprint record by record with Python integers, as the format defines it."""
    sums = [0, 0, 0, 0]
    names = sorted(name for name in changes.schema.names if "_digest" in name)
    for record in changes.to_pylist():
        first, second = words_of(xxhash.xxh3_128_digest(record["key"]))
        for lane, seed in enumerate(SEEDS):
            state = mix((mix(first ^ seed) + second) & MASK)
            for name in names:
                if record[name] is not None:
                    salt = words_of(xxhash.xxh3_128_digest(name.encode()))
                    low, high = words_of(record[name])
                    state = mix(state ^ ((low + salt[0]) & MASK))
                    state = mix((state + (high ^ salt[1])) & MASK)
            sums[lane] = (sums[lane] + state) & MASK
    return Fingerprint(changes.num_rows, (sums[0], sums[1], sums[2], sums[3]))


@settings(max_examples=40)
@given(collections(EVERY_VECTOR))
def test_a_fingerprint_is_what_its_definition_says(found: list[Row]) -> None:
    changes = digest_records(build_records(EVERY_VECTOR, found), EVERY_VECTOR)

    assert fingerprint_batch(changes) == by_definition(changes)


@settings(max_examples=40)
@given(collections(EVERY_VECTOR), st.randoms(use_true_random=False))
def test_the_order_of_records_does_not_count(found: list[Row], random: Any) -> None:
    changes = digest_records(build_records(EVERY_VECTOR, found), EVERY_VECTOR)
    order = list(range(len(found)))
    random.shuffle(order)

    assert fingerprint_batch(changes.take(pa.array(order, pa.int64()))) == fingerprint_batch(changes)


@settings(max_examples=40)
@given(collections(EVERY_VECTOR), st.lists(st.integers(0, 12), max_size=4))
def test_the_split_into_batches_does_not_count(found: list[Row], cuts: list[int]) -> None:
    changes = digest_records(build_records(EVERY_VECTOR, found), EVERY_VECTOR)
    bounds = [0, *sorted(min(cut, len(found)) for cut in cuts), len(found)]

    total = Fingerprint()
    for start, end in zip(bounds, bounds[1:], strict=False):
        total += fingerprint_batch(changes.slice(start, end - start))

    assert total == fingerprint_batch(changes)


def test_the_order_of_columns_does_not_count() -> None:
    changes = digest_records(build_records(TWO, [Row(id=1, vectors={"a": [1.0, 2.0]})]), TWO)

    turned = changes.select(list(reversed(changes.schema.names)))

    assert fingerprint_batch(turned) == fingerprint_batch(changes)


@settings(max_examples=40)
@given(collections(EVERY_VECTOR, max_size=8), st.data())
def test_a_delta_updates_it_without_reading_the_rest(found: list[Row], data: st.DataObject) -> None:
    kept = [row for row in found if data.draw(st.booleans())]
    removed = [row for row in found if row not in kept]

    assert of_rows(found) - of_rows(removed) == of_rows(kept)
    assert of_rows(kept) + of_rows(removed) == of_rows(found)


@settings(max_examples=60)
@given(rows(EVERY_VECTOR), rows(EVERY_VECTOR))
def test_records_that_differ_have_different_fingerprints(left: Row, right: Row) -> None:
    # By digests, not by values: to Arrow, a NaN differs from itself.
    names = ["key", *columns.digest_columns(EVERY_VECTOR)]
    first, second = (
        digest_records(build_records(EVERY_VECTOR, [row]), EVERY_VECTOR).select(names)
        for row in (left, right)
    )

    assert (of_rows([left]) == of_rows([right])) == first.equals(second)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (Row(id=1, payload=None), Row(id=1, payload={})),
        (Row(id=1, payload={}), Row(id=1, payload={"a": None})),
        (Row(id=1), Row(id=1, vectors={"many": []})),
        (Row(id=1), Row(id=1, vectors={"words": {}})),
        (Row(id=1, vectors={"many": []}), Row(id=1, vectors={"words": {}})),
        (Row(id=1), Row(id="1")),
        (Row(id=1, vectors={"": [0.0, 0.0, 0.0]}), Row(id=1, vectors={"": [0.0, -0.0, 0.0]})),
        (Row(id=1, vectors={"": [0.0, 0.0, 0.0]}), Row(id=1)),
    ],
)
def test_absent_empty_and_zero_all_differ(left: Row, right: Row) -> None:
    assert of_rows([left]) != of_rows([right])


def test_a_value_counts_under_the_name_of_its_vector() -> None:
    vector = [1.0, 2.0]

    fingerprints = {
        of_rows([Row(id=1, vectors=vectors)], TWO)
        for vectors in ({"a": vector}, {"b": vector}, {"a": vector, "b": vector}, {})
    }

    assert len(fingerprints) == 4


def test_values_exchanged_between_records_change_it() -> None:
    one, two = {"a": [1.0, 2.0]}, {"a": [3.0, 4.0]}

    straight = of_rows([Row(id=1, vectors=one), Row(id=2, vectors=two)], TWO)

    assert of_rows([Row(id=1, vectors=two), Row(id=2, vectors=one)], TWO) != straight


def test_every_bit_of_every_digest_and_every_lane_counts() -> None:
    changes = digest_records(build_records(TWO, [Row(id=7, vectors={"a": [1.0, 2.0]})]), TWO)
    original = fingerprint_batch(changes)
    digest = changes.column("vector_digest:a")[0].as_py()
    for bit in range(128):
        flipped = (int.from_bytes(digest, "big") ^ (1 << bit)).to_bytes(16, "big")
        index = changes.schema.get_field_index("vector_digest:a")
        column = pa.array([flipped], type=columns.DIGEST_TYPE)

        found = fingerprint_batch(changes.set_column(index, "vector_digest:a", column))

        assert all(ours != theirs for ours, theirs in zip(found.lanes, original.lanes, strict=True)), bit


def test_what_stands_under_a_null_digest_does_not_count() -> None:
    garbage = pa.py_buffer(b"\xaa" * 32)
    null = pa.Array.from_buffers(columns.DIGEST_TYPE, 2, [pa.py_buffer(b"\x00"), garbage], null_count=2)
    changes = digest_records(build_records(TWO, [Row(id=1), Row(id=2)]), TWO)
    index = changes.schema.get_field_index("vector_digest:a")

    assert fingerprint_batch(changes.set_column(index, "vector_digest:a", null)) == fingerprint_batch(changes)


def test_many_records_do_not_overflow_into_an_error() -> None:
    count = 50_000
    keys = pa.array([b"\x10" + number.to_bytes(8, "big") for number in range(count)], type=pa.binary())
    digests = pa.array([b"\xff" * 16] * count, type=columns.DIGEST_TYPE)
    batch = pa.RecordBatch.from_arrays([keys, digests], names=[columns.KEY, columns.PAYLOAD_DIGEST])

    found = fingerprint_batch(batch)

    assert found.record_count == count
    assert found - found == Fingerprint()
    assert len(set(found.lanes)) == 4


@given(st.integers(0, 2**40), st.tuples(*[st.integers(0, MASK)] * 4))
def test_the_text_form_comes_back(count: int, lanes: tuple[int, int, int, int]) -> None:
    fingerprint = Fingerprint(count, lanes)

    assert parse_fingerprint(str(fingerprint)) == fingerprint
    assert len(str(fingerprint)) == len(str(count)) + 1 + 64


@pytest.mark.parametrize(
    "text",
    ["", "0", "-", "1-" + "0" * 63, "1-" + "0" * 65, "01-" + "0" * 64, "1-" + "A" * 64, " 1-" + "0" * 64,
     "-1-" + "0" * 64, "1-" + "0" * 64 + "\n"],
)  # fmt: skip
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError):
        parse_fingerprint(text)


def test_numpy_words_are_read_as_little_endian() -> None:
    changes = digest_records(build_records(TWO, [Row(id=3)]), TWO)
    digests = np.frombuffer(changes.column(columns.PAYLOAD_DIGEST)[0].as_py(), dtype="<u8")

    assert words_of(changes.column(columns.PAYLOAD_DIGEST)[0].as_py()) == tuple(digests.tolist())
