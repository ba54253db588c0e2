"""All points of a collection, page by page, over gRPC.

A page is consistent within each shard; pages are not consistent with one another. The server merges
its shards by id, so the order is the canonical one: it is checked, because everything above relies on
it. The offset of a page is its first id, inclusive: no record stands on two pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pyarrow as pa

from recollect.engines.qdrant.connection import Connection, collection_path
from recollect.engines.qdrant.failures import PageTooLargeError, understood
from recollect.engines.qdrant.library import qdrant_library
from recollect.engines.qdrant.readiness import select_shard_key
from recollect.engines.qdrant.reading import point_ids, points_to_batch
from recollect.engines.qdrant.values import PayloadReader
from recollect.errors import IntegrityError, UnavailableError
from recollect.values import batch as columns
from recollect.values.key import display_key
from recollect.values.payload import encode_payload
from recollect.values.schema import CollectionSchema

PAGE_BYTES = 4 << 20
"""Aim of one page: half of what fits is on the way while the other half is decoded."""

FIRST_PAGE_ROWS = 256
GROWTH_MAX = 4
"""A page asks for at most so many times the rows of the one before: records may be larger further on."""


class Scroll:
    """One pass over a collection; `row_count` tells how many records it has yielded."""

    def __init__(
        self,
        connection: Connection,
        collection: str,
        schema: CollectionSchema,
        *,
        batch_rows: int,
        page_rows_max: int | None = None,
        shard_key: str | int | None = None,
    ) -> None:
        self.row_count = 0
        self._connection = connection
        self._collection = collection
        self._shard_key = shard_key
        self._schema = schema
        self._rows_max = min(batch_rows, page_rows_max or batch_rows)
        self._rows = min(FIRST_PAGE_ROWS, self._rows_max)
        self._last_key = b""
        self._action = f"reading the records of {collection!r}"

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all records, ascending by key.

        The next page is under way while a page is decoded and used.

        Raises:
            UnavailableError: The server went away, or a single record is larger than an answer may be.
            IntegrityError: The server broke the order of ids.
        """
        offset: Any = None
        pending = self._begin(offset)
        while True:
            answer, size = self._end(pending, offset)
            self._adapt(len(answer.result), size)
            is_last = not answer.HasField("next_page_offset")
            if not is_last:
                offset = answer.next_page_offset
                pending = self._begin(offset)
            if answer.result:
                with understood(self._action, self._connection.address):
                    batch = self._decode(answer.result)
                try:
                    yield batch
                except GeneratorExit:
                    pending.cancel()
                    raise
            elif not is_last:
                raise IntegrityError(f"{self._action}: an empty page is followed by another one")
            if is_last:
                return

    def _begin(self, offset: Any) -> Any:
        request = qdrant_library().message("ScrollPoints")(collection_name=self._collection, limit=self._rows)
        select_shard_key(request, self._shard_key)
        request.with_payload.enable = True
        request.with_vectors.enable = True
        if offset is not None:
            request.offset.CopyFrom(offset)
        return self._connection.begin("Scroll", request)

    def _end(self, pending: Any, offset: Any) -> tuple[Any, int]:
        """Wait for a page; ask again, for less where it was too much, for as long as that makes sense."""
        first = [pending]

        def attempt() -> tuple[Any, int]:
            future = first.pop() if first else self._begin(offset)
            return self._connection.end(future, action=self._action)

        while True:
            try:
                return self._connection.retry(attempt)
            except PageTooLargeError as error:
                if self._rows == 1:
                    raise UnavailableError(
                        f"{error.message} (one record)",
                        "raise the message limit of the proxy in between, or of the collection's strict mode",
                    ) from error
                self._rows //= 2
                self._rows_max = self._rows

    def _adapt(self, row_count: int, size: int) -> None:
        """Choose the next page's rows by the size of this one's."""
        if row_count:
            wanted = PAGE_BYTES * row_count // max(1, size)
            self._rows = max(1, min(wanted, self._rows * GROWTH_MAX, self._rows_max))

    def _decode(self, points: Any) -> pa.RecordBatch:
        reader = PayloadReader()
        payloads: list[bytes] = []
        suspects: list[int] = []
        for row, point in enumerate(points):
            payloads.append(encode_payload(reader.read(point.payload)))
            if reader.is_suspect:
                suspects.append(row)
        batch = points_to_batch(points, payloads, self._schema)
        if suspects:
            batch = self._with_exact_payloads(batch, points, payloads, suspects)
        self._check_order(batch.column(columns.KEY))
        self.row_count += batch.num_rows
        return batch

    def _with_exact_payloads(
        self, batch: pa.RecordBatch, points: Any, payloads: list[bytes], suspects: list[int]
    ) -> pa.RecordBatch:
        """Take payloads from REST that may hold integers which gRPC rounds.

        A record that has been deleted in between is left out: what is deleted during a scan may be.
        """
        ids = point_ids([points[row] for row in suspects])
        wanted = [str(each) if isinstance(each, UUID) else each for each in ids]
        body = {"ids": wanted, "with_payload": True, "with_vector": False, "shard_key": self._shard_key}
        path = collection_path(self._collection, "/points")
        found = self._connection.retry(lambda: self._connection.rest("POST", path, body, action=self._action))
        exact = {point["id"]: encode_payload(point.get("payload") or {}) for point in found}
        gone = set()
        for row, each in zip(suspects, wanted, strict=True):
            if each in exact:
                payloads[row] = exact[each]
            else:
                gone.add(row)
        index = batch.schema.get_field_index(columns.PAYLOAD)
        batch = batch.set_column(index, batch.schema.field(index), pa.array(payloads, type=pa.binary()))
        return (
            batch.take(pa.array([row for row in range(batch.num_rows) if row not in gone])) if gone else batch
        )

    def _check_order(self, keys: pa.BinaryArray) -> None:
        previous = self._last_key
        for key in keys.to_pylist():
            if key <= previous:
                raise IntegrityError(
                    f"{self._action}: the server sent {display_key(key)} after {display_key(previous)}",
                    "points with one id under several shard keys, or a server that does not scroll by id, "
                    "cannot be backed up this way",
                )
            previous = key
        self._last_key = previous
