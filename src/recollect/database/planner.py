"""Checks that need to know what the commits before will have done.

Commits are numbered when they are queued and applied later, after they are logged. So a vector's
dimension is checked against the collections as they will be then: `Planner` keeps their
schemas one step ahead of the tables. Used under the queue's lock.
"""

from __future__ import annotations

from collections.abc import Sequence

from recollect.database import operation as ops
from recollect.database.operation import Operation
from recollect.errors import ConflictError, NotFoundError, RequestError
from recollect.values.schema import CollectionSchema, Metric, VectorSpec

RESERVED_NAMES = frozenset({"events", "state"})
"""Names of the other two stores; no vector collection can have one."""


class Planner:
    """The collections as they are after everything that was queued."""

    def __init__(self, schemas: dict[str, CollectionSchema], metric: Metric) -> None:
        self._schemas = schemas
        self._metric: Metric = metric

    def plan(self, operations: Sequence[Operation]) -> list[Operation]:
        """Check a commit and complete it: a first write creates its collection.

        Raises:
            RequestError, NotFoundError, ConflictError: It cannot be applied; nothing is changed.
        """
        schemas = dict(self._schemas)
        planned: list[Operation] = []
        for op in operations:
            planned.extend(self._step(op, schemas))
        self._schemas = schemas
        return planned

    def _step(self, op: Operation, schemas: dict[str, CollectionSchema]) -> list[Operation]:
        match op:
            case ops.VectorsSet():
                return self._set(op, schemas)
            case ops.CollectionCreate():
                if op.collection in schemas:
                    raise ConflictError(f"there is a vector collection {op.collection!r} already")
                schemas[op.collection] = op.schema
            case ops.CollectionDrop():
                _known(op.collection, schemas)
                del schemas[op.collection]
            case ops.CollectionSwitch():
                schemas[op.new_name] = _known(op.collection, schemas)
                if op.new_name != op.collection:
                    del schemas[op.collection]
            case ops.VectorsDelete() | ops.MetadataSet() | ops.VectorsClear():
                if op.collection not in schemas:
                    return []  # nothing was ever written there, so there is nothing to change
            case _:
                pass
        return [op]

    def _set(self, op: ops.VectorsSet, schemas: dict[str, CollectionSchema]) -> list[Operation]:
        if not op.keys:
            return []
        dimension = len(op.vectors) // 4 // len(op.keys)
        schema = schemas.get(op.collection)
        if schema is None:
            schema = plain_schema(dimension, self._metric)
            schemas[op.collection] = schema
            return [ops.CollectionCreate(op.collection, schema), op]
        expected = schema.vectors[0].dimension
        if dimension != expected:
            raise RequestError(f"Vector dimension mismatch: expected {expected}, got {dimension}")
        return [op]


def plain_schema(dimension: int, metric: Metric) -> CollectionSchema:
    """Return the schema of a collection that its first vector creates."""
    return CollectionSchema(vectors=(VectorSpec(name="", dimension=dimension, metric=metric),))


def _known(collection: str, schemas: dict[str, CollectionSchema]) -> CollectionSchema:
    if collection not in schemas:
        known = ", ".join(sorted(schemas)) or "none"
        raise NotFoundError(f"there is no vector collection {collection!r}; there are: {known}")
    return schemas[collection]
