"""Snapshot files of the server.

`snapshots/<collection>/<name>`, full ones in `snapshots/`, each with a `.checksum` file beside it.

Names are the server's: `<collection>-<peer>-<YYYY-MM-DD-HH-MM-SS>.snapshot`. Two within one
second have one name, and the later one overwrites the earlier, as in Qdrant.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

import msgspec

from recollect.clock import SystemClock
from recollect.engines.qdrant.sparse_tar import SparseTarWriter
from recollect.testing.qdrant_server.collection import Collection
from recollect.testing.qdrant_server.failures import ServerError, bad_request
from recollect.testing.qdrant_server.snapshot_archive import read_contents, unpack_shards, write_archive
from recollect.testing.qdrant_server.storage import Storage

PEER_ID = 3141592653589793
"""Sixteen digits, as a real peer has: scripts find the collection's name by their number."""

CONTAINER_DIRECTORY = "/qdrant/snapshots/"
"""What a container calls the directory of snapshots."""

VERSION = "1.19.0"
FETCH_TIMEOUT_S = 20


def snapshots_directory(storage: Storage, collection: str = "") -> Path:
    """Return where the snapshots of a collection are, or the full ones; it may not exist yet."""
    return storage.directory / "snapshots" / collection


def create(storage: Storage, name: str) -> dict[str, Any]:
    """Make a snapshot of a collection and describe it."""
    own = storage.resolve(name)
    return _write(
        storage, snapshots_directory(storage, own), f"{own}-{PEER_ID}", _collection_writer(storage, own)
    )


def create_full(storage: Storage) -> dict[str, Any]:
    """Make a snapshot of everything. The collections' own snapshots go into it and leave no trace."""
    parts: dict[str, Path] = {}
    for own in sorted(storage.names()):
        made = create(storage, own)["name"]
        parts[own] = snapshots_directory(storage, own) / made
    aliases = {each["alias_name"]: each["collection_name"] for each in storage.aliases()}
    config = {
        "collections_mapping": {own: path.name for own, path in parts.items()},
        "collections_aliases": aliases,
    }

    def write(path: Path) -> None:
        with path.open("wb") as file:
            writer = SparseTarWriter(file)
            for part in parts.values():
                writer.add_file(part.name, part)
            writer.add_bytes("config.json", msgspec.json.encode(config))
            writer.end()

    described = _write(storage, snapshots_directory(storage), "full-snapshot", write)
    for part in parts.values():
        part.unlink()
    return described


def listed(storage: Storage, name: str | None) -> list[dict[str, Any]]:
    """Describe all snapshots of a collection, or the full ones, in no order."""
    faults = storage.faults.snapshots
    if faults.lists_after > 0:
        faults.lists_after -= 1
        return []
    directory = snapshots_directory(storage, "" if name is None else storage.resolve(name))
    return [_describe(storage, path) for path in sorted(directory.glob("*.snapshot"))]


def find(storage: Storage, name: str | None, snapshot: str) -> Path:
    """Return a snapshot's file; 404 if there is none."""
    directory = snapshots_directory(storage, "" if name is None else storage.resolve(name))
    path = directory / snapshot
    if "/" in snapshot or not path.is_file():
        raise ServerError(
            404, f"Not found: Snapshot with name {snapshot} does not exists in {directory.name}"
        )
    return path


def delete(storage: Storage, name: str | None, snapshot: str) -> bool:
    """Remove a snapshot with its checksum."""
    path = find(storage, name, snapshot)
    path.unlink()
    _checksum_file(path).unlink(missing_ok=True)
    return True


def located(storage: Storage, location: str, api_key: str | None) -> Path:
    """Return the file that `recover` shall read: in the directory of snapshots, or fetched from a URL."""
    parts = urlsplit(location)
    if parts.scheme in {"http", "https"}:
        return _fetch(storage, location, api_key)
    if parts.scheme != "file":
        raise bad_request(f"Wrong input: Invalid snapshot URI, scheme {parts.scheme!r} is not supported")
    root = snapshots_directory(storage).resolve()
    text = unquote(parts.path)
    if text.startswith(CONTAINER_DIRECTORY):
        text = str(root / text.removeprefix(CONTAINER_DIRECTORY))
    path = Path(text).resolve()
    if not path.is_relative_to(root):
        raise bad_request("Wrong input: Snapshot file is outside of the snapshots directory")
    if not path.is_file():
        raise bad_request(f"Wrong input: Snapshot file {text} does not exist")
    return path


