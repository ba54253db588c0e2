"""A repository: immutable objects named by the SHA-256 of their bytes, in one byte store.

Everything is written once. A crash leaves objects that no snapshot lists; `prune`
removes them. Safe to share between threads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from recollect.codec.document import open_document, seal_document
from recollect.errors import (
    ConflictError,
    FormatVersionError,
    IntegrityError,
    NotFoundError,
    RepositoryNotFoundError,
)
from recollect.repository import layout
from recollect.storage.base import ObjectStore, StoredObject
from recollect.values.snapshot import ObjectRef
from recollect.values.ulid import RandomBytes, new_ulid

REPOSITORY_FORMAT = 1
_MEND = "restore that file from a copy of the repository; objects and snapshots are not affected by it"
KNOWN_FEATURES: frozenset[str] = frozenset()
"""Features a reader must understand; an unknown one is refused, never guessed."""


class RepositoryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `recollect.json`."""

    format: int
    id: str
    created_at: datetime
    features: tuple[str, ...] = ()


class StoredResult(msgspec.Struct, frozen=True, kw_only=True):
    """What putting an object did: its reference, and the bytes that were really added (0 if it was there)."""

    reference: ObjectRef
    added_bytes: int


class Repository:
    """Objects in a store, and the configuration that tells how to read them."""

    def __init__(self, store: ObjectStore, config: RepositoryConfig) -> None:
        self.store = store
        self.config = config

    @property
    def url(self) -> str:
        """Where the repository is, without credentials."""
        return self.store.url

    def put_object(self, data: bytes) -> StoredResult:
        """Store bytes under their digest, durably.

        Bytes that are there already are read back and compared, and written anew when
        they turn out damaged: a new backup never relies on an object that does not hold.
        """
        digest = hashlib.sha256(data).hexdigest()
        reference = ObjectRef(digest=digest, byte_size=len(data))
        key = layout.object_key(digest)
        try:
            self.store.put_if_absent(key, data)
        except ConflictError:
            if self.store.get(key) != data:
                self.store.put(key, data)
            return StoredResult(reference=reference, added_bytes=0)
        return StoredResult(reference=reference, added_bytes=len(data))

    def get_object(self, reference: ObjectRef) -> bytes:
        """Read an object whole and check it against its name.

        Raises:
            IntegrityError: It is missing, or its bytes are not those that were written.
        """
        key = layout.object_key(reference.digest)
        try:
            data = self.store.get(key)
        except NotFoundError as error:
            raise _missing(key, self.url) from error
        if hashlib.sha256(data).hexdigest() != reference.digest:
            raise IntegrityError(
                f"object {key} in {self.url} is damaged: {len(data)} bytes that do not match its name",
                "run `recollect verify --read-data` to see which snapshots need it",
            )
        return data

    def get_object_range(self, reference: ObjectRef, start: int, length: int) -> bytes:
        """Read a part of an object, unchecked: the caller's format carries its own checksums.

        Raises:
            IntegrityError: The object is missing or too short.
        """
        key = layout.object_key(reference.digest)
        try:
            data = self.store.get_range(key, start, length)
        except NotFoundError as error:
            raise _missing(key, self.url) from error
        if len(data) != length:
            raise IntegrityError(
                f"object {key} in {self.url} ends early: wanted {length} bytes at {start}, got {len(data)}",
                "run `recollect verify --read-data` to see which snapshots need it",
            )
        return data

    def object_size(self, digest: str) -> int | None:
        """Return the stored size of an object, or None if there is none of this digest."""
        try:
            return self.store.size(layout.object_key(digest))
        except NotFoundError:
            return None

    def list_objects(self) -> Iterator[StoredObject]:
        """List all objects, ascending by key; foreign keys among them are an IntegrityError."""
        for item in self.store.list(layout.OBJECTS):
            if layout.object_digest(item.key) is None:
                raise IntegrityError(
                    f"{item.key!r} in {self.url} is not the name of an object",
                    "move the foreign file out of the repository",
                )
            yield item


def create_repository(store: ObjectStore, *, now: datetime, random_bytes: RandomBytes) -> Repository:
    """Make an empty store a repository.

    One atomic write: a crash leaves an empty store or a repository.

    Raises:
        ConflictError: There is a repository, or the store holds something else.
    """
    taken = next(iter(store.list("")), None)
    if taken is not None and taken.key == layout.CONFIG:
        raise ConflictError(
            f"there is a repository at {store.url} already", "use it, or choose another place"
        )
    if taken is not None and not _exists(store, layout.CONFIG):
        raise ConflictError(
            f"{store.url} is not empty (it holds {taken.key!r})", "choose an empty place for the repository"
        )
    config = RepositoryConfig(format=REPOSITORY_FORMAT, id=new_ulid(now, random_bytes), created_at=now)
    encoded = seal_document(msgspec.json.encode(config))
    try:
        store.put_if_absent(layout.CONFIG, encoded)
    except ConflictError as error:
        raise ConflictError(
            f"there is a repository at {store.url} already", "use it, or choose another place"
        ) from error
    # Stores that ignore conditional writes let two creators succeed; the one read back counts.
    return open_repository(store)


def open_repository(store: ObjectStore) -> Repository:
    """Open an existing repository.

    Raises:
        RepositoryNotFoundError: There is none.
        FormatVersionError: It was made by a newer release.
        IntegrityError: Its configuration is damaged, or missing while its snapshots or objects are there.
    """
    try:
        encoded = store.get(layout.CONFIG)
    except NotFoundError as error:
        if any(True for prefix in (layout.SNAPSHOTS, layout.OBJECTS) for _ in store.list(prefix)):
            raise IntegrityError(f"{layout.CONFIG} is missing from {store.url}", _MEND) from error
        raise RepositoryNotFoundError(
            f"there is no repository at {store.url}", f"create one with `recollect init -r {store.url}`"
        ) from error
    return Repository(store, _decode_config(encoded, store.url))


def _decode_config(encoded: bytes, url: str) -> RepositoryConfig:
    damaged = f"{layout.CONFIG} in {url} is damaged"
    try:
        raw: Any = msgspec.json.decode(open_document(encoded))
        version = raw.get("format") if isinstance(raw, dict) else None
        if isinstance(version, int) and version > REPOSITORY_FORMAT:
            raise FormatVersionError(
                f"the repository at {url} has format {version}; this release reads up to {REPOSITORY_FORMAT}",
                "upgrade Recollect",
            )
        config = msgspec.convert(raw, RepositoryConfig, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, IntegrityError) as error:
        raise IntegrityError(f"{damaged}: {error}", _MEND) from error
    if config.format < 1:
        raise IntegrityError(f"{damaged}: format {config.format} never existed", _MEND)
    unknown = sorted(set(config.features) - KNOWN_FEATURES)
    if unknown:
        raise FormatVersionError(
            f"the repository at {url} needs features that this release lacks: {', '.join(unknown)}",
            "upgrade Recollect",
        )
    return config


def _exists(store: ObjectStore, key: str) -> bool:
    try:
        store.size(key)
    except NotFoundError:
        return False
    return True


def _missing(key: str, url: str) -> IntegrityError:
    return IntegrityError(
        f"object {key} is missing from {url}",
        "run `recollect verify` to see which snapshots need it",
    )
