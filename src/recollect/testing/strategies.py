"""Hypothesis strategies for what travels: ids, payloads, schemas, records.

For property tests of adapters and formats. Everything that they draw must survive a
round trip bit for bit. Needs the package `hypothesis`.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np
from hypothesis import strategies as st

from recollect.testing.records import Row
from recollect.values.batch import numpy_datatype
from recollect.values.key import RecordId, encode_key
from recollect.values.schema import CollectionSchema, VectorSpec

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
"""Any text without lone surrogates, NUL included."""

_EDGE_INTEGERS = [0, 1, 255, 256, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1]

EVERY_VECTOR = CollectionSchema(
    vectors=(
        VectorSpec(name="", dimension=3, metric="cosine"),
        VectorSpec(name="bytes", datatype="uint8", dimension=4, metric="dot"),
        VectorSpec(name="halves", datatype="float16", dimension=2, metric="euclid"),
        VectorSpec(name="many", kind="multi", dimension=2, metric="dot"),
        VectorSpec(name="signed", datatype="int8", dimension=2, metric="manhattan"),
        VectorSpec(name="words", kind="sparse"),
    )
)
"""A schema with a vector of every kind and datatype."""


def record_ids() -> st.SearchStrategy[RecordId]:
    """Draw ids of every type: negative and unsigned integers, UUIDs, strings."""
    integers = st.sampled_from(_EDGE_INTEGERS) | st.integers(-(2**63), 2**64 - 1)
    return st.one_of(integers, st.uuids(), TEXT)


def payloads() -> st.SearchStrategy[dict[str, Any]]:
    """Draw JSON objects of finite numbers, in a few levels."""
    numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    leaves = st.none() | st.booleans() | numbers | TEXT
    values = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=6,
    )
    return st.dictionaries(TEXT, values, max_size=4)


def vectors(spec: VectorSpec) -> st.SearchStrategy[Any]:
    """Draw one vector value of a spec, in the form that `Row` takes; extremes, NaN and -0.0 included."""
    if spec.kind == "sparse":
        return st.dictionaries(st.integers(0, 2**32 - 1), st.floats(width=32), max_size=4)
    row = st.lists(_elements(spec), min_size=spec.dimension, max_size=spec.dimension)
    return st.lists(row, max_size=3) if spec.kind == "multi" else row


def rows(schema: CollectionSchema, ids: st.SearchStrategy[RecordId] | None = None) -> st.SearchStrategy[Row]:
    """Draw one record; its payload and each of its vectors may be absent."""
    values = st.fixed_dictionaries({}, optional={spec.name: vectors(spec) for spec in schema.vectors})
    found = record_ids() if ids is None else ids
    return st.builds(Row, id=found, payload=st.none() | payloads(), vectors=values)


def collections(schema: CollectionSchema, *, max_size: int = 12) -> st.SearchStrategy[list[Row]]:
    """Draw records with different ids."""
    return st.lists(rows(schema), unique_by=lambda row: encode_key(row.id), max_size=max_size)


SOME_VECTORS = CollectionSchema(
    vectors=(
        VectorSpec(name="", dimension=2, metric="dot"),
        VectorSpec(name="many", kind="multi", datatype="float16", dimension=2, metric="dot"),
        VectorSpec(name="words", kind="sparse"),
    )
)
"""A small schema of three kinds, for histories."""

_FEW_IDS: list[RecordId] = [0, 1, 2, 255, 256, 2**64 - 1, UUID(int=1), "", "a", "b"]
_FEW_PAYLOADS = [None, {}, {"a": None}, {"a": 1}]
_FEW_VECTORS: dict[str, list[Any]] = {
    "": [[1.0, 2.0], [1.0, -0.0], [float("nan"), 0.0]],
    "many": [[], [[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]]],
    "words": [{}, {1: 0.5}, {1: 0.5, 2**32 - 1: 2.0}],
}


def histories(*, max_states: int = 5) -> st.SearchStrategy[list[list[Row]]]:
    """Draw successive states of one collection of `SOME_VECTORS`.

    Ids and values come from small sets, so records change back, go and come again, and lose
    and regain fields all the time.
    """
    values = {name: st.sampled_from(few) for name, few in _FEW_VECTORS.items()}
    row = st.builds(
        Row,
        id=st.sampled_from(_FEW_IDS),
        payload=st.sampled_from(_FEW_PAYLOADS),
        vectors=st.fixed_dictionaries({}, optional=values),
    )
    state = st.lists(row, unique_by=lambda row: encode_key(row.id), max_size=len(_FEW_IDS))
    return st.lists(state, min_size=1, max_size=max_states)


def _elements(spec: VectorSpec) -> st.SearchStrategy[float]:
    if spec.datatype in {"uint8", "int8"}:
        bounds = np.iinfo(numpy_datatype(spec))
        return st.integers(int(bounds.min), int(bounds.max))
    return st.floats(width=16 if spec.datatype == "float16" else 32)
