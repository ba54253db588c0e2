"""The byte store port.

Keys are relative paths of `[A-Za-z0-9._-]` parts joined by `/`; no part is `.` or `..`
or empty, and no part begins with `.` or `-`. A key is written once as a rule; readers never see a
half-written value. A key is never also a directory of other keys: with `a/b` there is no `a`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from recollect.errors import RequestError

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


class StoredObject(NamedTuple):
    """One entry of a listing."""

    key: str
    byte_size: int


class StoreCapabilities(NamedTuple):
    """What a store was seen to do, by `storage.probe`; not what it claims.

    Attributes:
        create_only: `put_if_absent` really refuses an existing key, also under a race.
        read_after_write: A value could be read, whole, as soon as its `put` had returned.
        list_after_write: A key was listed as soon as its `put` had returned, and gone after `delete`.
    """

    create_only: bool
    read_after_write: bool = True
    list_after_write: bool = True


class ObjectStore(Protocol):
    """Bytes at keys. Safe to share between threads.

    Errors of all methods: NotFoundError (no such key), ConflictError (`put_if_absent` found the key taken),
    AccessError (credentials, permissions), UnavailableError (network, disk full, I/O error; retryable
    unless said otherwise). A method that returned has done its work durably; one that raised
    UnavailableError may or may not have.
    """

    @property
    def url(self) -> str:
        """Where this store is, without credentials; for messages."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write the value, durable and all at once, over any older one."""
        ...

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Write the value unless the key exists (ConflictError then). Durable, all at once."""
        ...

    def get(self, key: str) -> bytes:
        """Read the whole value."""
        ...

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read `length` bytes from offset `start`; fewer only where the value ends."""
        ...

    def size(self, key: str) -> int:
        """Return the value's size in bytes; NotFoundError tells that it is absent."""
        ...

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List keys below a prefix (a path of whole parts, or empty), ascending by key."""
        ...

    def delete(self, key: str) -> None:
        """Remove the key; removing an absent key is no error."""
        ...


@runtime_checkable
class Debris(Protocol):
    """A store in which writers that were killed leave files behind; `list` never shows them.

    Not every store has this; ask through `find_debris` and `remove_debris`.
    """

    def debris(self) -> Iterator[StoredObject]:
        """List what dead writers left, ascending; never what a living writer is still writing.

        The `key` of an entry names it for `remove_debris`; it is no storage key.
        """
        ...

    def remove_debris(self, key: str) -> None:
        """Remove one entry of `debris`; one that is gone, or alive after all, is left alone."""
        ...


def find_debris(store: ObjectStore) -> Iterator[StoredObject]:
    """List the debris of a store; nothing for stores that cannot have any."""
    return store.debris() if isinstance(store, Debris) else iter(())


def remove_debris(store: ObjectStore, key: str) -> None:
    """Remove one entry of `find_debris(store)`."""
    if isinstance(store, Debris):
        store.remove_debris(key)


@runtime_checkable
class Parts(Protocol):
    """A store that writes one value from several parts without joining them."""

    def create_from_parts(self, key: str, parts: Sequence[bytes]) -> None:
        """Write the value unless the key exists (ConflictError then). Durable, all at once."""
        ...


def create_from_parts(store: ObjectStore, key: str, parts: Sequence[bytes]) -> None:
    """Do `put_if_absent` with a value in parts.

    Where the store can, nothing is joined: a value of hundreds of megabytes in one piece takes tens of
    milliseconds to free, during which no other thread of a Python process runs.
    """
    if isinstance(store, Parts):
        store.create_from_parts(key, parts)
    else:
        store.put_if_absent(key, b"".join(parts))


@runtime_checkable
class Directories(Protocol):
    """A store that keeps directories when their last key is deleted; others have nothing to remove."""

    def remove_directory(self, prefix: str) -> None:
        """Remove a directory if it is empty; one that is not, or not there, is left alone."""
        ...


def remove_empty_directory(store: ObjectStore, prefix: str) -> None:
    """Remove the directory that deleted keys left, for people who look; a no-op where there are none."""
    if isinstance(store, Directories):
        store.remove_directory(prefix)


def check_key(key: str) -> str:
    """Return the key if it is well-formed; RequestError otherwise."""
    if not _KEY.fullmatch(key):
        raise RequestError(f"{key!r} is not a valid storage key")
    return key


def check_prefix(prefix: str) -> str:
    """Return the prefix if it is empty or a well-formed path of whole parts; RequestError otherwise."""
    if prefix and not _KEY.fullmatch(prefix):
        raise RequestError(f"{prefix!r} is not a valid prefix: it must be empty or a path of whole parts")
    return prefix


def is_key_part(name: str) -> bool:
    """Tell whether a file or directory of this name can be part of a key."""
    return "/" not in name and _KEY.fullmatch(name) is not None
