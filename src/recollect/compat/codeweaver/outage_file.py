"""The file that remembers an outage: without it, a restart would take the outage's writes for old copies.

It holds the mirror's index as it was when writes went over to the backup, and is there exactly as long
as they go there. Written beside its place, fsynced and renamed.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from recollect.compat.codeweaver.records import Digest, PointId
from recollect.errors import IntegrityError, UnavailableError

Index = dict[PointId, Digest]


class OutageFile:
    """One file of one pair of stores."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, index: Index) -> None:
        """Remember that an outage has begun.

        Raises:
            UnavailableError: It cannot be written.
        """
        part = self._path.with_name(self._path.name + ".part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
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
            raise IntegrityError(
                f"{self._path} cannot be read: {error}",
                "compare the two stores with `recollect diff` before you remove it",
            ) from error

    def clear(self) -> None:
        """Remember that the outage has ended."""
        self._path.unlink(missing_ok=True)
        self._sync()

    def _sync(self) -> None:
        if self._path.parent.is_dir():
            descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
