"""Payloads and vectors between Python, protobuf and Arrow lose nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import grpc as wire

from recollect.engines.adapt import engine_double, written_double, written_payload
from recollect.engines.qdrant.library import qdrant_library
from recollect.engines.qdrant.reading import points_to_batch
from recollect.engines.qdrant.schema import schema_from_info
from recollect.engines.qdrant.values import PayloadReader, WideIntegerError, check_integers, write_payload
from recollect.errors import IntegrityError, UnsupportedError
from recollect.testing.engine_samples import schema_of
from recollect.values.payload import encode_payload
from recollect.values.schema import VectorSpec

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | FINITE | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(TEXT, VALUES, max_size=6))
def test_payloads_survive_protobuf_with_their_types(payload: dict[str, Any]) -> None:
    point = _new_point()
    write_payload(payload, point.payload)
    stock = wire.PointStruct.FromString(point.SerializeToString())
    back = type(point).FromString(stock.SerializeToString())
    assert repr(_sorted(PayloadReader().read(back.payload))) == repr(_sorted(payload))
    assert set(stock.payload) == set(payload)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("value", [2**63, 2**64 - 1])
def test_integers_beyond_grpc_are_found_at_any_depth(value: int) -> None:
    with pytest.raises(WideIntegerError):
        write_payload({"a": [1, {"b": [value]}]}, _new_point().payload)
    check_integers({"a": [value]})


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
def test_integers_beyond_qdrant_are_refused(value: int) -> None:
    with pytest.raises(UnsupportedError, match=str(value)):
        write_payload({"a": {"b": value}}, _new_point().payload)
    with pytest.raises(UnsupportedError, match=str(value)):
        check_integers({"u": 2**63, "a": [value]})


@pytest.mark.parametrize(
    ("value", "is_suspect"),
    [(2.0**63, True), (2.0**64, True), (2.0**62, False), (-(2.0**63), False), (1e300, False)],
)
def test_doubles_in_the_range_of_unsigned_integers_are_suspect(value: float, *, is_suspect: bool) -> None:
    point = _new_point()
    write_payload({"a": [value], "b": {"c": 1}}, point.payload)
    reader = PayloadReader()
    reader.read(point.payload)
    assert reader.is_suspect is is_suspect


def _new_point() -> Any:
    return qdrant_library().message("UpsertPoints")().points.add()


@given(FINITE)
def test_what_an_engine_gives_back_can_be_written(value: float) -> None:
    held = engine_double(value)
    if not math.isfinite(held):
        return
    written = written_double(held)
    assert written is not None
    assert engine_double(written) == held
    assert written_payload(encode_payload({"a": [held]})) == {"a": [written]}


@given(st.floats(-1e15, 1e15).map(lambda value: round(value, 3)))
def test_doubles_of_few_digits_are_written_as_they_are(value: float) -> None:
    if len(repr(value)) <= 16:
        assert written_double(value) == value


def test_older_servers_flat_vectors_are_read() -> None:
    schema = schema_of(
        VectorSpec(name="d", dimension=2, metric="dot"),
        VectorSpec(name="m", kind="multi", dimension=2, metric="dot"),
        VectorSpec(name="s", kind="sparse"),
    )
    named = {
        "d": wire.VectorOutput(data=[1.5, -0.0]),
        "m": wire.VectorOutput(data=[1.0, 2.0, 3.0, 4.0], vectors_count=2),
        "s": wire.VectorOutput(data=[0.5, 0.25], indices=wire.SparseIndices(data=[9, 3])),
    }
    vectors = wire.VectorsOutput(vectors=wire.NamedVectorsOutput(vectors=named))
    batch = points_to_batch(
        _points(wire.RetrievedPoint(id=wire.PointId(num=1), vectors=vectors)), [b"{}"], schema
    )
    (row,) = batch.drop_columns(["key", "position", "payload"]).to_pylist()
    assert row == {
        "vector:d": [1.5, -0.0],
        "vector:m": [[1.0, 2.0], [3.0, 4.0]],
        "vector:s": [{"index": 3, "value": 0.25}, {"index": 9, "value": 0.5}],
    }


@pytest.mark.parametrize(
    ("datatype", "data"),
    [("float32", [1.0]), ("float16", [0.1, 1.0]), ("uint8", [1.0, 256.0]), ("uint8", [0.5, 1.0])],
)
def test_vectors_that_contradict_the_configuration_are_damage(datatype: Any, data: list[float]) -> None:
    schema = schema_of(VectorSpec(name="", dimension=2, datatype=datatype, metric="dot"))
    vectors = wire.VectorsOutput(vector=wire.VectorOutput(dense=wire.DenseVector(data=data)))
    points = _points(wire.RetrievedPoint(id=wire.PointId(num=1), vectors=vectors))
    with pytest.raises(IntegrityError, match="vector ''"):
        points_to_batch(points, [b"{}"], schema)


def test_every_float32_survives_the_wire() -> None:
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**32, size=(100, 64), dtype=np.uint32)
    schema = schema_of(VectorSpec(name="", dimension=64, metric="dot"))
    found = qdrant_library().message("ScrollResponse")()
    for number, row in enumerate(bits):
        point = found.result.add()
        point.id.num = number
        point.vectors.vector.dense.data = row.tobytes()
    batch = points_to_batch(found.result, [b"{}"] * 100, schema)
    matrix = batch.column("vector:").values.to_numpy().view(np.uint32)
    assert np.array_equal(matrix, bits.reshape(-1))


@pytest.mark.parametrize("datatype", ["turbo4", "turbo8", "something-new"])
def test_datatypes_that_lose_values_are_refused(datatype: str) -> None:
    params = {"vectors": {"size": 2, "distance": "Dot", "datatype": datatype}}
    with pytest.raises(UnsupportedError, match=datatype):
        schema_from_info({"config": {"params": params}}, "the collection 'docs'")


def _points(*points: Any) -> Any:
    """Pass stock messages through the wire into the ones that the adapter reads."""
    content = wire.ScrollResponse(result=points).SerializeToString()
    return qdrant_library().message("ScrollResponse").FromString(content).result
