"""Searching a collection with the server's own index."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import numpy.typing as npt

from recollect.engines.qdrant.connection import Connection, collection_path
from recollect.engines.qdrant.place import ShardKey
from recollect.engines.qdrant.readiness import read_info
from recollect.errors import UnavailableError
from recollect.values.key import encode_key

INDEXING_S = 3600.0
POLL_S = 1.0
_SETTLED = {"green", "grey"}
"""Green: all is indexed. Grey: the optimizers wait for the next write; what they would do is not needed."""


class QdrantSearcher:
    """One collection, by the server's own name of it; with a shard key, its records alone.

    One thread at a time.
    """

    def __init__(self, connection: Connection, collection: str, shard_key: ShardKey | None = None) -> None:
        self._shard_key = shard_key
        self._connection = connection
        self._collection = collection

    def nearest(self, vector: str, query: npt.NDArray[np.float32], k: int) -> list[bytes]:
        """Return the keys of the k nearest records, nearest first."""
        body = {"query": query.tolist(), "limit": k, "with_payload": False, "with_vector": False}
        if self._shard_key is not None:
            body["shard_key"] = self._shard_key
        if vector:
            body["using"] = vector
        path = collection_path(self._collection, "/points/query")
        action = f"searching {self._collection!r}"
        found = self._connection.retry(lambda: self._connection.rest("POST", path, body, action=action))
        ids = [point["id"] for point in found["points"]]
        return [encode_key(UUID(each) if isinstance(each, str) else each) for each in ids]


def wait_until_indexed(connection: Connection, collection: str) -> None:
    """Ask once a second until the collection is green.

    Raises:
        UnavailableError: It is still yellow after an hour, or red.
    """
    until = connection.clock.monotonic() + INDEXING_S
    while True:
        status = read_info(connection, collection)["status"]
        if status in _SETTLED:
            return
        if status == "red" or connection.clock.monotonic() >= until:
            raise UnavailableError(
                f"the collection {collection!r} on {connection.address.url} is {status}, not indexed",
                "see the server's log",
            )
        connection.clock.sleep(POLL_S)