def recover(storage: Storage, name: str, path: Path, checksum: str | None) -> bool:
    """Put a snapshot's collection into the place of `name`; made if there is none."""
    if checksum and sha256_of(path) != checksum.lower():
        raise bad_request(
            f"Wrong input: Snapshot checksum mismatch: expected {checksum}, got {sha256_of(path)}"
        )
    contents = read_contents(path)
    _check_version(contents.version)
    own = storage.resolve(name) if storage.exists(name) else name
    if storage.exists(name):
        held = storage.get(name).config["params"]
        offered = contents.config["params"]
        if any(held[key] != offered[key] for key in ("vectors", "shard_number")):
            raise bad_request("Wrong input: Snapshot is not compatible with existing collection")

    def build(target: Path) -> None:
        Collection.create(target, contents.config)
        configured = target / "collection.json"
        configured.write_bytes(msgspec.json.encode({"config": contents.config, "indexes": contents.indexes}))
        shards, unpacked = target / "shards", target / "unpacked"
        unpacked.mkdir()
        unpack_shards(path, unpacked, contents.config["params"]["shard_number"])
        for shard in unpacked.iterdir():
            edge_config = (shards / shard.name / "edge_config.json").read_bytes()
            shutil.rmtree(shards / shard.name)
            shard.rename(shards / shard.name)
            (shards / shard.name / "edge_config.json").write_bytes(edge_config)
        unpacked.rmdir()

    storage.replace(own, build)
    return True


def later(work: Callable[[], Any]) -> None:
    """Do what a caller does not wait for; what goes wrong is lost, as it is in Qdrant but for its log."""

    def attempt() -> None:
        try:
            work()
        except (ServerError, OSError, KeyError):
            return

    threading.Thread(target=attempt, daemon=True).start()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def spool(storage: Storage) -> Path:
    """Return a new name for a file that is being received."""
    directory = storage.directory / "spool"
    directory.mkdir(exist_ok=True)
    return directory / f"{threading.get_ident()}-{SystemClock().now():%H%M%S%f}"


def _collection_writer(storage: Storage, own: str) -> Callable[[Path], None]:
    faults = storage.faults.snapshots

    def write(path: Path) -> None:
        collection = storage.get(own)
        with collection.lock, path.open("wb") as file:
            shard_ids = [] if faults.without_shards else list(range(len(collection.shards)))
            write_archive(collection, file, version=faults.version or VERSION, shard_ids=shard_ids)
            if not faults.omits_trailer:
                file.write(bytes(1024))

    return write


def _write(storage: Storage, directory: Path, stem: str, write: Callable[[Path], None]) -> dict[str, Any]:
    now = storage.faults.snapshots.frozen_at or SystemClock().now()
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{stem}-{now:%Y-%m-%d-%H-%M-%S}.snapshot"
    part = path.with_suffix(f".{threading.get_ident()}.part")
    write(part)
    _checksum_file(path).write_text(sha256_of(part), encoding="ascii")
    part.rename(path)  # last: a listing shows what has its checksum
    return _describe(storage, path)


def _describe(storage: Storage, path: Path) -> dict[str, Any]:
    faults, facts = storage.faults.snapshots, path.stat()
    created = faults.frozen_at or datetime.fromtimestamp(facts.st_mtime, UTC)
    return {
        "name": path.name,
        "creation_time": None if faults.null_creation_time else f"{created:%Y-%m-%dT%H:%M:%S}",
        "size": facts.st_size,
        "checksum": None if faults.null_checksum else _checksum_file(path).read_text("ascii"),
    }


def _checksum_file(path: Path) -> Path:
    return path.with_name(path.name + ".checksum")


def _fetch(storage: Storage, location: str, api_key: str | None) -> Path:
    target = spool(storage)
    request = Request(location, headers={"api-key": api_key} if api_key else {})  # noqa: S310 - http(s) only
    try:
        with urlopen(request, timeout=FETCH_TIMEOUT_S) as source, target.open("wb") as file:  # noqa: S310
            shutil.copyfileobj(source, file)
    except OSError as error:
        if isinstance(error, HTTPError):
            error.close()  # it is the answer, with its connection
        raise bad_request(f"Wrong input: Failed to download snapshot from {location}: {error}") from error
    return target


def _check_version(version: str) -> None:
    """Refuse what is not of the same or of the minor version before."""
    own, other = (tuple(int(part) for part in each.split(".")[:2]) for each in (VERSION, version))
    if other not in {own, (own[0], own[1] - 1)}:
        raise ServerError(
            500, f"Service internal error: snapshot of version {version} cannot be restored by {VERSION}"
        )
