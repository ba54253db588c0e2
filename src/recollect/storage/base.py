"""The byte store port.

Keys are relative paths of `[A-Za-z0-9._-]` parts joined by `/`; no part is `.` or `..`
or empty. A key is written once as a rule; readers never see a half-written value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

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
    """

    create_only: bool


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


def check_key(key: str) -> str:
    """Return the key if it is well-formed; RequestError otherwise."""
    if not _KEY.fullmatch(key):
        raise RequestError(f"{key!r} is not a valid storage key")
    return key
