"""A collection in use: records are written into it where it stands."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from recollect.engines.qdrant.connection import Connection, collection_path
from recollect.engines.qdrant.failures import understood
from recollect.engines.qdrant.library import qdrant_library
from recollect.engines.qdrant.place import ShardKey
from recollect.engines.qdrant.readiness import select_shard_key
from recollect.engines.qdrant.reading import points_to_batch
from recollect.engines.qdrant.writing import PointWriter, request_slices
from recollect.values import batch as columns
from recollect.values.key import decode_keys
from recollect.values.payload import encode_payload
from recollect.values.schema import CollectionSchema

FETCH_ROWS = 500


class QdrantLive:
    """One collection, by the server's own name of it; with a shard key, its records alone.

    One thread at a time.
    """

    def __init__(
        self,
        connection: Connection,
        collection: str,
        schema: CollectionSchema,
        shard_key: ShardKey | None = None,
    ) -> None:
        self._connection = connection
        self._shard_key = shard_key
        self._collection = collection
        self._schema = schema

    @property
    def schema(self) -> CollectionSchema:
        """The collection's schema when it was opened."""
        return self._schema

    def fetch(self, keys: pa.BinaryArray) -> pa.RecordBatch:
        """Return those of these records that exist, ascending by key.

        Vectors come over gRPC; payloads over REST, which alone gives every integer exactly.
        """
        parts = [self._fetch(keys.slice(start, FETCH_ROWS)) for start in range(0, len(keys), FETCH_ROWS)]
        parts = parts or [self._batch([], {})]
        joined = pa.concat_batches(parts)
        return joined.take(pc.sort_indices(joined.column(columns.KEY)))

    def upsert(self, records: pa.RecordBatch) -> None:
        """Write records; the server has applied them when this returns.

        Raises:
            UnsupportedError: A record that Qdrant cannot hold.
            UnavailableError: The server does not take them, after several attempts.
        """
        writer = PointWriter(self._schema)
        action = f"writing records to {self._collection!r}"
        for part in request_slices(records):
            request = qdrant_library().message("UpsertPoints")(collection_name=self._collection, wait=True)
            select_shard_key(request, self._shard_key)
            leftover = writer.fill(part, request)
            if request.points:
                self._send(request, action)
            if leftover:
                self._put({"points": leftover, "shard_key": self._shard_key}, action)

    def _send(self, request: Any, action: str) -> None:
        self._connection.retry(
            lambda: self._connection.end(self._connection.begin("Upsert", request), action=action)
        )

    def _put(self, body: dict[str, Any], action: str) -> None:
        path = collection_path(self._collection, "/points?wait=true")
        self._connection.retry(lambda: self._connection.rest("PUT", path, body, action=action))

    def _fetch(self, keys: pa.BinaryArray) -> pa.RecordBatch:
        wanted = decode_keys(keys)
        ids = [str(each) if isinstance(each, UUID) else each for each in wanted]
        action = f"reading records of {self._collection!r}"
        body = {"ids": ids, "with_payload": True, "with_vector": False, "shard_key": self._shard_key}
        path = collection_path(self._collection, "/points")
        held = self._connection.retry(lambda: self._connection.rest("POST", path, body, action=action))
        with understood(action, self._connection.address):
            payloads = {point["id"]: point.get("payload") or {} for point in held}
        request = qdrant_library().message("ScrollPoints")(collection_name=self._collection, limit=len(ids))
        select_shard_key(request, self._shard_key)
        request.with_payload.enable = False
        request.with_vectors.enable = True
        condition = request.filter.must.add().has_id
        for each in ids:
            identity = condition.has_id.add()
            if isinstance(each, str):
                identity.uuid = each
            else:
                identity.num = each
        answer, _ = self._connection.retry(
            lambda: self._connection.end(self._connection.begin("Scroll", request), action=action)
        )
        with understood(action, self._connection.address):
            return self._batch(list(answer.result), payloads)

    def _batch(self, points: list[Any], payloads: dict[Any, Any]) -> pa.RecordBatch:
        present = [point for point in points if _identity(point) in payloads]
        encoded = [encode_payload(payloads[_identity(point)]) for point in present]
        return points_to_batch(present, encoded, self._schema)


def _identity(point: Any) -> int | str:
    return int(point.id.num) if point.id.HasField("num") else str(point.id.uuid)
