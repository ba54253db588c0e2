"""The file operations of the log, as a port: the real one, and the place where tests inject faults.

Nothing here interprets an error; callers translate OSError (`storage.files.storage_error`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from recollect.storage.files import sync_directory, sync_file

_PARTS_MAX = 512  # below every system's limit for one vectored write (IOV_MAX is 1024 on Linux)


class LogFile(Protocol):
    """A file that is written at its end. One thread at a time."""

    def append(self, parts: Sequence[bytes]) -> None:
        """Write all parts at the end, in order. A failure may leave some of the bytes."""
        ...

    def sync(self) -> None:
        """Return when everything appended is on the medium."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes; what is appended next comes there."""
        ...

    def close(self) -> None:
        """Close it, without syncing. Safe to call twice."""
        ...


class Files(Protocol):
    """What the log needs of a file system."""

    def create(self, path: Path) -> LogFile:
        """Create a file that must not exist."""
        ...

    def reopen(self, path: Path) -> LogFile:
        """Open an existing file to go on at its end."""
        ...

    def read(self, path: Path, byte_size_max: int = -1) -> bytes:
        """Read a whole file, or its first `byte_size_max` bytes."""
        ...

    def list(self, directory: Path) -> list[str]:
        """Return the names in a directory, sorted; none if there is no such directory."""
        ...

    def make_directory(self, path: Path) -> None:
        """Create a directory, durably; it may exist."""
        ...

    def remove(self, path: Path) -> None:
        """Delete a file; it may be gone already."""
        ...

    def replace(self, path: Path, parts: Sequence[bytes]) -> None:
        """Put a file made of these parts in place, durably and all at once, over any older one."""
        ...

    def sync_directory(self, path: Path) -> None:
        """Return when the directory's entries are on the medium."""
        ...


class _DiskFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def append(self, parts: Sequence[bytes]) -> None:
        for start in range(0, len(parts), _PARTS_MAX):
            self._write([memoryview(part) for part in parts[start : start + _PARTS_MAX]])

    def _write(self, rest: list[memoryview]) -> None:
        while rest:
            written = os.writev(self._descriptor, rest)
            while rest and written >= len(rest[0]):
                written -= len(rest.pop(0))
            if rest and written:
                rest[0] = rest[0][written:]

    def sync(self) -> None:
        sync_file(self._descriptor)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)
        os.lseek(self._descriptor, size, os.SEEK_SET)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class DiskFiles:
    """The file system. Safe to share between threads. Files are made 0600, directories 0700."""

    def create(self, path: Path) -> LogFile:
        """Create a file that must not exist."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        return _DiskFile(os.open(path, flags, 0o600))

    def reopen(self, path: Path) -> LogFile:
        """Open an existing file to go on at its end."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        os.lseek(descriptor, 0, os.SEEK_END)
        return _DiskFile(descriptor)

    def read(self, path: Path, byte_size_max: int = -1) -> bytes:
        """Read a whole file, or its first `byte_size_max` bytes."""
        with path.open("rb") as file:
            return file.read(byte_size_max)

    def list(self, directory: Path) -> list[str]:
        """Return the names in a directory, sorted; none if there is no such directory."""
        try:
            return sorted(entry.name for entry in directory.iterdir())
        except FileNotFoundError:
            return []

    def make_directory(self, path: Path) -> None:
        """Create a directory, durably; it may exist."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(path.parent)

    def remove(self, path: Path) -> None:
        """Delete a file; it may be gone already."""
        with contextlib.suppress(FileNotFoundError):
            path.unlink()

    def replace(self, path: Path, parts: Sequence[bytes]) -> None:
        """Put a file made of these parts in place, durably and all at once, over any older one."""
        temporary = path.with_name(f".{path.name}.tmp")
        self.remove(temporary)
        file = self.create(temporary)
        try:
            file.append(parts)
            file.sync()
        finally:
            file.close()
        temporary.replace(path)
        sync_directory(path.parent)

    def sync_directory(self, path: Path) -> None:
        """Return when the directory's entries are on the medium."""
        sync_directory(path)
