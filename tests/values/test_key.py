"""Record keys: bytes whose order is the canonical order, and ids that come back as they were."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recollect.errors import IntegrityError, RequestError
from recollect.testing.strategies import TEXT, record_ids
from recollect.values.key import (
    RecordId,
    decode_key,
    decode_keys,
    display_key,
    encode_key,
    encode_keys,
    integer_keys,
    parse_record_id,
)

INTEGERS = st.integers(-(2**63), 2**64 - 1)


def canonical(record_id: RecordId) -> tuple[int, int | str]:
    """Return what ids sort by: integers, then UUIDs, then strings by code point."""
    if isinstance(record_id, int):
        return 0, record_id
    if isinstance(record_id, UUID):
        return 1, record_id.int
    return 2, record_id


@given(record_ids(), record_ids())
@example(-1, 0)
@example(-(2**63), -1)
@example(2**63 - 1, 2**63)
@example(255, 256)
@example(2**64 - 1, UUID(int=0))
@example(UUID(int=2**128 - 1), "")
@example("", "\0")
@example("\uffff", "\U00010000")
def test_the_order_of_key_bytes_is_the_canonical_order(left: RecordId, right: RecordId) -> None:
    assert (encode_key(left) < encode_key(right)) == (canonical(left) < canonical(right))


@given(record_ids())
@example(2**64 - 1)
@example(-(2**63))
@example("a\0b")
@example("42")
def test_an_id_comes_back_with_value_and_type(record_id: RecordId) -> None:
    found = decode_key(encode_key(record_id))

    assert found == record_id
    assert type(found) is type(record_id)


@given(st.lists(record_ids(), max_size=20))
def test_a_column_of_ids_is_encoded_as_each_id_is(ids: list[RecordId]) -> None:
    keys = encode_keys(ids)

    assert keys.type == pa.binary()
    assert keys.to_pylist() == [encode_key(each) for each in ids]
    assert decode_keys(keys) == ids


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20), st.integers(0, 3))
def test_integer_columns_take_a_fast_path_to_the_same_bytes(values: list[int], start: int) -> None:
    keys = integer_keys(np.array(values, dtype=np.uint64))

    keys.validate(full=True)
    assert keys.to_pylist() == [encode_key(each) for each in values]
    assert decode_keys(keys.slice(start)) == values[start:]


@given(st.lists(record_ids(), unique_by=encode_key, max_size=20))
def test_arrow_sorts_keys_in_the_order_of_their_bytes(ids: list[RecordId]) -> None:
    keys = encode_keys(ids)

    ordered = keys.take(pc.sort_indices(keys))

    assert ordered.to_pylist() == sorted(keys.to_pylist())


@pytest.mark.parametrize(
    "record_id", [2**64, -(2**63) - 1, 10**40, True, False, None, 1.0, b"a", "lone \ud800", "\udfff"]
)
def test_what_is_no_id_is_refused(record_id: object) -> None:
    with pytest.raises(RequestError):
        encode_key(record_id)  # type: ignore[arg-type]
    with pytest.raises(RequestError):
        encode_keys([1, record_id])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"\x10",
        b"\x10" + bytes(7),
        b"\x10" + bytes(9),
        b"\x08" + bytes(8),
        b"\x08\x7f" + bytes(7),
        b"\x20" + bytes(15),
        b"\x00abc",
        b"\x31abc",
        b"\x30\xff\xfe",
        b"\x30\xed\xa0\x80",
    ],
)
def test_bytes_that_encode_no_id_are_an_integrity_error(key: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode_key(key)
    with pytest.raises(IntegrityError):
        decode_keys(pa.array([key], type=pa.binary()))


@given(st.binary(max_size=20))
def test_a_key_that_decodes_is_the_only_key_of_its_id(key: bytes) -> None:
    try:
        record_id = decode_key(key)
    except IntegrityError:
        return

    assert encode_key(record_id) == key


@given(INTEGERS | st.uuids())
def test_integers_and_uuids_are_read_as_they_are_displayed(record_id: RecordId) -> None:
    assert parse_record_id(display_key(encode_key(record_id))) == record_id


@given(TEXT)
def test_an_equals_sign_forces_a_string(text: str) -> None:
    assert parse_record_id(f"={text}") == text


@pytest.mark.parametrize("text", ["1_000", " 42", "42 ", "+5", "٣", "0x10", "007", "1e3", "", "-", "-0"])
def test_text_that_no_engine_prints_for_an_integer_is_a_string(text: str) -> None:
    assert parse_record_id(text) == text
