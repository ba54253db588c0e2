"""A file system that fails or crashes at a chosen operation, for the log's tests."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from recollect.database.log.files import DiskFiles, LogFile


class Crash(BaseException):
    """The process is dead; nothing that runs afterwards reaches the disk."""


class FaultyFiles(DiskFiles):
    """Counts operations that change files; number `at` does not go well.

    kinds: "crash" (dies before it), "torn" (dies after half of an append), "short" (half of an append, then
    ENOSPC), "enospc", "eio" (fails without effect).
    """

    def __init__(self, at: int = 0, kind: str = "crash") -> None:
        self.at = at
        self.kind = kind
        self.count = 0
        self.is_dead = False

    def step(self, half: tuple[LogFile, Sequence[bytes]] | None = None) -> None:
        if self.is_dead:
            raise Crash
        self.count += 1
        if self.count != self.at:
            return
        if half is not None and self.kind in {"torn", "short"}:
            file, parts = half
            joined = b"".join(parts)
            file.append([joined[: len(joined) // 2]])
        if self.kind in {"crash", "torn"}:
            self.is_dead = True
            raise Crash
        code = errno.EIO if self.kind == "eio" else errno.ENOSPC
        raise OSError(code, os.strerror(code))

    def create(self, path: Path) -> LogFile:
        self.step()
        return _FaultyFile(self, super().create(path))

    def reopen(self, path: Path) -> LogFile:
        self.step()
        return _FaultyFile(self, super().reopen(path))

    def remove(self, path: Path) -> None:
        self.step()
        super().remove(path)

    def make_directory(self, path: Path) -> None:
        self.step()
        super().make_directory(path)

    def sync_directory(self, path: Path) -> None:
        self.step()
        super().sync_directory(path)


class _FaultyFile:
    def __init__(self, files: FaultyFiles, file: LogFile) -> None:
        self._files = files
        self._file = file

    def append(self, parts: Sequence[bytes]) -> None:
        self._files.step((self._file, parts))
        self._file.append(parts)

    def sync(self) -> None:
        self._files.step()
        self._file.sync()

    def truncate(self, size: int) -> None:
        self._files.step()
        self._file.truncate(size)

    def close(self) -> None:
        self._file.close()
