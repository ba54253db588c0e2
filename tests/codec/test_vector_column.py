from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect.codec import block, column_file
from recollect.codec.rows import Rows, rows_to_array
from recollect.codec.vector_column import (
    TAIL_SIZE,
    VectorColumnReader,
    decode_vector_column,
    encode_vector_column,
)
from recollect.values.batch import vector_type
from recollect.values.schema import VectorSpec
from tests.codec.columns import DENSE, FAMILIES, SPECS, bits, column, columns_of, range_reader

MANY_BLOCKS = [
    (VectorSpec(name="v", dimension=384), 3000),
    (VectorSpec(name="v", datatype="float16", dimension=384), 3000),
    (VectorSpec(name="v", datatype="int8", dimension=384), 6000),
    (VectorSpec(name="v", kind="multi", dimension=64), 5000),
    (VectorSpec(name="v", kind="sparse"), 120_000),
]


def open_reader(data: bytes, spec: VectorSpec) -> VectorColumnReader:
    return VectorColumnReader(range_reader(data), len(data), spec)


def encodings(data: bytes, spec: VectorSpec) -> set[int]:
    _, frame = column_file.read_frame(data, len(data), spec)
    assert frame is not None
    return set(frame.table["value_encoding"].tolist())


@given(columns_of(SPECS))
def test_every_column_comes_back_bit_by_bit(drawn: tuple[VectorSpec, pa.Array]) -> None:
    spec, values = drawn

    decoded = decode_vector_column(encode_vector_column(values, spec), spec)

    assert decoded.type == vector_type(spec)
    assert bits(decoded, spec) == bits(values, spec)


@given(st.lists(st.integers(0, 2**32 - 1), max_size=12))
def test_any_float32_bit_pattern_comes_back(words: list[int]) -> None:
    spec = VectorSpec(name="v", dimension=1)
    matrix = np.array(words, dtype=np.uint32).view(np.float32).reshape(-1, 1)
    values = rows_to_array([Rows(matrix, None, None)], spec)

    decoded = decode_vector_column(encode_vector_column(values, spec), spec)

    assert bits(decoded, spec) == [matrix.tobytes()]


@given(columns_of(SPECS), st.data())
def test_random_access_equals_slicing(drawn: tuple[VectorSpec, pa.Array], data: st.DataObject) -> None:
    spec, values = drawn
    reader = open_reader(encode_vector_column(values, spec), spec)
    start = data.draw(st.integers(0, len(values)))
    count = data.draw(st.integers(0, len(values) - start))

    assert reader.row_count == len(values)
    assert bits(reader.read(start, count), spec) == bits(values.slice(start, count), spec)


@given(columns_of(SPECS), st.data())
def test_a_sliced_column_is_encoded_as_its_rows(
    drawn: tuple[VectorSpec, pa.Array], data: st.DataObject
) -> None:
    spec, values = drawn
    start = data.draw(st.integers(0, len(values)))

    encoded = encode_vector_column(values.slice(start), spec)

    assert bits(decode_vector_column(encoded, spec), spec) == bits(values.slice(start), spec)


@pytest.mark.parametrize(("spec", "count"), MANY_BLOCKS, ids=lambda value: getattr(value, "datatype", None))
def test_reads_across_blocks_equal_slicing(spec: VectorSpec, count: int) -> None:
    values = column(spec, "normal", count, seed=1)
    data = encode_vector_column(values, spec)
    reader = open_reader(data, spec)
    bounds = reader._bounds.tolist()
    assert len(bounds) > 3, "the test needs several blocks"

    for start, end in [
        (0, count),
        (bounds[1] - 1, bounds[2] + 1),
        (bounds[1], bounds[2]),
        (count - 1, count),
    ]:
        assert bits(reader.read(start, end - start), spec) == bits(values.slice(start, end - start), spec)
    wanted = np.unique(np.random.default_rng(2).integers(0, count, 500))
    assert bits(reader.take(wanted), spec) == bits(values.take(pa.array(wanted)), spec)
    assert reader.take(wanted[:0]).type == vector_type(spec)
    reader.check()


def test_a_read_fetches_only_the_blocks_of_its_rows() -> None:
    spec = VectorSpec(name="v", dimension=384)
    data = encode_vector_column(column(spec, "normal", 3000, seed=1), spec)
    fetched: list[tuple[int, int]] = []

    def read(start: int, length: int) -> bytes:
        fetched.append((start, length))
        return data[start : start + length]

    reader = VectorColumnReader(read, len(data), spec)
    reader.read(0, 10)
    reader.read(10, 10)

    assert [length for _, length in fetched] == [TAIL_SIZE, fetched[1][1]]


