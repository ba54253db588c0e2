"""A database that lives in memory only, as nvecd's does: what lasts are snapshots and nvecd's own log.

It is the embedded database over a file system that forgets: commits are numbered, applied and undone as
always, and their frames go nowhere.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from recollect.clock import Clock
from recollect.database import Database
from recollect.database.log.files import LogFile
from recollect.database.options import CheckpointOptions, DatabaseOptions, LogOptions
from recollect.storage.memory import MemoryStore

_NEVER_FULL = 1 << 62


class _ForgetfulFile:
    """Takes bytes and keeps none."""

    def append(self, parts: Sequence[bytes]) -> None:
        """Forget them."""

    def sync(self) -> None:
        """There is nothing to make durable."""

    def truncate(self, size: int) -> None:
        """There is nothing to cut."""

    def close(self) -> None:
        """There is nothing to close."""


class ForgetfulFiles:
    """A file system whose logs are empty; small files put in place are remembered. For one database."""

    def __init__(self) -> None:
        self._placed: dict[Path, bytes] = {}

    def create(self, path: Path) -> LogFile:
        """Return a file that forgets."""
        self._placed.pop(path, None)
        return _ForgetfulFile()

    def reopen(self, path: Path) -> LogFile:
        """Return a file that forgets."""
        return self.create(path)

    def read(self, path: Path, byte_size_max: int = _NEVER_FULL) -> bytes:
        """Return what was put in place."""
        return self._placed.get(path, b"")[:byte_size_max]

    def list(self, directory: Path) -> list[str]:
        """Return what was put in place there."""
        return sorted(path.name for path in self._placed if path.parent == directory)

    def make_directory(self, path: Path) -> None:
        """Create it: the database's lock file is real."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def remove(self, path: Path) -> None:
        """Forget one file."""
        self._placed.pop(path, None)

    def replace(self, path: Path, parts: Sequence[bytes]) -> None:
        """Remember a file."""
        self._placed[path] = b"".join(parts)

    def sync_directory(self, path: Path) -> None:
        """There is nothing to make durable."""


class VolatileDatabase:
    """An open database in memory, and the directory of its lock, which `close` removes."""

    def __init__(self, options: DatabaseOptions, clock: Clock) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="recollect-"))
        memory_only = CheckpointOptions(commit_interval=0, time_interval_s=0.0)
        self.database = Database.open(
            self._directory,
            fsync="off",
            options=_with(options, memory_only),
            clock=clock,
            files=ForgetfulFiles(),
            checkpoints=MemoryStore(),
        )

    def close(self) -> None:
        """Forget everything. Safe to call twice."""
        self.database.close()
        shutil.rmtree(self._directory, ignore_errors=True)


def _with(options: DatabaseOptions, checkpoints: CheckpointOptions) -> DatabaseOptions:
    return DatabaseOptions(
        vectors=options.vectors,
        events=options.events,
        fusion=options.fusion,
        log=LogOptions(segment_bytes_max=_NEVER_FULL, is_kept=False),
        checkpoints=checkpoints,
        transaction_timeout_s=options.transaction_timeout_s,
        transaction_count_max=options.transaction_count_max,
        transaction_bytes_max=options.transaction_bytes_max,
    )
