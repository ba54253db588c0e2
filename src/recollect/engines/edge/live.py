"""A shard in use: written into where it stands, or searched. The engine's lock keeps others out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recollect.engines.edge.binding import edge_errors, edge_library
from recollect.engines.edge.scan import records_to_batch
from recollect.engines.edge.shard import require_space
from recollect.engines.edge.write import batch_to_points, operations_of
from recollect.values import batch as columns
from recollect.values.key import decode_keys, encode_key
from recollect.values.schema import CollectionSchema


class EdgeLive:
    """An open shard. A crash leaves the records that were written before it, each of them whole."""

    def __init__(self, shard: Any, path: Path, schema: CollectionSchema) -> None:
        self._shard = shard
        self._path = path
        self._schema = schema

    @property
    def schema(self) -> CollectionSchema:
        """The shard's schema."""
        return self._schema

    def fetch(self, keys: pa.BinaryArray) -> pa.RecordBatch:
        """Return those of these records that exist, ascending by key."""
        with edge_errors("reading", self._path):
            records = self._shard.retrieve(point_ids=decode_keys(keys), with_payload=True, with_vector=True)
        found = records_to_batch(records, self._schema)
        return found.take(pc.sort_indices(found.column(columns.KEY)))

    def upsert(self, records: pa.RecordBatch) -> None:
        """Write records and flush them; StorageFullError before a full disk would end the process."""
        operation = edge_library().UpdateOperation
        for piece in operations_of(records):
            require_space(self._path, piece.nbytes)
            points = batch_to_points(piece, self._schema)
            with edge_errors("writing", self._path):
                self._shard.update(operation.upsert_points(points))
        with edge_errors("writing", self._path):
            self._shard.flush()


class EdgeSearcher:
    """An open shard that is searched with the engine's own index."""

    def __init__(self, shard: Any, path: Path) -> None:
        self._shard = shard
        self._path = path

    def nearest(self, vector: str, query: npt.NDArray[np.float32], k: int) -> list[bytes]:
        """Return the keys of the k nearest records, nearest first."""
        library = edge_library()
        wanted = library.Query.Nearest(query.tolist(), using=vector or None)
        request = library.SearchRequest(query=wanted, limit=k, with_vector=False, with_payload=False)
        with edge_errors("searching", self._path):
            found = self._shard.search(request)
        return [encode_key(point.id) for point in found]
