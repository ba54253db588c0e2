"""When checkpoints are taken, and what is dropped after one.

One checkpoint at a time. Automatic ones run in a thread of their own; one on demand runs in the
caller's. A failure is reported and changes nothing: the log still has every commit.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from recollect import __version__
from recollect.catalog.catalog import Catalog, check_name
from recollect.clock import Clock
from recollect.database.checkpoint.load import checkpoint_commit, checkpoints_newest_first
from recollect.database.checkpoint.pacing import pause, sharing_the_interpreter
from recollect.database.checkpoint.write import Labels, write_checkpoint
from recollect.database.log.directory import LogDirectory
from recollect.database.options import CheckpointOptions
from recollect.database.tables import FrozenTables, Tables
from recollect.errors import ConflictError, RecollectError
from recollect.repository.garbage import plan_sweep, sweep
from recollect.repository.repository import Repository
from recollect.values.event import ignore_events
from recollect.values.snapshot import Snapshot
from recollect.values.ulid import RandomBytes

_LOG = logging.getLogger("recollect.database")
_PRUNE_EVERY = 8  # checkpoints between two collections of garbage

AfterCheckpoint = Callable[[FrozenTables, Snapshot], None]


class Checkpointer:
    """Takes checkpoints of one database. Safe to share between threads."""

    def __init__(
        self,
        tables: Tables,
        repository: Callable[[], Repository],
        log: LogDirectory,
        *,
        newest: Snapshot | None,
        source: str,
        options: CheckpointOptions,
        clock: Clock,
        random_bytes: RandomBytes,
        sync_log: Callable[[], None],
    ) -> None:
        self._tables = tables
        self._open_repository = repository
        self._log = log
        self._newest = newest
        self._source = source
        self._options = options
        self._clock = clock
        self._random_bytes = random_bytes
        self._sync_log = sync_log
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._is_closing = False
        self._is_closed = False
        self._begun_ts = 0 if newest is None else checkpoint_commit(newest)
        self._count = 0
        self._thread: threading.Thread | None = None
        self.last_error: Exception | None = None
        self.after_checkpoint: AfterCheckpoint | None = None

    @property
    def newest(self) -> Snapshot | None:
        """The newest checkpoint, or None."""
        return self._newest

    def start(self) -> None:
        """Begin to take automatic checkpoints, if the options ask for any."""
        if self._options.commit_interval or self._options.time_interval_s:
            self._thread = threading.Thread(target=self._run, name="checkpointer", daemon=True)
            self._thread.start()
            self.note_commit(self._tables.commit_ts)

    def close(self) -> None:
        """Stop; waits for a checkpoint under way, also one on demand. Later ones are refused."""
        self._is_closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._is_closed = True

    def note_commit(self, commit_ts: int) -> None:
        """Wake the thread if enough was committed; called after every group of commits, so quick."""
        interval = self._options.commit_interval
        if interval and commit_ts - self._begun_ts >= interval:
            self._wake.set()

    def take(self, name: str = "", description: str = "") -> Snapshot:
        """Take a checkpoint now and return it.

        Without a name, and with nothing committed since the newest one, that one is returned.

        Raises:
            RequestError: The name is none that a snapshot can have.
            ConflictError: The database is closed: its directory may be another's by now.
        """
        check_name(name)
        with self._lock, sharing_the_interpreter():
            if self._is_closed:
                raise ConflictError("no checkpoint can be taken: the database is closed", "open it again")
            frozen = self._tables.freeze()
            try:
                if (
                    self._newest is not None
                    and not name
                    and checkpoint_commit(self._newest) == frozen.commit_ts
                ):
                    return self._newest
                snapshot = self._write(frozen, name, description)
                if self.after_checkpoint is not None:
                    self.after_checkpoint(frozen, snapshot)
            finally:
                frozen.release()
            try:
                self._clean_up()
            except RecollectError as error:
                # The checkpoint stands; what should have gone stays for the next time.
                self.last_error = error
                _LOG.warning("Old snapshots and log segments could not be dropped: %s", error)
            return snapshot

    def _write(self, frozen: FrozenTables, name: str, description: str) -> Snapshot:
        self._begun_ts = frozen.commit_ts
        _LOG.info("Creating snapshot at commit_ts=%d", frozen.commit_ts)
        try:
            # A checkpoint must never know more than the log: a restart would number commits anew.
            self._sync_log()
            snapshot = write_checkpoint(
                frozen,
                self._newest,
                self._open_repository(),
                labels=Labels(self._source, name, description, __version__),
                clock=self._clock,
                random_bytes=self._random_bytes,
                pause=pause,
            )
        except BaseException:
            frozen.reopen()
            raise
        frozen.settle()
        self._newest = snapshot
        self._count += 1
        _LOG.info("Snapshot created: snapshot-%d.json", frozen.commit_ts)
        return snapshot

    def _clean_up(self) -> None:
        """Drop checkpoints and log segments that the policy no longer keeps."""
        repository = self._open_repository()
        catalog = Catalog(repository)
        checkpoints = list(checkpoints_newest_first(repository))[::-1]
        unnamed = [snapshot for snapshot in checkpoints if not snapshot.name]
        expired = unnamed[: max(0, len(unnamed) - max(1, self._options.keep_last))]
        for snapshot in expired:
            if snapshot is not checkpoints[-1]:
                catalog.forget(snapshot.id)
        gone = {snapshot.id for snapshot in expired}
        oldest_ts = min(checkpoint_commit(one) for one in checkpoints if one.id not in gone)
        horizon = self._clock.now() - timedelta(seconds=self._options.log_window_s)
        dropped = self._log.drop_before(oldest_ts + 1, created_before_us=int(horizon.timestamp() * 1e6))
        for path in dropped:
            _LOG.info("Dropped log segment %s: older than every checkpoint kept", path.name)
        if expired and self._count % _PRUNE_EVERY == 0:
            plan = plan_sweep(repository, catalog.mark)
            sweep(
                repository,
                plan,
                catalog.mark,
                clock=self._clock,
                random_bytes=self._random_bytes,
                on_event=ignore_events,
            )

    def _run(self) -> None:
        timeout = self._options.time_interval_s or None
        while True:
            self._wake.wait(timeout)
            if self._is_closing:
                return
            self._wake.clear()
            try:
                self.take()
                self.last_error = None
            except RecollectError as error:
                self.last_error = error
                _LOG.error("Snapshot failed: %s", error)
            except Exception as error:  # noqa: BLE001 - a bug here must not end checkpoints unseen
                self.last_error = error
                _LOG.exception("Snapshot failed")
