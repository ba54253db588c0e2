"""Ids, payloads, vectors and mixed records that an engine must carry without a change."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np

from recollect.testing.engine_harness import EngineFeatures
from recollect.testing.records import Row
from recollect.values.key import RecordId, encode_key
from recollect.values.schema import CollectionSchema, VectorSpec

INTEGERS: tuple[RecordId, ...] = (0, 1, 2, 10, 255, 256, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1)
UUIDS: tuple[RecordId, ...] = (
    UUID(int=0),
    UUID(int=1),
    UUID("00000000-0000-0001-0000-000000000000"),
    UUID("7fffffff-ffff-ffff-ffff-ffffffffffff"),
    UUID("80000000-0000-4000-8000-000000000000"),
    UUID(int=2**128 - 1),
)
STRINGS: tuple[RecordId, ...] = ("", "0", "10", "9", "a", "a\0b", "doc/1", "\u00e9", "\U0001f600")

PAYLOADS: dict[str, dict[str, Any]] = {
    "empty": {},
    "null": {"a": None},
    "nested": {"a": {"b": {"c": [1, [2, {"d": None}], {}, []]}}, "": {"": ""}},
    "booleans": {"t": True, "f": False, "mixed": [True, 1, 1.0, "1", None]},
    "integers": {"min": -(2**63), "max": 2**63 - 1, "small": [0, -1, 1], "beyond doubles": 2**53 + 1},
    "unsigned": {"list": [2**64 - 1, 2**63], "deep": {"x": 2**63 + 1}, "double": 2.0**63},
    "doubles": {"one": 1.0, "tenth": 0.1, "tiny": 5e-324, "huge": 1.7976931348623157e308, "zero": -0.0},
    "whole doubles": {"list": [1e15, 1e16, 1e22, -3.0, 9007199254740993.0, 1e19, -1e19, 2.0**64]},
    "unicode": {"t": "\u00e9\u4e2d\U0001f600 \u202e", "\u00e9\U0001f600": 1, "cafe\u0301": 2, "caf\u00e9": 3},
    "nul": {"t": "a\0b", "k\0k": "\0", "controls": "\x01\x1f\x7f\u2028"},
    "dots": {"a.b": 1, "a": {"b": 2}, "x[0]": 3, 'quo"te': "\\"},
    "long": {"t": "x" * 100_000, "list": list(range(1000))},
}


def schema_of(*vectors: VectorSpec) -> CollectionSchema:
    """Return a schema with these vectors and nothing else."""
    return CollectionSchema(vectors=tuple(sorted(vectors, key=lambda spec: spec.name)))


SMALL = schema_of(VectorSpec(name="v", dimension=2, metric="dot"))


def small_row(record_id: RecordId) -> Row:
    """Return a record of `SMALL`."""
    return Row(id=record_id, payload={"id": str(record_id)}, vectors={"v": [1.5, -2.25]})


def sample_matrix(datatype: str, *, rows: int) -> list[list[Any]]:
    """Return rows of 8 elements of a type: random ones, and its extremes."""
    random = np.random.default_rng(7)
    if datatype in {"uint8", "int8"}:
        bounds = np.iinfo(datatype)
        integers = random.integers(bounds.min, bounds.max, size=(rows, 8), endpoint=True)
        integers[0] = [bounds.min, bounds.max] * 4
        return list(integers.astype(datatype).tolist())
    limits = np.finfo(datatype)
    matrix = random.standard_normal((rows, 8)).astype(datatype)
    matrix[0] = [0.0, -0.0, limits.tiny, -limits.smallest_subnormal, limits.eps, 1.0, -1.0, limits.max / 16]
    return [list(row) for row in matrix]


def mixed_rows(features: EngineFeatures, seed: int) -> tuple[CollectionSchema, list[Row]]:
    """Return about 200 random records that use everything the engine has."""
    random = np.random.default_rng(seed)
    specs = [VectorSpec(name="d", dimension=5, metric="dot")]
    if "sparse" in features.vector_kinds:
        specs.append(VectorSpec(name="s", kind="sparse"))
    if "multi" in features.vector_kinds:
        parameters = {"multivector_config": {"comparator": "max_sim"}}
        specs.append(VectorSpec(name="m", kind="multi", dimension=3, metric="dot", parameters=parameters))
    rows = [
        Row(id=each, payload=_random_payload(random), vectors=_random_vectors(random, specs, features))
        for each in _random_ids(random, features)
    ]
    return schema_of(*specs), rows


def _random_ids(random: np.random.Generator, features: EngineFeatures) -> list[RecordId]:
    ids: set[RecordId] = set()
    if "integer" in features.id_types:
        ids |= {int(each) for each in random.integers(0, 2**64 - 1, 90, dtype=np.uint64, endpoint=True)}
        ids |= set(range(30))
    if "uuid" in features.id_types:
        ids |= {UUID(bytes=random.bytes(16)) for _ in range(60)}
    if "string" in features.id_types:
        ids |= {random.bytes(5).hex() for _ in range(40)}
    return sorted(ids, key=encode_key)


def _random_payload(random: np.random.Generator) -> dict[str, Any]:
    names_and_values = list(PAYLOADS.values())
    chosen = dict(names_and_values[int(random.integers(0, len(names_and_values) - 1))])
    chosen["n"] = int(random.integers(-(2**62), 2**62))
    chosen["f"] = float(random.standard_normal())
    return chosen


def _random_vectors(
    random: np.random.Generator, specs: list[VectorSpec], features: EngineFeatures
) -> dict[str, Any]:
    vectors: dict[str, Any] = {}
    for spec in specs:
        if random.random() < 0.2 and features.absent_vectors:
            continue
        if spec.kind == "sparse":
            indices = random.choice(1000, size=int(random.integers(1, 20)), replace=False)
            vectors[spec.name] = {int(index): float(np.float32(random.random())) for index in indices}
        elif spec.kind == "multi":
            shape = (int(random.integers(1, 5)), spec.dimension)
            vectors[spec.name] = random.standard_normal(shape).astype(np.float32).tolist()
        else:
            vectors[spec.name] = random.standard_normal(spec.dimension).astype(np.float32).tolist()
    return vectors
