"""The snapshot directory: which paths a client may name, and files that nobody else can tamper with.

Rules and messages are nvecd's: nothing outside the directory, no links out of it, directories that
only their owner can write, files made 0600, complete before they have their name.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from recollect.errors import AccessError, NotFoundError, RequestError
from recollect.storage.files import make_directory, sync_directory, sync_file
from recollect.system_error import storage_error

_SHARED_WRITE = stat.S_IWGRP | stat.S_IWOTH
_FILE_MODE = 0o600
_DIRECTORY_MODE = 0o700
_TRAVERSAL = "Invalid filepath: path traversal detected"
SIDECAR_SUFFIX = ".walseq"
_TEMPORARY = re.compile(r"\..*\.tmp\.([0-9]{1,18})\.[0-9]{1,18}", re.DOTALL)
_counter = itertools.count()
_Result = TypeVar("_Result")


class SnapshotDirectory:
    """One directory of snapshots. Safe to share between threads."""

    def __init__(self, path: str) -> None:
        self._path = Path.cwd() / path

    @property
    def path(self) -> Path:
        """The directory, absolute."""
        return self._path

    def create(self) -> None:
        """Create the directory if there is none, and check that it is private.

        Raises:
            AccessError: Others could change it.
        """
        try:
            make_directory(self._path, _DIRECTORY_MODE)
        except OSError as error:
            raise storage_error(error, f"cannot create the snapshot directory {self._path}") from error
        check_private(self._path)

    def resolve(self, requested: str) -> Path:
        """Return the file that a client means; relative paths are relative to the directory.

        Raises:
            RequestError: It lies, or a link leads, outside the directory.
        """
        if ".." in requested or "\0" in requested:
            raise RequestError(_TRAVERSAL)
        root = Path(os.path.realpath(self._path))
        candidate = Path(os.path.realpath(self._path / requested))
        if candidate == root or not candidate.is_relative_to(root):
            raise RequestError(_TRAVERSAL)
        return candidate

    def resolve_new(self, requested: str) -> Path:
        """Return the file that a client wants written, as `resolve`.

        Raises:
            RequestError: Also for the names of sidecars and of files that are being written: the one would
                replace another snapshot's place in the log, the other be deleted by the next start.
        """
        path = self.resolve(requested)
        if path.name.endswith(SIDECAR_SUFFIX) or _TEMPORARY.fullmatch(path.name):
            raise RequestError(
                f"Invalid filepath: names like {path.name} are kept for the server's own files"
            )
        return path

    def candidates(self, suffixes: tuple[str, ...]) -> list[Path]:
        """Return the regular files that end so, the newest first (by time of change, then by name)."""
        found: list[tuple[int, str, Path]] = []
        try:
            for entry in os.scandir(self._path):
                modified_ns = _modified_ns(entry)
                if modified_ns and entry.name.endswith(suffixes) and not entry.name.startswith("."):
                    found.append((modified_ns, entry.name, self._path / entry.name))
        except OSError as error:
            raise storage_error(error, f"cannot list the snapshot directory {self._path}") from error
        return [path for _, _, path in sorted(found, reverse=True)]

    def remove(self, path: Path) -> None:
        """Delete a file of the directory; it may be gone already."""
        try:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            sync_directory(path.parent)
        except OSError as error:
            raise storage_error(error, f"cannot delete {path}") from error


def check_private(directory: Path) -> None:
    """Refuse a directory that somebody else could change or replace.

    Raises:
        AccessError: In nvecd's words.
    """
    try:
        resolved = directory.resolve(strict=True)
    except OSError as error:
        raise AccessError(
            f"Cannot resolve directory ancestors: {directory}", "check that the directory exists"
        ) from error
    for ancestor in (*reversed(resolved.parents), resolved):
        mode = _mode(ancestor)
        if mode is None or not stat.S_ISDIR(mode):
            raise AccessError(f"Invalid directory ancestor: {ancestor}")
        if mode & _SHARED_WRITE and not mode & stat.S_ISVTX:
            if ancestor == resolved:
                break
            raise AccessError(f"Directory ancestor is replaceable by another user: {ancestor}")
    status = resolved.stat()
    if status.st_uid != os.geteuid():
        raise AccessError(
            f"Storage directory must be owned by the service user: {directory}",
            f"chown {directory}, or use another directory",
        )
    if status.st_mode & _SHARED_WRITE:
        raise AccessError(
            f"Storage directory must not be writable by group or others: {directory}",
            f"chmod 700 {directory}, or use another directory",
        )


@contextlib.contextmanager
def open_private(path: Path) -> Iterator[int]:
    """Open a snapshot for reading; the descriptor lasts as long as the block.

    Raises:
        AccessError: The directory or the file is not private, or there is no such file.
    """
    check_private(path.parent)
    try:
        # Opening a pipe would wait for somebody who writes into it; so would nobody ever again be served.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
    except OSError as error:
        kind = NotFoundError if error.errno == errno.ENOENT else AccessError
        raise kind(
            f"Failed to securely open storage file: {error.strerror}", f"check the path {path}"
        ) from error
    try:
        status = os.fstat(descriptor)
        foreign = status.st_uid != os.geteuid() or status.st_mode & _SHARED_WRITE
        if not stat.S_ISREG(status.st_mode) or foreign:
            raise AccessError(
                "Storage file is not a private service-owned regular file",
                f"make {path} a file of your own that nobody else can write: chmod 600",
            )
        yield descriptor
    finally:
        os.close(descriptor)


def write_private(path: Path, write: Callable[[int], _Result]) -> _Result:
    """Put a file in place, over an older one: written under a hidden name, synced, then renamed.

    A crash leaves the older file, and perhaps a hidden one that nothing reads.

    Raises:
        AccessError: The directory is not private.
        UnavailableError: The disk failed; the older file is untouched.
    """
    check_private(path.parent)
    temporary = path.with_name(f".{path.name}.tmp.{os.getpid()}.{next(_counter)}")
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, _FILE_MODE)
        try:
            result = write(descriptor)
            sync_file(descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        finally:
            os.close(descriptor)
        temporary.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        if isinstance(error, AccessError):
            raise
        raise storage_error(error, f"cannot write {path}") from error
    return result


def remove_abandoned(directory: Path, process_is_alive: Callable[[int], bool]) -> list[Path]:
    """Delete hidden files that a writer left behind when it died; returns them."""
    removed = []
    for path in directory.glob(".*.tmp.*.*"):
        found = _TEMPORARY.fullmatch(path.name)
        if found is not None and not process_is_alive(int(found[1])):
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _modified_ns(entry: os.DirEntry[str]) -> int:
    """Return when a regular file was changed; 0 for anything else, and for what is gone already."""
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return 0
    return max(1, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else 0


def _mode(path: Path) -> int | None:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return None
