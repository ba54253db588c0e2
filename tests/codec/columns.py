"""Vector columns for the codec's tests: built from bit patterns, compared bit by bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from hypothesis import strategies as st

from recollect.codec.rows import Rows, rows_of_array, rows_to_array
from recollect.codec.vector_column import ReadRange
from recollect.values.batch import numpy_datatype
from recollect.values.schema import VectorSpec

DENSE = VectorSpec(name="dense", dimension=6)
SPECS = [
    DENSE,
    VectorSpec(name="wide", dimension=1500),
    VectorSpec(name="halves", datatype="float16", dimension=5),
    VectorSpec(name="bytes", datatype="uint8", dimension=7),
    VectorSpec(name="signed", datatype="int8", dimension=3),
    VectorSpec(name="many", kind="multi", dimension=4),
    VectorSpec(name="many-halves", kind="multi", datatype="float16", dimension=3),
    VectorSpec(name="many-bytes", kind="multi", datatype="uint8", dimension=2),
    VectorSpec(name="words", kind="sparse"),
]

# zeros, ones, infinities, quiet and signalling NaN with payloads, subnormals, extremes, the smallest
# and largest float16 (normal and not), what lies just outside of float16
_WORDS = """00000000 80000000 3F800000 BF800000 7F800000 FF800000 7FC00000 7FC12345 FF812345 7F800001 7FA00000
    00000001 807FFFFF 00800000 7F7FFFFF FF7FFFFF 33800000 387FC000 38800000 477FE000 47800000 33000000
    00010000"""
SPECIAL_WORDS = np.array([int(word, 16) for word in _WORDS.split()], dtype=np.uint32)


def elements(
    family: str, count: int, spec: VectorSpec, generator: np.random.Generator
) -> npt.NDArray[np.generic]:
    """Return `count` elements of a family: noise, normal, half, bfloat16, constant, few, special."""
    datatype = numpy_datatype(spec)
    if family == "constant":
        return np.ones(count, dtype=datatype)
    if family == "few":
        return generator.choice(np.array([0, 1, 2], dtype=datatype), count)
    if datatype.itemsize == 1 or family == "noise":
        return np.frombuffer(generator.bytes(count * datatype.itemsize), dtype=datatype)
    if family == "special" and datatype.itemsize == 4:
        return generator.choice(SPECIAL_WORDS, count).view(datatype)
    values = generator.normal(0, 0.05, count).astype(np.float32)
    if family == "half":
        values = values.astype(np.float16).astype(np.float32)
    if family == "bfloat16":
        values = (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return values.astype(datatype)


FAMILIES = ["noise", "normal", "half", "bfloat16", "constant", "few", "special"]


def column(spec: VectorSpec, family: str, row_count: int, seed: int) -> pa.Array:
    """Return a value column without nulls; rows of list kinds have 0 to 4 items."""
    generator = np.random.default_rng(seed)
    if spec.kind == "dense":
        values = elements(family, row_count * spec.dimension, spec, generator)
        return rows_to_array([Rows(values.reshape(row_count, spec.dimension), None, None)], spec)
    counts = generator.integers(0, 5, row_count).astype(np.uint32)
    total = int(counts.sum())
    if spec.kind == "multi":
        values = elements(family, total * spec.dimension, spec, generator)
        return rows_to_array([Rows(values.reshape(total, spec.dimension), counts, None)], spec)
    drawn = [np.sort(generator.choice(2**20, count, replace=False)) for count in counts.tolist()]
    indices = np.concatenate([*drawn, np.zeros(0)]).astype(np.uint32)
    values = elements(family, total, spec, generator).reshape(total, 1)
    return rows_to_array([Rows(values, counts, indices)], spec)


def columns_of(
    specs: list[VectorSpec], *, rows_max: int = 40
) -> st.SearchStrategy[tuple[VectorSpec, pa.Array]]:
    """Draw a spec and a column of it."""
    return st.builds(
        lambda spec, family, rows, seed: (spec, column(spec, family, rows, seed)),
        st.sampled_from(specs),
        st.sampled_from(FAMILIES),
        st.integers(0, rows_max),
        st.integers(0, 2**32),
    )


def bits(values: pa.Array, spec: VectorSpec) -> list[bytes]:
    """Return all arrays of a column as bytes: equal exactly when every bit of every value is."""
    values.validate(full=True)
    assert values.null_count == 0
    return [part.tobytes() for part in rows_of_array(values, spec) if part is not None]


def range_reader(data: bytes) -> ReadRange:
    """Return random access to bytes in memory."""
    return lambda start, length: data[start : start + length]
