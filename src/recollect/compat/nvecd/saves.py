"""Writing snapshots: at once while writers wait (lock), or from a view in the background (fork).

nvecd forks for the latter; a view of the database does the same for a process with threads, and
without copying its memory. Replies and states are those of fork mode.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import msgspec

from recollect.clock import Clock
from recollect.compat.nvecd.config.settings import NvecdSettings
from recollect.compat.nvecd.export import SnapshotCounts, snapshot_config, view_counts, view_stores
from recollect.compat.nvecd.gate import SAVE_WHILE_LOADING, Gate
from recollect.compat.nvecd.snapshot.layout import FORMAT_LIMITS, NVECD_LIMITS, SnapshotLimits
from recollect.compat.nvecd.snapshot.write import Written, write_snapshot
from recollect.compat.nvecd.snapshot_directory import write_private
from recollect.database import Database
from recollect.database.column_view import ColumnView
from recollect.errors import ConflictError, RecollectError

SaveState: TypeAlias = Literal["idle", "in_progress", "completed", "failed"]


class SaveStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The last background save; times in seconds since 1970, 0 for none."""

    state: SaveState = "idle"
    path: str = ""
    started_at_s: int = 0
    ended_at_s: int = 0
    error: str = ""


_ANOTHER = "Another snapshot save is already in progress"


class CheckpointLog(Protocol):
    """The log that a snapshot makes superfluous; nvecd's own."""

    @property
    def sequence(self) -> int:
        """The last record."""
        ...

    def announce_snapshot(self, path: Path, written: Written, sequence: int) -> None:
        """Write down up to where a snapshot holds the log, before it takes its name."""
        ...

    def note_snapshot(self, path: Path, written: Written, sequence: int) -> None:
        """Remember that a snapshot holds everything up to `sequence`, and drop what it holds."""
        ...


def limits_of(settings: NvecdSettings) -> SnapshotLimits:
    """Return how large files may be."""
    return NVECD_LIMITS if settings.snapshot.limits == "nvecd" else FORMAT_LIMITS


class Saver:
    """Writes snapshots of one database. Safe to share between threads; one background save at a time.

    Args:
        log: Told of every snapshot that is complete; None for no log.
    """

    def __init__(
        self, database: Database, gate: Gate, settings: NvecdSettings, clock: Clock, log: CheckpointLog | None
    ) -> None:
        self._database = database
        self._gate = gate
        self._settings = settings
        self._clock = clock
        self._log = log
        self._lock = threading.Lock()
        # One save at a time, from its view to its place in the log: an older view that is written last
        # would be the newest file, of a log that is shortened already.
        self._saving = threading.Lock()
        self._status = SaveStatus()
        self._thread: threading.Thread | None = None

    @property
    def status(self) -> SaveStatus:
        """The last background save."""
        return self._status

    def save_locked(self, path: Path) -> tuple[Written, SnapshotCounts]:
        """Write a snapshot while writers are refused; return when it is complete.

        Raises:
            ConflictError: Another save or a load is under way.
            RecollectError: It could not be written; an older file of that name is untouched.
        """
        with self._alone(), self._gate.saving_locked():
            sequence = 0 if self._log is None else self._log.sequence
            with self._database.column_view() as view:
                return self._write(path, view, sequence), view_counts(view)

    def save_from_view(self, path: Path) -> tuple[Written, SnapshotCounts]:
        """Write a snapshot of this moment and return when it is complete; writers go on meanwhile."""
        with self._saving:
            return self._save_view(path)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Save alone, or not at all. Taken before the lock of writers, by everybody."""
        if not self._saving.acquire(blocking=False):
            raise ConflictError(_ANOTHER)
        try:
            yield
        finally:
            self._saving.release()

    def _save_view(self, path: Path) -> tuple[Written, SnapshotCounts]:
        view, sequence = self._take_view()
        with view:
            return self._write(path, view, sequence), view_counts(view)

    def start(
        self,
        path: Path,
        *,
        when_done: Callable[[], object] | None = None,
        when_failed: Callable[[str], object] | None = None,
    ) -> None:
        """Write a snapshot of this moment in the background; writers go on. See `status`.

        `when_done` is called once it is complete, `when_failed` with the reason if it will never be.

        Raises:
            ConflictError: Another background save, or a load, is under way.
        """
        with self._lock:
            if self._status.state == "in_progress":
                raise ConflictError(f"Background snapshot already in progress (pid: {os.getpid()})")
            if self._gate.is_loading:
                raise ConflictError(SAVE_WHILE_LOADING)
            if not self._saving.acquire(blocking=False):
                raise ConflictError(_ANOTHER)
            try:
                view, sequence = self._take_view()
                arguments = (path, view, sequence, when_done, when_failed)
                thread = threading.Thread(target=self._run, args=arguments, name="nvecd-save", daemon=True)
                self._status = SaveStatus(state="in_progress", path=str(path), started_at_s=self._now_s())
                thread.start()
            except BaseException:
                self._saving.release()
                raise
            self._thread = thread

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until no background save is under way."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _run(
        self,
        path: Path,
        view: ColumnView,
        sequence: int,
        when_done: Callable[[], object] | None,
        when_failed: Callable[[str], object] | None,
    ) -> None:
        started = self._status
        problem = ""
        try:
            with view:
                self._write(path, view, sequence)
        except RecollectError as error:
            problem = error.message
        except BaseException as error:
            problem = f"internal error: {type(error).__name__}"
            raise
        finally:
            self._saving.release()
            state: SaveState = "failed" if problem else "completed"
            self._status = msgspec.structs.replace(
                started, state=state, ended_at_s=self._now_s(), error=problem
            )
        if problem and when_failed is not None:
            when_failed(problem)
        if when_done is not None and not problem:
            when_done()

    def _take_view(self) -> tuple[ColumnView, int]:
        """Take a view and the log's position at the same moment: between two writes."""
        if self._log is None:
            return self._database.column_view(), 0
        with self._gate.writing:
            return self._database.column_view(), self._log.sequence

    def _write(self, path: Path, view: ColumnView, sequence: int) -> Written:
        def write(descriptor: int) -> Written:
            written = write_snapshot(
                descriptor,
                timestamp=self._now_s(),
                config=snapshot_config(self._settings),
                stores=view_stores(view),
                limits=limits_of(self._settings),
            )
            if self._log is not None:
                self._log.announce_snapshot(path, written, sequence)
            return written

        written = write_private(path, write)
        if self._log is not None:
            self._log.note_snapshot(path, written, sequence)
        return written

    def _now_s(self) -> int:
        return int(self._clock.now().timestamp())
