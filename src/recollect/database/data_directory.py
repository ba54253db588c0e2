"""A database's directory: its layout, its identity, and who may write to it.

::

    database.json   format, id, when it was created
    lock            locked (flock) as long as the database is open
    log/            segments of the commit log
    checkpoints/    a Recollect repository; its snapshots are the checkpoints
    index/          HNSW indexes of large collections, while it is open
"""

from __future__ import annotations

import fcntl
import os
from datetime import datetime
from pathlib import Path

import msgspec

from recollect.database.log.files import Files
from recollect.errors import FormatVersionError, IntegrityError, LeaseHeldError, NotFoundError
from recollect.system_error import storage_error
from recollect.values.ulid import RandomBytes, new_ulid

DATABASE_FORMAT = 1

IDENTITY = "database.json"
LOG = "log"
CHECKPOINTS = "checkpoints"
INDEX = "index"
_LOCK = "lock"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What `database.json` says."""

    format: int
    id: str
    created_at: datetime

    @property
    def id_bytes(self) -> bytes:
        """The id in the 16 bytes that log segments carry."""
        return self.id.encode("ascii")[-16:]


class _Format(msgspec.Struct, frozen=True, kw_only=True):
    format: int


class DataDirectory:
    """One data directory, locked. `release` it when done.

    Several processes may hold it for reading, or one for writing.
    """

    def __init__(self, path: Path, identity: Identity, lock: int) -> None:
        self.path = path
        self.identity = identity
        self._lock = lock

    @property
    def log_path(self) -> Path:
        """Where the log segments are."""
        return self.path / LOG

    @property
    def checkpoints_path(self) -> Path:
        """Where the repository of checkpoints is."""
        return self.path / CHECKPOINTS

    @property
    def index_path(self) -> Path:
        """Where the HNSW indexes are."""
        return self.path / INDEX

    def release(self) -> None:
        """Let others open it. Safe to call twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def open_directory(
    files: Files, path: Path, *, read_only: bool, now: datetime, random_bytes: RandomBytes
) -> DataDirectory:
    """Lock a data directory, creating it first if it may be written.

    Raises:
        LeaseHeldError: Another process, or this one, has it open.
        FormatVersionError: It was written in a newer format.
        NotFoundError: There is no database, and `read_only` forbids to create one.
    """
    try:
        if read_only and not (path / IDENTITY).exists():
            raise NotFoundError(
                f"there is no database in {path}: {IDENTITY} is missing",
                "check the path, or open it for writing",
            )
        if not read_only:
            files.make_directory(path)
        lock = _acquire(path, exclusive=not read_only)
    except OSError as error:
        raise storage_error(error, f"cannot open the data directory {path}") from error
    try:
        identity = _read_identity(files, path)
        if identity is None:
            identity = _create(files, path, now, random_bytes)
        return DataDirectory(path, identity, lock)
    except OSError as error:
        os.close(lock)
        raise storage_error(error, f"cannot open the data directory {path}") from error
    except BaseException:
        os.close(lock)
        raise


def _acquire(path: Path, *, exclusive: bool) -> int:
    # A reader needs no right to write, so that a directory on a read-only medium can be read.
    access = os.O_RDWR | os.O_CREAT if exclusive or not (path / _LOCK).exists() else os.O_RDONLY
    descriptor = os.open(path / _LOCK, access | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise LeaseHeldError(
            f"the database in {path} is open already, here or in another process",
            "close it there, or use that one; the lock ends with the process that holds it",
        ) from error
    return descriptor


def _read_identity(files: Files, path: Path) -> Identity | None:
    if IDENTITY not in files.list(path):
        return None
    data = files.read(path / IDENTITY)
    try:
        # The format alone first: of a newer one nothing else is known.
        found = msgspec.json.decode(data, type=_Format).format
        if found != DATABASE_FORMAT:
            raise FormatVersionError(
                f"the database in {path} has format {found}; this release reads {DATABASE_FORMAT}",
                "open it with the release that wrote it, or a newer one",
            )
        return msgspec.json.decode(data, type=Identity)
    except msgspec.DecodeError as error:
        raise IntegrityError(
            f"{path / IDENTITY} is damaged: {error}", "restore the file from a backup"
        ) from error


def read_identity(files: Files, path: Path) -> Identity:
    """Return whose directory this is; NotFoundError if there is no database. Needs no lock."""
    identity = _read_identity(files, path)
    if identity is None:
        raise NotFoundError(f"there is no database in {path}: {IDENTITY} is missing", "check the path")
    return identity


def _create(files: Files, path: Path, now: datetime, random_bytes: RandomBytes) -> Identity:
    if files.list(path / LOG):
        raise IntegrityError(
            f"{path} has a log but no {IDENTITY}: it is not a whole database",
            "restore the file from a backup",
        )
    identity = Identity(format=DATABASE_FORMAT, id=new_ulid(now, random_bytes), created_at=now)
    files.make_directory(path / LOG)
    files.replace(path / IDENTITY, [msgspec.json.encode(identity)])
    return identity
