"""Snapshots of one shard: made of the engine's own files, and taken in by the engine itself.

Layout as Qdrant's: `shard_config.json`, `replica_state.json`, an empty write-ahead log in `wal/`, and
`segments/<uuid>/files/**`. A partial one has `files/segment_manifest.json` in every segment besides,
and of the other files only those that are newer than the caller's manifest says.
"""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import msgspec
import qdrant_edge as edge

from recollect.clock import SystemClock
from recollect.engines.qdrant.sparse_tar import SparseTarWriter
from recollect.testing.qdrant_server.cluster import segment_on
from recollect.testing.qdrant_server.collection import Collection
from recollect.testing.qdrant_server.failures import ServerError, bad_request
from recollect.testing.qdrant_server.faults import Faults
from recollect.testing.qdrant_server.rest_collections import replica_states
from recollect.testing.qdrant_server.snapshot_faults import SnapshotFaults
from recollect.testing.qdrant_server.snapshots import sha256_of, snapshots_directory, spool
from recollect.testing.qdrant_server.storage import Storage

MANIFEST = "segment_manifest.json"
WAL_BYTES = 32 << 20
WAL_HEAD = b"wal\0\x7d\x21\x39\x5a"
FETCH_TIMEOUT_S = 20
_ALWAYS = ("segment.json", "version.info")


class Replica(NamedTuple):
    """A shard of a collection as one peer holds it."""

    storage: Storage
    collection: Collection
    name: str
    shard: int
    peer_id: int


def replica(storage: Storage, name: str, shard: int, peer_id: int) -> Replica:
    """Find a local shard; 404 if the peer does not hold it."""
    collection = storage.get(name)
    if not 0 <= shard < len(collection.shards) or peer_id not in replica_states(storage, name, shard):
        raise ServerError(404, f"Not found: Shard {shard} not found on this peer")
    return Replica(storage, collection, storage.resolve(name), shard, peer_id)


def manifest(held: Replica) -> dict[str, Any]:
    """Return the manifest of all segments."""
    with held.collection.lock:
        shard = held.collection.shards[held.shard]
        shard.flush()
        found: dict[str, Any] = shard.snapshot_manifest()
    renamed = {}
    for segment, facts in found.items():
        own = segment_on(held.peer_id, segment)
        renamed[own] = {**facts, "segment_id": own}
    return renamed


def archive(held: Replica, faults: SnapshotFaults, base: dict[str, Any] | None = None) -> Path:
    """Write the archive into a new file of the spool; with `base`, only what is newer than that manifest."""
    path = spool(held.storage)
    with held.collection.lock, path.open("wb") as file:
        is_empty = faults.without_shards
        _write(held, file, base, {} if is_empty else manifest(held))
        if not faults.omits_trailer:
            file.write(bytes(1024))
    return path


def _write(held: Replica, file: BinaryIO, base: dict[str, Any] | None, current: dict[str, Any]) -> None:
    writer = SparseTarWriter(file)
    directory = held.collection.directory / "shards" / str(held.shard) / "segments"
    for segment, facts in current.items():
        prefix = f"segments/{segment}/files/"
        names = list(facts["file_versions"])
        if base is not None:
            writer.add_bytes(prefix + MANIFEST, msgspec.json.encode(facts))
            names = [name for name in names if _is_sent(name, facts, base.get(segment))]
        for name in [*sorted(names), *_ALWAYS]:
            writer.add_file(prefix + name, directory / segment_on(held.peer_id, segment) / name)
    peers = replica_states(held.storage, held.name, held.shard)
    state = {"is_local": True, "this_peer_id": held.peer_id, "peers": {str(k): v for k, v in peers.items()}}
    writer.add_bytes("replica_state.json", msgspec.json.encode(state))
    writer.add_bytes("shard_config.json", msgspec.json.encode({"type": "ReplicaSet"}))
    writer.add_bytes("newest_clocks.json", b'{"shard_clocks":[]}')
    log = spool(held.storage)
    with log.open("wb") as empty:
        empty.write(WAL_HEAD)
        empty.truncate(WAL_BYTES)
    writer.add_file(f"wal/closed-{_next_operation(directory.parent, current)}", log)
    log.unlink()


def _next_operation(shard: Path, current: dict[str, Any]) -> int:
    """Return the number of the next operation: an empty log carries it on, in its file's name.

    Without it a restored shard would count from 0 and take new writes for old ones.
    """
    acknowledged = shard / "wal" / "first-index"
    last = msgspec.json.decode(acknowledged.read_bytes())["ack_index"] if acknowledged.exists() else 0
    return int(max([last, *(facts["segment_version"] for facts in current.values())])) + 1


