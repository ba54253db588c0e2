"""Records of one collection behind a client: read in pages, written in batches, compared by digest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
import numpy as np
import xxhash

from recollect.compat.codeweaver.client_calls import ClientCalls
from recollect.errors import MissingDependencyError, RequestError

PointId: TypeAlias = int | str
Digest: TypeAlias = bytes

_ENCODER = msgspec.json.Encoder(order="deterministic")


class StoreRecords:
    """The records of a vector store's collection.

    Args:
        store: Has `client` and `collection_name`.
        timeout_s: How long one call may take.
        batch_size: Records of one call.
    """

    def __init__(self, store: Any, *, timeout_s: float, batch_size: int) -> None:
        self.collection_name: str = store.collection_name
        self._calls = ClientCalls(store.client)
        self._timeout_s = timeout_s
        self._batch_size = batch_size

    async def probe(self) -> None:
        """Make one cheap call; raises whatever is wrong."""
        await self._call("get_collections", {})

    async def exists(self) -> bool:
        """Tell whether the collection is there."""
        return bool(await self._call("collection_exists", {"collection_name": self.collection_name}))

    async def create_like(self, other: StoreRecords) -> None:
        """Create the collection with the vectors of another one. Payload indexes are not copied."""
        described = await other._call("get_collection", {"collection_name": other.collection_name})
        params = described.config.params
        arguments = {
            "collection_name": self.collection_name,
            "vectors_config": params.vectors,
            "sparse_vectors_config": params.sparse_vectors,
        }
        await self._call("create_collection", arguments)

    async def scan(self) -> AsyncIterator[list[Any]]:
        """Yield all records, page by page, with vectors and payloads."""
        offset: Any = None
        while True:
            arguments = {
                "collection_name": self.collection_name,
                "limit": self._batch_size,
                "offset": offset,
                "with_payload": True,
                "with_vectors": True,
            }
            page, offset = await self._call("scroll", arguments)
            if page:
                yield page
            if offset is None:
                return

    async def retrieve(self, ids: Sequence[PointId]) -> list[Any]:
        """Return those of these records that exist."""
        arguments = {
            "collection_name": self.collection_name,
            "ids": list(ids),
            "with_payload": True,
            "with_vectors": True,
        }
        found: list[Any] = await self._call("retrieve", arguments)
        return found

    async def write(self, points: Sequence[Any]) -> None:
        """Insert or replace records; complete when this returns."""
        arguments = {"collection_name": self.collection_name, "points": list(points), "wait": True}
        await self._call("upsert", arguments)

    async def delete(self, ids: Sequence[PointId]) -> None:
        """Delete records; complete when this returns."""
        arguments = {"collection_name": self.collection_name, "points_selector": list(ids), "wait": True}
        await self._call("delete", arguments)

    async def _call(self, name: str, arguments: dict[str, Any]) -> Any:
        return await self._calls.call(name, arguments, timeout_s=self._timeout_s)


def id_of(point: Any) -> PointId:
    """Return a point's id as a server gives it back: UUIDs in their usual form.

    Raises:
        RequestError: It has none.
    """
    found = point.get("id") if isinstance(point, Mapping) else getattr(point, "id", None)
    if found is None:
        raise RequestError(f"a point has no id: {str(point)[:200]}")
    return normal_id(found)


def normal_id(identity: Any) -> PointId:
    """Return an id as a server gives it back."""
    if isinstance(identity, int):
        return identity
    try:
        return str(UUID(str(identity)))
    except ValueError:
        return str(identity)


def as_points(records: Sequence[Any]) -> list[Any]:
    """Turn records that were read into points that can be written."""
    try:
        from qdrant_client import models  # noqa: PLC0415 - an extra: only users of Qdrant clients need it
    except ImportError as error:
        raise MissingDependencyError(
            "copying records between Qdrant stores needs the package qdrant-client",
            'install it with `pip install "recollect[qdrant]"`',
        ) from error
    return [
        models.PointStruct(id=record.id, vector=record.vector or {}, payload=record.payload)
        for record in records
    ]


def digest(record: Any) -> Digest:
    """Digest a record's payload and vectors; equal whichever protocol brought them."""
    hashed = xxhash.xxh3_128(_ENCODER.encode(record.payload or {}))
    _mix(hashed, record.vector)
    return hashed.digest()


def _mix(hashed: xxhash.xxh3_128, vector: Any) -> None:
    if vector is None:
        return
    if isinstance(vector, Mapping):
        for name in sorted(vector):
            hashed.update(b"\0" + name.encode() + b"\0")
            _mix(hashed, vector[name])
    elif hasattr(vector, "indices"):
        pairs = sorted(zip(vector.indices, vector.values, strict=True))
        hashed.update(np.array([index for index, _ in pairs], dtype="<u4").tobytes())
        hashed.update(np.array([value for _, value in pairs], dtype="<f4").tobytes())
    else:
        # JSON brings the shortest decimal of a float32, gRPC its double: as float32 they are equal.
        hashed.update(np.asarray(vector, dtype="<f4").tobytes())
