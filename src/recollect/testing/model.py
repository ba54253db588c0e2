"""Collections as plain dictionaries of bytes: what tests compare the real thing with.

Nothing here uses digests, fingerprints or segments, so a bug in them shows as a difference.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import pyarrow as pa

from recollect.values import batch as columns
from recollect.values.schema import CollectionSchema, VectorSpec

Fields: TypeAlias = dict[str, bytes]
"""One record: the exact bytes of each field that it has, by value column; absent ones are missing."""
State: TypeAlias = dict[bytes, Fields]
"""One collection: its records by key."""


def state_of(batches: Iterable[pa.RecordBatch], schema: CollectionSchema) -> State:
    """Read batches of records, or of upserts that carry all values, as a model state.

    Raises:
        AssertionError: A key comes twice.
    """
    state: State = {}
    for batch in batches:
        keys = batch.column(columns.KEY).to_pylist()
        found = {columns.PAYLOAD: batch.column(columns.PAYLOAD).to_pylist()}
        for spec in schema.vectors:
            name = columns.vector_column(spec.name)
            found[name] = [vector_bytes(value, spec) for value in batch.column(name)]
        for row, key in enumerate(keys):
            assert key not in state, f"key {key.hex()} comes twice"
            state[key] = {name: values[row] for name, values in found.items() if values[row] is not None}
    return state


def vector_bytes(value: Any, spec: VectorSpec) -> bytes | None:
    """Return the bits of one vector, an Arrow scalar; None for an absent one."""
    if not value.is_valid:
        return None
    items = value.values
    if spec.kind == "sparse":
        parts = [items.field(name).to_numpy(zero_copy_only=False).tobytes() for name in ("index", "value")]
        return b"|".join(parts)
    if spec.kind == "multi":
        # The count tells [] from an absent vector, and rows from elements.
        elements = items.flatten().to_numpy(zero_copy_only=False)
        return len(items).to_bytes(4, "little") + bytes(elements.tobytes())
    return bytes(items.to_numpy(zero_copy_only=False).tobytes())


def changes_of(old: State, new: State) -> tuple[int, int, int]:
    """Count what was added, changed and removed between two states."""
    changed = sum(old[key] != new[key] for key in old.keys() & new.keys())
    return len(new.keys() - old.keys()), changed, len(old.keys() - new.keys())
