"""Durable files: the system calls of the local store, and what their failures mean.

The order that makes a file survive a power cut: write it under a temporary name, fsync it,
give it its name (hard link or rename), fsync the directory. A directory that was created
for it needs its own parent fsynced as well.
Source: https://www.man7.org/linux/man-pages/man2/fsync.2.html ("Calling fsync() does not
necessarily ensure that the entry in the directory containing the file has also reached disk").
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_NO_DIRECTORY_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF})

_TEMPORARY = re.compile(r"\.tmp-[0-9]+-[0-9]+")
WRITE_BYTES_MAX = 1 << 30  # Linux writes at most 2 GiB - 4 KiB in one call
_counter = itertools.count()  # makes temporary names differ within the process; next() is atomic


def is_temporary(name: str) -> bool:
    """Tell whether a file name is one that `TemporaryFile` makes."""
    return _TEMPORARY.fullmatch(name) is not None


def sync_file(descriptor: int) -> None:
    """Return when the file's bytes are on the medium, past the drive's cache where the system can say so."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync alone stops at the drive's cache there
    else:
        os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """Return when the directory's entries are on the medium.

    File systems that cannot sync a directory (some network and FUSE ones say EINVAL) order
    such changes themselves or not at all; for them this does nothing.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise
    finally:
        os.close(descriptor)


def make_directory(path: Path, mode: int) -> None:
    """Create a directory with whatever parents it lacks, and sync every parent that got an entry."""
    if path.is_dir():
        return
    make_directory(path.parent, mode)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode)
    sync_directory(path.parent)


class TemporaryFile:
    """A new, locked file with a hidden name, beside the file that it will become.

    Use it with `with`: it is removed at the end unless `rename_to` moved it. The lock
    (flock) lasts as long as the writer lives, so `is_abandoned` can tell a dead writer's
    leftover from a file that is being written. For one thread.

    Args:
        sync_bytes_max: Bytes written before they are synced.
    """

    def __init__(self, directory: Path, mode: int, sync_bytes_max: int = WRITE_BYTES_MAX) -> None:
        self._sync_bytes_max = sync_bytes_max
        self._descriptor = -1
        self._is_moved = False
        while self._descriptor < 0:
            self._path = directory / f".tmp-{os.getpid()}-{next(_counter)}"
            self._descriptor = _create_locked(self._path, mode)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # An error here would hide the one that brought us; what stays behind is debris, for prune.
        with contextlib.suppress(OSError):
            if not self._is_moved:
                self._path.unlink()
        with contextlib.suppress(OSError):
            os.close(self._descriptor)

    def write(self, data: bytes) -> None:
        """Write all bytes and sync them."""
        for start in range(0, max(1, len(data)), self._sync_bytes_max):
            rest = memoryview(data)[start : start + self._sync_bytes_max]
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            sync_file(self._descriptor)

    def rename_to(self, target: Path) -> None:
        """Give it its name, over any older file. Readers see the old file or the new one."""
        self._path.rename(target)
        self._is_moved = True

    def link_to(self, target: Path) -> None:
        """Give it its name unless that is taken (FileExistsError); exactly one racing writer succeeds."""
        try:
            os.link(self._path, target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            self._rename_if_absent(target)

    def _rename_if_absent(self, target: Path) -> None:
        """Do the same on a file system without hard links: check and rename under a lock on the directory."""
        lock = os.open(target.parent / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            # Raises where locks are not supported either: such a file system cannot hold a repository.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            self.rename_to(target)
        finally:
            os.close(lock)


def _create_locked(path: Path, mode: int) -> int:
    """Create and lock a file; return its descriptor, or -1 when the name or the lock went to someone else."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    except FileExistsError:
        return -1  # left by a dead process that had our process id
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass  # prune saw the file between its creation and its lock, and is about to remove it
    except OSError:
        return descriptor  # no locks here: is_abandoned will say "no" to every file
    else:
        if os.fstat(descriptor).st_nlink:
            return descriptor
    os.close(descriptor)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    return -1


@contextlib.contextmanager
def hold_abandoned(path: Path) -> Iterator[bool]:
    """Yield whether a temporary file's writer is dead, keeping it locked meanwhile.

    False as well when the file is gone, and on file systems that have no locks.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
