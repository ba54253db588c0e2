"""What several tests do: run a call of the face, change a database, compare databases exactly."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import numpy as np

from recollect.database import Database, VectorStore

_Result = TypeVar("_Result")

DIMENSION = 24


def run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run one call of the face."""
    return asyncio.run(work)


def content(collection: Database | VectorStore) -> dict[Any, tuple[bytes, Any]]:
    """Return every record: id → bytes of the vector, metadata."""
    store = collection.vectors if isinstance(collection, Database) else collection
    return {(type(one.id), one.id): (one.vector.tobytes(), one.metadata) for one in store.records()}


def change(database: Database, seed: int, count: int = 12) -> None:
    """Add, overwrite, delete, and change metadata only."""
    generator = np.random.default_rng(seed)
    known = database.vectors.ids()
    chosen = [known[number] for number in generator.choice(len(known), 3 * count, replace=False)]
    fresh = [f"new-{seed}-{number}" for number in range(count)]
    rows = generator.normal(size=(2 * count, DIMENSION)).astype(np.float32)
    database.vectors.set_many([*chosen[:count], *fresh], rows, [{"seed": seed}] * (2 * count))
    database.vectors.delete_many(chosen[count : 2 * count])
    for record_id in chosen[2 * count :]:
        database.vectors.set_metadata(record_id, {"touched": seed})
