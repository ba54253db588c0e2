"""The reference store: a dictionary. What it does is what the port means."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from recollect.errors import ConflictError, NotFoundError
from recollect.storage.base import StoredObject, check_key, check_prefix


class MemoryStore:
    """Bytes at keys in this process; gone with it. Safe to share between threads."""

    def __init__(self, url: str = "memory:") -> None:
        self._url = url
        self._values: dict[str, bytes] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Return the name given at creation."""
        return self._url

    def put(self, key: str, data: bytes) -> None:
        """Keep the value, over any older one."""
        check_key(key)
        with self._lock:
            self._values[key] = bytes(data)

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Keep the value unless the key exists; of many racing writers exactly one succeeds."""
        check_key(key)
        with self._lock:
            if key in self._values:
                raise ConflictError(f"cannot create {key} in {self._url}: it exists already")
            self._values[key] = bytes(data)

    def get(self, key: str) -> bytes:
        """Return the whole value."""
        check_key(key)
        with self._lock:
            if key not in self._values:
                raise NotFoundError(f"there is no {key} in {self._url}")
            return self._values[key]

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`, fewer where the value ends."""
        assert start >= 0, "a range starts at or after the first byte"
        assert length >= 0, "a range has no negative length"
        return self.get(key)[start : start + length]

    def size(self, key: str) -> int:
        """Return the value's size in bytes."""
        return len(self.get(key))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List keys below a prefix as they were at the call, ascending."""
        below = check_prefix(prefix) + "/" if prefix else ""
        with self._lock:
            items = [*self._values.items()]
        return iter(sorted(StoredObject(key, len(data)) for key, data in items if key.startswith(below)))

    def delete(self, key: str) -> None:
        """Forget the key, if it is there."""
        check_key(key)
        with self._lock:
            self._values.pop(key, None)
