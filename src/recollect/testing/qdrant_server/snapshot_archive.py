"""A collection snapshot: made of the engine's own files, and unpacked by the engine itself.

Layout as Qdrant's: `version.info`, `config.json`, `payload_index.json`, and for each shard
`<id>/shard_config.json`, `<id>/replica_state.json` and `<id>/segments/<uuid>.tar` with
`snapshot/files/**`. The write-ahead log is flushed into the segments first and left out.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import qdrant_edge as edge

from recollect.engines.qdrant.sparse_tar import SparseTarWriter
from recollect.testing.qdrant_server.collection import Collection
from recollect.testing.qdrant_server.failures import ServerError, bad_request

_SHARD_FILES = {
    "shard_config.json": {"type": "ReplicaSet"},
    "replica_state.json": {"is_local": True, "this_peer_id": 1, "peers": {"1": "Active"}},
}
_SEGMENT_FILES = ("segment.json", "version.info")


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive says about its collection."""

    version: str
    config: dict[str, Any]
    indexes: dict[str, dict[str, Any]]


def write_archive(collection: Collection, target: BinaryIO, *, version: str, shard_ids: list[int]) -> None:
    """Write the snapshot of a collection with these shards; without the trailer."""
    writer = SparseTarWriter(target)
    writer.add_bytes("version.info", version.encode())
    writer.add_bytes("config.json", msgspec.json.encode(collection.config))
    writer.add_bytes("payload_index.json", msgspec.json.encode(collection.indexes))
    for shard_id in shard_ids:
        for name, content in _SHARD_FILES.items():
            writer.add_bytes(f"{shard_id}/{name}", msgspec.json.encode(content))
        shard = collection.shards[shard_id]
        shard.flush()
        directory = collection.directory / "shards" / str(shard_id) / "segments"
        for segment, facts in _manifest(shard).items():
            inner = _segment_archive(directory / segment, facts["file_versions"])
            writer.add_bytes(f"{shard_id}/segments/{segment}.tar", inner)


def read_contents(path: Path) -> Contents:
    """Read what an archive says; 400 if it is none."""
    try:
        with tarfile.open(path) as archive:
            return Contents(
                version=_member(archive, "version.info").decode().strip(),
                config=msgspec.json.decode(_member(archive, "config.json")),
                indexes=msgspec.json.decode(_member(archive, "payload_index.json")),
            )
    except (tarfile.TarError, KeyError, EOFError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"Wrong input: snapshot file {path.name} is not a snapshot: {error}") from error


def unpack_shards(path: Path, target: Path, shard_count: int) -> None:
    """Unpack the shards of an archive into `<target>/<id>`; the engine checks nothing but the format.

    A shard that the archive does not have stays away: the caller makes an empty one.
    """
    try:
        with tarfile.open(path) as archive:
            for shard_id in range(shard_count):
                _unpack_shard(archive, shard_id, target)
    except (tarfile.TarError, EOFError) as error:
        raise ServerError(500, f"Service internal error: failed to unpack snapshot: {error}") from error


def _unpack_shard(archive: tarfile.TarFile, shard_id: int, target: Path) -> None:
    prefix = f"{shard_id}/segments/"
    members = [member for member in archive.getmembers() if member.name.startswith(prefix)]
    if not members:
        return
    bundle = target / f"{shard_id}.tar"
    with bundle.open("wb") as file:
        writer = SparseTarWriter(file)
        for member in members:
            source = archive.extractfile(member)
            assert source is not None, "a segment is a file"
            writer.add_bytes("segments/" + member.name.removeprefix(prefix), source.read())
        writer.end()
    try:
        edge.EdgeShard.unpack_snapshot(str(bundle), str(target / str(shard_id)))
    except Exception as error:
        raise ServerError(500, f"Service internal error: {error}") from error
    bundle.unlink()


def _segment_archive(directory: Path, files: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    writer = SparseTarWriter(content)
    for name in [*sorted(files), *_SEGMENT_FILES]:
        writer.add_file(f"snapshot/files/{name}", directory / name)
    writer.end()
    return content.getvalue()


def _manifest(shard: Any) -> dict[str, Any]:
    found: dict[str, Any] = shard.snapshot_manifest()
    return found


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file.read()
