"""The spool: where streams arrive, and where shards are kept for the next backup's sake.

::

    runs/<ulid>/           of one run: streams, and shards that are not kept; locked while the run lives
    shards/<digest>/       of one shard of one server, kept between runs; locked while it is used

A killed process loses its locks. What it left under `runs/` the next run removes; a kept shard without its
`state.json` is worth nothing and is removed too, and so is one that was not used for 90 days. The spool
holds records in clear: it is made for its owner only (mode 0700). Source: flock(2).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from recollect.errors import RecollectError, StorageFullError, UnavailableError

LOCK_FILE = "lock"
STATE_FILE = "state.json"
UNUSED_NS = 90 * 24 * 3600 * 10**9
"""A shard that was kept for so long and not used is not kept any longer; by the file system's time."""
_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def disk_errors(action: str, path: Path) -> Iterator[None]:
    """Translate what the disk says."""
    try:
        yield
    except RecollectError:
        raise
    except OSError as error:
        kind = StorageFullError if error.errno in _FULL else UnavailableError
        raise kind(
            f"{action} {path}: {error.strerror or error}",
            "free some space, or name another directory with RECOLLECT_SPOOL",
        ) from error


class Budget:
    """How many bytes a run may still write into the spool. Safe to share between threads."""

    def __init__(self, bytes_max: int | None) -> None:
        self._left = bytes_max
        self._limit = bytes_max
        self._lock = threading.Lock()

    def take(self, byte_count: int) -> None:
        """Take bytes out of it.

        Raises:
            StorageFullError: There are not so many left.
        """
        with self._lock:
            if self._left is None:
                return
            if byte_count > self._left:
                raise StorageFullError(
                    f"the spool may hold {self._limit} bytes, and that is not enough for this backup",
                    "raise RECOLLECT_SPOOL_BYTES, or read with ?capture=scroll, which needs no spool",
                )
            self._left -= byte_count

    def give(self, byte_count: int) -> None:
        """Give back what was removed."""
        with self._lock:
            if self._left is not None:
                self._left += byte_count

    @contextmanager
    def claim(self) -> Iterator[Claim]:
        """Take bytes for files that are removed in the end: what was not kept is given back."""
        claim = Claim(self)
        try:
            yield claim
        finally:
            self.give(claim.byte_count)


class Claim:
    """Bytes that were taken for some files. One thread at a time."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.byte_count = 0

    def take(self, byte_count: int) -> None:
        """Take more. Raises StorageFullError where there are not so many left."""
        self._budget.take(byte_count)
        self.byte_count += byte_count

    def keep(self) -> None:
        """Say that the files stay."""
        self.byte_count = 0


class Spool:
    """A run's part of the spool; entered once, for as long as the run lasts. Safe to share between threads.

    Args:
        directory: Made if it does not exist.
        bytes_max: Bytes on disk that all of it may take; None for as many as there are.
        new_id: Returns a new ULID.
    """

    def __init__(self, directory: Path, bytes_max: int | None, new_id: Callable[[], str]) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
        self._new_id = new_id
        self._lock: _Lock | None = None
        self._run: Path | None = None
        self.budget = Budget(None)

    def __enter__(self) -> Self:
        with disk_errors("making", self._directory):
            for part in (self._directory, self._directory / "runs", self._directory / "shards"):
                part.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _turn(self._directory):
                self._remove_debris()
                run = self._directory / "runs" / self._new_id()
                run.mkdir(mode=0o700)
                self._lock = _Lock.take(run)
                self._run = run
                self._drop_unused(run.stat().st_mtime_ns)
                self._make_room()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._run is not None, "entered before"
        shutil.rmtree(self._run, ignore_errors=True)  # what stays, the next run removes
        if self._lock is not None:
            self._lock.release()

    def new_path(self, suffix: str = "") -> Path:
        """Return a path of this run's own that nothing has."""
        assert self._run is not None, "used inside its context"
        return self._run / f"{self._new_id()}{suffix}"

    @contextmanager
    def kept(self, *parts: str) -> Iterator[Path]:
        """Hold the directory that is kept under these names; another one of the run's, if it is in use.

        What is written there stays for the next run, except for the run's own.
        """
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
        place = self._directory / "shards" / digest
        with disk_errors("making", place), _turn(self._directory):
            place.mkdir(mode=0o700, exist_ok=True)
            lock = _Lock.try_take(place)
            if lock is None or not place.is_dir():
                place = self.new_path()
                place.mkdir(mode=0o700)
        try:
            yield place
        finally:
            if lock is not None:
                lock.release()

    def _remove_debris(self) -> None:
        for place in [*(self._directory / "runs").iterdir(), *(self._directory / "shards").iterdir()]:
            is_worthless = place.parent.name == "runs" or not (place / STATE_FILE).is_file()
            if is_worthless:
                _remove_unheld(place)

    def _drop_unused(self, now_ns: int) -> None:
        """Drop shards that nobody asks for any more: of collections that are gone, for one."""
        for place in self._kept_places():
            if now_ns - place.stat().st_mtime_ns > UNUSED_NS:  # each use writes the state anew
                _remove_unheld(place)

    def _make_room(self) -> None:
        """Drop the shards that were not used for longest until half of the room is free."""
        if self._bytes_max is None:
            return
        kept = [(place.stat().st_mtime_ns, place, disk_bytes(place)) for place in self._kept_places()]
        total = sum(size for _, _, size in kept)
        for _, place, size in sorted(kept):
            if total <= self._bytes_max // 2:
                break
            if _remove_unheld(place):
                total -= size
        self.budget = Budget(max(0, self._bytes_max - total))

    def _kept_places(self) -> list[Path]:
        return [place for place in (self._directory / "shards").iterdir() if place.is_dir()]


def disk_bytes(directory: Path) -> int:
    """Return the bytes that the files below a directory take on disk; holes take none."""
    total = 0
    for root, _, names in os.walk(directory):
        for name in names:
            with suppress(FileNotFoundError):  # another run may be at work in it
                total += os.lstat(Path(root) / name).st_blocks * 512
    return total


def _remove_unheld(place: Path) -> bool:
    """Remove a directory unless somebody holds it."""
    lock = _Lock.try_take(place)
    if lock is None:
        return False
    try:
        with suppress(FileNotFoundError):  # its run is just removing it
            shutil.rmtree(place)
    finally:
        lock.release()
    return True


@contextmanager
def _turn(directory: Path) -> Iterator[None]:
    """Wait until no other run looks for debris here: a place that is new is not locked yet, as debris is."""
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class _Lock:
    """The right to a directory; the kernel takes it back when the process dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, place: Path) -> _Lock:
        """Take a lock that nobody else can have."""
        lock = cls.try_take(place)
        assert lock is not None, "the directory is new"
        return lock

    @classmethod
    def try_take(cls, place: Path) -> _Lock | None:
        """Take the lock, or None where another holder lives or the directory is gone."""
        try:
            descriptor = os.open(place / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return cls(descriptor)

    def release(self) -> None:
        """Give it back."""
        os.close(self._descriptor)
