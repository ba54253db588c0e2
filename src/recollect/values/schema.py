"""What a collection is: its vectors, payload indexes and parameters.

Kept twice: verbatim as the engine gave it (`native`), so that nothing is lost, and
normalized, so that another engine can be created from it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from recollect.errors import RequestError

VectorKind: TypeAlias = Literal["dense", "sparse", "multi"]
Datatype: TypeAlias = Literal["float32", "float16", "uint8", "int8"]
Metric: TypeAlias = Literal["cosine", "dot", "euclid", "manhattan"]

DIMENSION_MAX = 1 << 24
"""No engine comes near; a stored schema beyond it is damaged or forged."""


class VectorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One named vector of a collection.

    Attributes:
        name: The engine's name; the unnamed vector of Qdrant is the empty string.
        kind: dense (one row), sparse (indices and values), multi (several rows).
        datatype: Element type of the stored values.
        dimension: Elements per row; 0 for sparse vectors.
        metric: How two vectors compare; None where the engine fixes it (sparse: dot product).
        parameters: Index and storage parameters in Qdrant's words (`hnsw_config`, `quantization_config`,
            `on_disk`, `multivector_config`, `modifier`, `index`); empty where the engine has none.
    """

    name: str
    kind: VectorKind = "dense"
    datatype: Datatype = "float32"
    dimension: Annotated[int, msgspec.Meta(ge=0, le=DIMENSION_MAX)] = 0
    metric: Metric | None = None
    parameters: dict[str, Any] = {}


class PayloadIndex(msgspec.Struct, frozen=True, kw_only=True):
    """One indexed payload field; `parameters` verbatim (tokenizer, ranges, on_disk, …)."""

    field: str
    type: str
    parameters: dict[str, Any] = {}


class CollectionSchema(msgspec.Struct, frozen=True, kw_only=True):
    """Everything needed to create a collection again.

    Attributes:
        vectors: Sorted by name.
        payload_indexes: Sorted by field.
        parameters: Collection-wide settings in Qdrant's words (`hnsw_config`, `optimizers_config`,
            `quantization_config`, `shard_number`, `replication_factor`, `on_disk_payload`, …).
        native_engine: The engine product that `native` belongs to.
        native: The engine's own configuration, verbatim.
    """

    vectors: tuple[VectorSpec, ...] = ()
    payload_indexes: tuple[PayloadIndex, ...] = ()
    parameters: dict[str, Any] = {}
    native_engine: str = ""
    native: dict[str, Any] = {}

    def vector(self, name: str) -> VectorSpec:
        """Return the vector of this name; RequestError names those that exist."""
        for spec in self.vectors:
            if spec.name == name:
                return spec
        known = ", ".join(repr(spec.name) for spec in self.vectors) or "none"
        raise RequestError(f"there is no vector {name!r} in the collection; it has: {known}")


def layout_difference(expected: CollectionSchema, found: CollectionSchema) -> str:
    """Say where two schemas cannot hold the same records; empty when they can.

    Names, kinds, datatypes and dimensions count; metrics and index parameters do not.
    """
    old = {spec.name: spec for spec in expected.vectors}
    new = {spec.name: spec for spec in found.vectors}
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            return f"vector {name!r} is missing"
        if name not in old:
            return f"vector {name!r} is not expected"
        ours, theirs = old[name], new[name]
        for what in ("kind", "dimension", "datatype"):
            left, right = getattr(ours, what), getattr(theirs, what)
            if left != right:
                return f"vector {name!r} has {what} {right}, expected {left}"
    return ""
