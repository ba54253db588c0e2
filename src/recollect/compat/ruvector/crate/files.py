"""The two files of the crate: `{id}.snapshot.gz` and `{id}.metadata.json`, in a directory or any store.

The metadata is written last, so what it announces is there. (The crate itself lists by these files.)
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

import msgspec
from zlib_ng import zlib_ng

from recollect.compat.ruvector.crate.bincode import CrateData, decode_snapshot, encode_snapshot
from recollect.compat.ruvector.files.member import ZLIB_ERROR
from recollect.errors import IntegrityError, NotFoundError, RequestError
from recollect.storage.base import ObjectStore

CRATE_VERSION = "0.1.25"  # of the format that is written
_LEVEL = 6  # the crate's
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class CrateInfo(msgspec.Struct, frozen=True, kw_only=True):
    """`{id}.metadata.json`, its fields in the crate's order.

    Attributes:
        checksum: SHA-256 of the uncompressed snapshot.
        size_bytes: Of the compressed file.
    """

    id: str
    collection_name: str
    created_at: str
    vectors_count: int
    checksum: str
    size_bytes: int


class CrateFiles(NamedTuple):
    """Both files as they are stored."""

    snapshot: bytes
    metadata: bytes
    info: CrateInfo


def check_crate_id(snapshot_id: str) -> str:
    """Return the id if it names a file and nothing else; RequestError otherwise."""
    if not _ID.fullmatch(snapshot_id) or ".." in snapshot_id:
        raise RequestError(f"{snapshot_id!r} is not the id of a crate's snapshot")
    return snapshot_id


def encode_files(data: CrateData) -> CrateFiles:
    """Encode both files."""
    raw = encode_snapshot(data)
    compressed = zlib_ng.compress(raw, _LEVEL, 31)
    info = CrateInfo(
        id=check_crate_id(data.id),
        collection_name=data.collection_name,
        created_at=data.created_at.replace("+00:00", "Z"),
        vectors_count=len(data.ids),
        checksum=hashlib.sha256(raw).hexdigest(),
        size_bytes=len(compressed),
    )
    return CrateFiles(compressed, msgspec.json.format(msgspec.json.encode(info), indent=2), info)


def write_files(store: ObjectStore, files: CrateFiles) -> None:
    """Write both files, the metadata last; ConflictError if there is such a snapshot."""
    store.put_if_absent(f"{files.info.id}.snapshot.gz", files.snapshot)
    store.put_if_absent(f"{files.info.id}.metadata.json", files.metadata)


def read_files(store: ObjectStore, snapshot_id: str) -> CrateData:
    """Read one snapshot of the crate and check all that its metadata says.

    Raises:
        NotFoundError: There is none of this id.
        IntegrityError: Damaged; the message names the file and the failed check.
    """
    key = f"{check_crate_id(snapshot_id)}.snapshot.gz"
    where = f"{store.url}: {key}"
    try:
        info = _decode_info(
            store.get(f"{snapshot_id}.metadata.json"), f"{store.url}: {snapshot_id}.metadata.json"
        )
        compressed = store.get(key)
    except NotFoundError as error:
        raise NotFoundError(
            f"Snapshot not found: {snapshot_id} ({error.message})",
            "both files, {id}.snapshot.gz and {id}.metadata.json, must be there",
        ) from error
    if len(compressed) != info.size_bytes:
        raise IntegrityError(f"{where} has {len(compressed)} bytes, {info.size_bytes} were written")
    raw = _decompress(compressed, where)
    found = hashlib.sha256(raw).hexdigest()
    if found != info.checksum:
        raise IntegrityError(f"{where}: Invalid checksum: expected {info.checksum}, got {found}")
    data = decode_snapshot(raw)
    if data.id != info.id or data.id != snapshot_id or len(data.ids) != info.vectors_count:
        raise IntegrityError(
            f"{where} is snapshot {data.id} of {len(data.ids)} vectors, not the one announced"
        )
    return data


def list_files(store: ObjectStore) -> list[CrateInfo]:
    """List the crate's snapshots of a directory, newest first."""
    suffix = ".metadata.json"
    found = [
        _decode_info(store.get(entry.key), f"{store.url}: {entry.key}")
        for entry in store.list("")
        if entry.key.endswith(suffix) and "/" not in entry.key
    ]
    return sorted(found, key=lambda info: (info.created_at, info.id), reverse=True)


def _decode_info(data: bytes, where: str) -> CrateInfo:
    try:
        return msgspec.json.decode(data, type=CrateInfo)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{where} is damaged: {error}") from error


def _decompress(compressed: bytes, where: str) -> bytes:
    """Decompress a gzip file of one member or more, as GzDecoder's readers do; nothing may follow it."""
    raw: list[bytes] = []
    rest = compressed
    try:
        while rest:
            decompressor = zlib_ng.decompressobj(31)
            raw.append(decompressor.decompress(rest))
            if not decompressor.eof:
                raise IntegrityError(f"{where} ends within its compressed data")
            rest = decompressor.unused_data
    except ZLIB_ERROR as error:
        raise IntegrityError(f"{where} cannot be decompressed: {error}") from error
    return b"".join(raw)
