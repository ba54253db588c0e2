"""Appending to the log: written before it is applied, synced as the settings say."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from recollect.compat.nvecd.config.settings import WalSettings
from recollect.compat.nvecd.protocol import command as cmd
from recollect.compat.nvecd.snapshot.write import Written
from recollect.compat.nvecd.wal.directory import NUMBER_MAX, LogFile, file_path
from recollect.compat.nvecd.wal.record import (
    FILE_HEADER,
    MAGIC,
    VERSION,
    Decay,
    Record,
    encode_record,
)
from recollect.compat.nvecd.wal.sidecar import Sidecar, announce_sidecar, write_sidecar
from recollect.errors import RecollectError, UnavailableError
from recollect.storage.files import sync_directory, sync_file
from recollect.system_error import storage_error


class LogWriter:
    """The open end of the log. Safe to share between threads.

    The first failure ends writing: what the file holds then is not known, so nothing is acknowledged
    any more until the server is started again.

    Args:
        files: What `scan` found; an unfinished record at the end is cut off.
        sequence: The last record there is, in the log or in the snapshot that it follows.
        apply_write: Writes bytes to a descriptor, all of them; tests pass one that fails.
    """

    def __init__(
        self,
        directory: Path,
        settings: WalSettings,
        files: list[LogFile],
        sequence: int,
        *,
        apply_write: Callable[[int, bytes], None] | None = None,
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._lock = threading.Lock()
        self._write = apply_write or write_all
        self._failure: RecollectError | None = None
        self._descriptor = -1
        self._size = 0
        self._is_synced = True
        self._sequence = sequence
        self._files: list[tuple[Path, int]] = []
        self._number = max((file.number for file in files), default=0)
        try:
            for file in files:
                if not file.first_sequence:
                    file.path.unlink()  # a start without a write left it; it says nothing
                    continue
                if file.is_torn:
                    os.truncate(file.path, file.whole_size)
                self._files.append((file.path, file.last_sequence))
            self._begin()
        except OSError as error:
            raise storage_error(error, f"cannot open the log in {directory}") from error
        self._stop = threading.Event()
        self._syncer = threading.Thread(target=self._sync_now_and_then, name="nvecd-wal", daemon=True)
        self._syncer.start()

    @property
    def sequence(self) -> int:
        """The last record."""
        return self._sequence

    def append(self, writes: Sequence[cmd.Write], *, now_us: int) -> None:
        """Log writes in order.

        Raises:
            UnavailableError: The disk failed, now or before; nothing of it counts as logged.
        """
        logged = [one for one in writes if self._settings.include_vectors or not isinstance(one, cmd.VecSet)]
        self._append(logged, now_us)

    def append_decay(self, *, now_us: int) -> None:
        """Log that all weights fade."""
        self._append([Decay()], now_us)

    def announce_snapshot(self, path: Path, written: Written, sequence: int) -> None:
        """Write down where a snapshot will belong that has no name yet."""
        announce_sidecar(path, Sidecar(sequence, written.file_size, written.checksum))

    def note_snapshot(self, path: Path, written: Written, sequence: int) -> None:
        """Write the snapshot's sidecar, then drop the files that it makes superfluous."""
        write_sidecar(path, Sidecar(sequence, written.file_size, written.checksum))
        with self._lock:
            try:
                while len(self._files) > 1 and self._files[0][1] <= sequence:
                    self._files[0][0].unlink(missing_ok=True)
                    del self._files[0]
                sync_directory(self._directory)
            except OSError as error:
                raise storage_error(error, f"cannot shorten the log in {self._directory}") from error

    def sync(self) -> None:
        """Make everything logged so far durable."""
        with self._lock:
            self._sync()

    def close(self) -> None:
        """Sync and close. Safe to call twice."""
        self._stop.set()
        self._syncer.join()
        with self._lock:
            if self._descriptor >= 0:
                with contextlib.suppress(UnavailableError):
                    self._sync()
                self._close_file()

    def _append(self, changes: Sequence[cmd.Write | Decay], now_us: int) -> None:
        if not changes:
            return
        with self._lock:
            if self._failure is not None:
                raise type(self._failure)(self._failure.message, self._failure.next_step)
            first = self._sequence + 1
            data = b"".join(
                encode_record(Record(first + place, now_us, change)) for place, change in enumerate(changes)
            )
            try:
                if self._size + len(data) > self._settings.max_file_size and self._size > FILE_HEADER.size:
                    self._rotate()
                self._write(self._descriptor, data)
                self._size += len(data)
                self._is_synced = False
                if self._settings.sync_on_write or not self._settings.sync_interval_ms:
                    sync_file(self._descriptor)
                    self._is_synced = True
            except OSError as error:
                raise self._fail(error) from error
            self._sequence += len(changes)
            self._files[-1] = (self._files[-1][0], self._sequence)

    def _sync(self) -> None:
        if self._is_synced or self._descriptor < 0:
            return
        try:
            sync_file(self._descriptor)
            self._is_synced = True
        except OSError as error:
            raise self._fail(error) from error

    def _sync_now_and_then(self) -> None:
        interval_s = self._settings.sync_interval_ms / 1000
        while interval_s and not self._stop.wait(interval_s):
            with contextlib.suppress(UnavailableError):  # the next write reports it
                self.sync()

    def _fail(self, error: OSError) -> RecollectError:
        """Write no more; cut off what a failed write may have left, if that is still possible."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self._size)
        self._close_file()
        self._failure = storage_error(
            error,
            f"cannot write the log in {self._directory}; the server is read-only until it is started again",
        )
        return self._failure

    def _rotate(self) -> None:
        sync_file(self._descriptor)
        self._close_file()
        self._begin()

    def _begin(self) -> None:
        """Begin a file; its name is durable before a record in it is acknowledged."""
        if self._number >= NUMBER_MAX:
            raise OSError(0, "WAL segment number space exhausted")
        self._number += 1
        path = file_path(self._directory, self._number)
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        header = FILE_HEADER.pack(MAGIC, VERSION)
        self._write(self._descriptor, header)
        sync_file(self._descriptor)
        sync_directory(self._directory)
        self._size, self._is_synced = len(header), True
        self._files.append((path, self._sequence))

    def _close_file(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
