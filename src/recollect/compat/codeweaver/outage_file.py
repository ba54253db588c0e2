"""The files that remember an outage: without them, a restart would take the outage's writes for old copies.

`<name>.outage` holds the mirror's index as it was when writes went over to the backup, and is there exactly
as long as they go there; written beside its place, fsynced and renamed. `<name>.outage.writes` holds the ids
that were written or deleted meanwhile: entries of a length (4 bytes, little-endian) and msgpack, appended
and fsynced before a write is acknowledged. An entry that a crash cut short was not acknowledged.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from recollect.compat.codeweaver.records import Digest, PointId
from recollect.errors import IntegrityError, UnavailableError

Index = dict[PointId, Digest]


class OutageFile:
    """One file of one pair of stores."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writes = path.with_name(path.name + ".writes")

    def save(self, index: Index) -> None:
        """Remember that an outage has begun.

        Raises:
            UnavailableError: It cannot be written.
        """
        part = self._path.with_name(self._path.name + ".part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writes.write_bytes(b"")
            with part.open("wb") as file:
                file.write(msgspec.msgpack.encode(index))
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
            self._sync()
        except OSError as error:
            raise UnavailableError(
                f"writing {self._path}: {error.strerror}", "check the disk; failover needs this file"
            ) from error

    def load(self) -> Index | None:
        """Return the index of an outage that has not ended; None if there is none.

        Raises:
            IntegrityError: The file is damaged.
        """
        try:
            return msgspec.msgpack.decode(self._path.read_bytes(), type=Index)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise _unreadable(self._path, error) from error

    def note(self, ids: Sequence[PointId]) -> None:
        """Remember that these records were written or deleted during the outage.

        Raises:
            UnavailableError: It cannot be written.
        """
        entry = msgspec.msgpack.encode(list(ids))
        try:
            with self._writes.open("ab") as file:
                file.write(len(entry).to_bytes(4, "little") + entry)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UnavailableError(
                f"writing {self._writes}: {error.strerror}", "check the disk; failover needs this file"
            ) from error

    def noted(self) -> set[PointId]:
        """Return the records that were written or deleted during the outage.

        Raises:
            IntegrityError: The file is damaged.
        """
        found: set[PointId] = set()
        try:
            content = self._writes.read_bytes() if self._writes.exists() else b""
            start = 0
            while start + 4 <= len(content):
                end = start + 4 + int.from_bytes(content[start : start + 4], "little")
                if end > len(content):
                    break
                found.update(msgspec.msgpack.decode(content[start + 4 : end], type=list[PointId]))
                start = end
        except (OSError, msgspec.DecodeError) as error:
            raise _unreadable(self._writes, error) from error
        return found

    def clear(self) -> None:
        """Remember that the outage has ended."""
        self._writes.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)
        self._sync()

    def _sync(self) -> None:
        if self._path.parent.is_dir():
            descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _unreadable(path: Path, error: Exception) -> IntegrityError:
    return IntegrityError(
        f"{path} cannot be read: {error}", "compare the two stores with `recollect diff` before you remove it"
    )
