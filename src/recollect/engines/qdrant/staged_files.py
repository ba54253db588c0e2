"""A collection that is being restored from a server's own files: shard by shard, index and all.

Each shard's files become one plain shard snapshot (no manifests in it: a server takes those for a partial
one), which goes to a node that holds a replica of the shard, with `priority=snapshot`: the other
replicas follow it. The server compares the checksum before it begins.
Source: qdrant, src/actix/api/snapshot_api.rs and lib/collection/src/shards/replica_set/snapshots.rs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pyarrow as pa

from recollect.engines.base import ReadPiece
from recollect.engines.qdrant.capture.access import Access
from recollect.engines.qdrant.capture.cluster import ShardLayout, find_nodes, find_shards
from recollect.engines.qdrant.capture.spool import Budget, Spool, disk_errors
from recollect.engines.qdrant.connection import PATIENCE_S, Connection, collection_path, refusal_text
from recollect.engines.qdrant.creation import Creation
from recollect.engines.qdrant.failures import from_status, from_transport
from recollect.engines.qdrant.library import qdrant_library
from recollect.engines.qdrant.sparse_tar import SparseTarWriter
from recollect.engines.qdrant.staged import QdrantStaged
from recollect.errors import RequestError, UnavailableError
from recollect.values.key import decode_keys
from recollect.values.schema import CollectionSchema
from recollect.values.snapshot import FileRef, ShardEntry

SEGMENTS = "segments/"
DELETE_IDS = 1000
ACTIVE_DELAYS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Scratch:
    """Where archives are built before they are sent: their checksum goes first."""

    def __init__(self, directory: Path, bytes_max: int | None, new_id: Callable[[], str]) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
        self._new_id = new_id

    def open(self) -> Spool:
        """Return a spool to enter."""
        return Spool(self._directory, self._bytes_max, self._new_id)


class QdrantStagedFiles(QdrantStaged):
    """A collection being loaded from files under a name of its own. One thread at a time."""

    def __init__(
        self,
        connection: Connection,
        name: str,
        physical: str,
        schema: CollectionSchema,
        aliases: tuple[str, ...],
        creation: Creation,
        *,
        access: Access,
        scratch: Scratch,
        stale_indexes: Sequence[str] = (),
    ) -> None:
        super().__init__(connection, name, physical, schema, aliases, creation)
        self._access = access
        self._scratch = scratch
        self._stale_indexes = stale_indexes
        self._expected_count = 0

    def load_shard(self, shard: ShardEntry, read: ReadPiece) -> None:
        """Put one shard's files in place; they are live when this returns.

        Raises:
            RequestError: The collection has no such shard, or the server refuses the files.
            UnavailableError: No node with a replica took them.
        """
        nodes = find_nodes(self._connection, self._access)
        layout = self._layout(shard.shard_id, is_cluster=nodes.peer_ids != (0,))
        problem: UnavailableError | None = None
        with self._scratch.open() as spool:
            archive = spool.new_path(".tar")
            sha256 = write_archive(archive, shard.files, read, spool.budget)
            for replica in layout.replicas:
                try:
                    with closing(nodes.connect(replica.peer_id)) as node:
                        self._upload(node, shard.shard_id, archive, sha256)
                except UnavailableError as error:
                    problem = error
                    continue
                self._wait_until_active(shard.shard_id, replica.peer_id)
                return
        assert problem is not None, "a shard has a replica"
        raise problem

    def remove(self, keys: pa.BinaryArray) -> None:
        """Delete records."""
        ids = [str(each) if isinstance(each, UUID) else each for each in decode_keys(keys)]
        for start in range(0, len(ids), DELETE_IDS):
            body = {"points": ids[start : start + DELETE_IDS]}
            self._call("POST", "/points/delete?wait=true", body, "deleting records of")

    def expect(self, record_count: int) -> None:
        """Say how many records there must be in the end."""
        self._expected_count = record_count

    def finish(self) -> None:
        """Wait for every write, make the payload indexes those of the schema, and check the count."""
        for field in self._stale_indexes:
            path = f"/index/{quote(field, safe='')}?wait=true"
            self._call("DELETE", path, None, "dropping a payload index of")
        self._row_count = self._expected_count
        super().finish()

    def _layout(self, shard_id: int, *, is_cluster: bool) -> ShardLayout:
        layouts = find_shards(self._connection, self.physical, is_cluster=is_cluster)
        for layout in layouts:
            if layout.shard_id == shard_id:
                return layout
        raise RequestError(
            f"{self.physical!r} has no shard {shard_id}: the server numbered its shards in another way",
            "restore records instead: --logical",
        )

    def _upload(self, node: Connection, shard_id: int, archive: Path, sha256: str) -> None:
        httpx = qdrant_library().httpx
        action = f"loading shard {shard_id} of {self.physical!r}"
        query = f"?priority=snapshot&wait=true&checksum={sha256}"
        path = collection_path(self.physical, f"/shards/{shard_id}/snapshots/upload{query}")
        timeout = httpx.Timeout(PATIENCE_S, connect=node.address.timeout_s)
        try:
            with disk_errors("reading", archive), archive.open("rb") as file:
                response = node.http.post(path, files={"snapshot": ("shard.snapshot", file)}, timeout=timeout)
        except httpx.RequestError as error:
            raise from_transport(error, action, node.address) from error
        if response.status_code >= 300:
            raise from_status(response.status_code, refusal_text(response), action, node.address)

    def _wait_until_active(self, shard_id: int, peer_id: int) -> None:
        state: Any = None
        for delay_s in (*ACTIVE_DELAYS_S, 0.0):
            layout = self._layout(shard_id, is_cluster=peer_id != 0)
            found = next((each for each in layout.replicas if each.peer_id == peer_id), None)
            if found is not None and found.is_active:
                return
            state = found.state if found is not None else None
            self._connection.clock.sleep(delay_s)
        raise UnavailableError(
            f"shard {shard_id} of {self.physical!r} is {state} after its files were loaded",
            "see the server's log, or restore records instead: --logical",
        )


def write_archive(path: Path, files: tuple[FileRef, ...], read: ReadPiece, budget: Budget) -> str:
    """Write files as a plain full shard snapshot; return its SHA-256.

    Segment files go below `segments/<id>/files/`, the others where they were.
    """
    with disk_errors("writing", path), path.open("wb") as file:
        writer = SparseTarWriter(file)
        for each in files:
            budget.take(sum(piece.byte_size for piece in each.pieces))
            pieces = ((piece.offset, piece.byte_size, partial(read, piece)) for piece in each.pieces)
            writer.add_pieces(_member_name(each.path), each.byte_size, pieces)
        writer.end()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _member_name(path: str) -> str:
    if not path.startswith(SEGMENTS):
        return path
    segment, _, file = path.removeprefix(SEGMENTS).partition("/")
    return f"{SEGMENTS}{segment}/files/{file}"