def _is_sent(name: str, facts: dict[str, Any], base: dict[str, Any] | None) -> bool:
    """Decide as the server does: new files, newer ones, and those of which both versions are 0."""
    if base is None or name not in base["file_versions"]:
        return True
    now, before = _version(name, facts), _version(name, base)
    return now > before or now == before == 0


def _version(name: str, facts: dict[str, Any]) -> int:
    found = facts["file_versions"][name]
    return int(facts["segment_version"] if found is None else found)


def recover(held: Replica, path: Path, checksum: str | None) -> bool:
    """Replace the shard by a full snapshot of it."""
    if checksum and sha256_of(path) != checksum.lower():
        raise bad_request(
            f"Wrong input: Snapshot checksum mismatch: expected {checksum}, got {sha256_of(path)}"
        )
    names = _member_names(path)
    if any(name.endswith("/" + MANIFEST) for name in names):
        raise bad_request(
            "Bad request: invalid shard snapshot: segment contains segment manifest; "
            "ensure you are not recovering partial snapshot on shard snapshot endpoint"
        )
    if not any(name.startswith("wal/") for name in names) or "replica_state.json" not in names:
        raise bad_request("Bad request: failed to restore shard snapshot: no shard data in it")
    unpacked = spool(held.storage)
    try:
        edge.EdgeShard.unpack_snapshot(str(path), str(unpacked))
    except Exception as error:
        raise ServerError(500, f"Service internal error: {error}") from error
    (unpacked / "segments").mkdir(exist_ok=True)
    held.collection.replace_shard(held.shard, unpacked)
    return True


def recover_partial(held: Replica, path: Path) -> bool:
    """Apply a partial snapshot to the shard; 503 while another one is applied."""
    if not held.collection.recovering.acquire(blocking=False):
        raise ServerError(503, "Service unavailable: partial snapshot recovery is already in progress")
    try:
        if not any(name.endswith("/" + MANIFEST) for name in _member_names(path)):
            raise bad_request(
                "Bad request: invalid partial snapshot: segment does not contain segment manifest; "
                "ensure you are not recovering shard snapshot on partial snapshot endpoint"
            )
        with held.collection.lock:
            held.collection.shards[held.shard].update_from_snapshot(str(path))
    except (ValueError, RuntimeError, OSError) as error:
        raise ServerError(500, f"Service internal error: {error}") from error
    finally:
        held.collection.recovering.release()
    return True


def fetch_partial(url: str, api_key: str | None, own: dict[str, Any], target: Path) -> bool:
    """Fetch another peer's partial snapshot; False if it has nothing new."""
    headers = {"content-type": "application/json", **({"api-key": api_key} if api_key else {})}
    request = HttpRequest(url, msgspec.json.encode(own), headers, method="POST")  # noqa: S310 - tests
    try:
        with urlopen(request, timeout=FETCH_TIMEOUT_S) as source, target.open("wb") as file:  # noqa: S310
            shutil.copyfileobj(source, file)
    except HTTPError as error:
        status = error.code
        error.close()  # it is the answer, with its connection
        if status == 304:
            return False
        raise bad_request(f"Wrong input: Failed to download partial snapshot: {error}") from error
    return True


def listed(held: Replica, faults: Faults) -> list[dict[str, Any]]:
    """Describe the stored snapshots of the shard."""
    return [_describe(path, faults) for path in sorted(_directory(held).glob("*.snapshot"))]


def create(held: Replica, faults: Faults) -> dict[str, Any]:
    """Make a snapshot of the shard on the peer's disk."""
    now = faults.snapshots.frozen_at or SystemClock().now()
    _directory(held).mkdir(parents=True, exist_ok=True)
    name = f"{held.name}-shard-{held.shard}-{now:%Y-%m-%d-%H-%M-%S}.snapshot"
    path = _directory(held) / name
    archive(held, faults.snapshots).rename(path)
    return _describe(path, faults)


def find(held: Replica, snapshot: str) -> Path:
    """Return a stored snapshot's file; 404 if there is none."""
    path = _directory(held) / snapshot
    if "/" in snapshot or not path.is_file():
        raise ServerError(404, f"Not found: Snapshot {snapshot} not found")
    return path


def _describe(path: Path, faults: Faults) -> dict[str, Any]:
    checksum = None if faults.snapshots.null_checksum else sha256_of(path)
    return {"name": path.name, "creation_time": None, "size": path.stat().st_size, "checksum": checksum}


def _directory(held: Replica) -> Path:
    return snapshots_directory(held.storage, held.name) / f"shard-{held.peer_id}-{held.shard}"


def _member_names(path: Path) -> set[str]:
    try:
        with tarfile.open(path, "r:") as opened:
            return set(opened.getnames())
    except (tarfile.TarError, EOFError) as error:
        raise bad_request(f"Wrong input: {path.name} is not a snapshot: {error}") from error