def test_a_table_longer_than_the_first_read_is_fetched_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_file, "BLOCK_SIZE", 24)
    monkeypatch.setattr("recollect.codec.row_block.BLOCK_SIZE", 24)
    values = column(DENSE, "normal", 2000, seed=3)
    data = encode_vector_column(values, DENSE)
    assert 2000 * column_file.ENTRY.itemsize > TAIL_SIZE

    assert bits(open_reader(data, DENSE).read(0, 2000), DENSE) == bits(values, DENSE)


@pytest.mark.parametrize(
    ("family", "encoding", "share_max"),
    [
        ("noise", block.SPLIT, 1.01),
        ("normal", block.SPLIT, 0.85),
        ("half", block.FLOAT16, 0.45),
        ("bfloat16", block.BFLOAT16, 0.36),
        ("constant", block.BFLOAT16, 0.001),
    ],
)
def test_each_origin_takes_the_encoding_that_pays(family: str, encoding: int, share_max: float) -> None:
    spec = VectorSpec(name="v", dimension=384)
    values = column(spec, family, 700, seed=4)

    data = encode_vector_column(values, spec)

    assert encodings(data, spec) == {encoding}
    assert len(data) <= share_max * 700 * 384 * 4


def test_vectors_that_repeat_their_neighbours_take_half_the_bytes() -> None:
    spec = VectorSpec(name="v", dimension=384)
    different = np.random.default_rng(5).normal(0, 1, (300, 384)).astype(np.float32)
    values = rows_to_array([Rows(np.repeat(different, 2, axis=0), None, None)], spec)

    data = encode_vector_column(values, spec)

    assert len(data) < 0.55 * 600 * 384 * 4
    assert bits(decode_vector_column(data, spec), spec) == bits(values, spec)


def test_one_value_that_is_no_float16_is_kept_exactly() -> None:
    """The origin is decided by every value of a block, never by a sample."""
    spec = VectorSpec(name="v", dimension=384)
    matrix = np.random.default_rng(6).normal(0, 0.05, (600, 384)).astype(np.float16).astype(np.float32)
    for word in (0x3F800001, 0x7F800000, 0x7FA00000, 0x00002000, 0x47800000):
        matrix.view(np.uint32)[311, 7] = word
        values = rows_to_array([Rows(matrix.copy(), None, None)], spec)
        data = encode_vector_column(values, spec)
        assert encodings(data, spec) == {block.SPLIT}
        assert bits(decode_vector_column(data, spec), spec) == [matrix.tobytes()]


def test_a_row_larger_than_a_block_is_one_block() -> None:
    spec = VectorSpec(name="v", kind="multi", dimension=1024)
    counts = np.array([0, 600, 1], dtype=np.uint32)
    matrix = np.random.default_rng(7).normal(0, 1, (601, 1024)).astype(np.float32)
    values = rows_to_array([Rows(matrix, counts, None)], spec)

    reader = open_reader(encode_vector_column(values, spec), spec)

    assert bits(reader.read(0, 3), spec) == bits(values, spec)


def test_a_huge_row_of_zeros_is_read_back_although_it_is_stored_in_next_to_nothing() -> None:
    spec = VectorSpec(name="v", kind="multi", dimension=1024)
    matrix = np.zeros((8000, 1024), dtype=np.float32)
    values = rows_to_array([Rows(matrix, np.array([8000], dtype=np.uint32), None)], spec)

    data = encode_vector_column(values, spec)

    assert len(data) < 4000
    assert bits(decode_vector_column(data, spec), spec) == bits(values, spec)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_equal_values_give_equal_bytes(spec: VectorSpec) -> None:
    for family in FAMILIES:
        first = encode_vector_column(column(spec, family, 50, seed=8), spec)
        assert encode_vector_column(column(spec, family, 50, seed=8), spec) == first


def test_bytes_memoryviews_and_arrow_buffers_decode_alike() -> None:
    values = column(DENSE, "normal", 20, seed=9)
    data = encode_vector_column(values, DENSE)

    for form in (data, memoryview(data), pa.py_buffer(data)):
        assert bits(decode_vector_column(form, DENSE), DENSE) == bits(values, DENSE)


def test_nulls_are_refused_as_a_bug_of_the_caller() -> None:
    with pytest.raises(AssertionError, match="store a value"):
        encode_vector_column(pa.array([None], type=vector_type(DENSE)), DENSE)


def test_threads_do_not_share_scratch_memory() -> None:
    spec = VectorSpec(name="v", dimension=384)
    values = [column(spec, family, 1500, seed=10) for family in ("normal", "half", "bfloat16", "noise")]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(3):
            decoded = decode_vector_column(encode_vector_column(values[number], spec), spec)
            if bits(decoded, spec) != bits(values[number], spec):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
