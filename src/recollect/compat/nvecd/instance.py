"""A whole nvecd: database, recovery, log, housekeeping, servers; started and stopped as one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Self

from recollect.clock import Clock
from recollect.compat.nvecd.build import database_options
from recollect.compat.nvecd.config.settings import NvecdSettings
from recollect.compat.nvecd.face import Face
from recollect.compat.nvecd.gate import Gate
from recollect.compat.nvecd.housekeeping import AutomaticSnapshots, DecayJob, Housekeeper
from recollect.compat.nvecd.http.server import HttpServer
from recollect.compat.nvecd.load import drop_staging
from recollect.compat.nvecd.recovery import load_newest, replay_records
from recollect.compat.nvecd.server import LineServer
from recollect.compat.nvecd.snapshot_directory import SnapshotDirectory, remove_abandoned
from recollect.compat.nvecd.volatile import VolatileDatabase
from recollect.compat.nvecd.wal import directory as log_directory
from recollect.compat.nvecd.wal.writer import LogWriter
from recollect.compat.nvecd.writes import Writer
from recollect.database import Database
from recollect.errors import RecollectError


class Instance:
    """Serves one database by nvecd's protocols. A context manager that stops it.

    Without a `database` it has one in memory, as nvecd does: what lasts are its snapshots and, if it is on,
    its log; both are read at the start. With a database, that one's own log is what lasts.

    Args:
        note: Told what an operator should know, a line at a time.
    """

    def __init__(
        self,
        settings: NvecdSettings,
        clock: Clock,
        note: Callable[[str], None],
        *,
        database: Database | None = None,
        config_path: Path | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._note = note
        self._volatile: VolatileDatabase | None = None
        self._log: LogWriter | None = None
        self._log_lock = -1
        directory = SnapshotDirectory(settings.snapshot.dir)
        directory.create()
        for path in remove_abandoned(directory.path, _is_alive):
            note(f"removed {path}, which a server that was killed left unfinished")
        if database is None:
            self._volatile = VolatileDatabase(database_options(settings), clock)
            database = self._volatile.database
        try:
            if self._volatile is not None:
                self._log = self._recover(database, directory)
            else:
                self._adopt(database)
            self.face = Face(database, settings, clock, config_path=config_path, log=self._log)
            self.server = LineServer(self.face, is_durable=self._volatile is None, note=note)
            self.http = HttpServer(self.face, note) if settings.api.http.enable else None
            self.snapshots = AutomaticSnapshots(self.face.saver, directory, settings, clock, note)
            jobs: list[Callable[[], object]] = [self.snapshots.tick]
            if self._volatile is not None:  # whoever opened the database lets it fade
                jobs.append(DecayJob(self._decay, settings.events.decay_interval_sec, clock).tick)
            self._housekeeper = Housekeeper(jobs, note)
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, and begin the housekeeping.

        Raises:
            UnavailableError: An address is taken, or not ours.
        """
        try:
            self.server.start()
            if self.http is not None:
                self.http.start()
        except BaseException:
            self.server.stop()
            self._close()
            raise
        self._housekeeper.start()

    def stop(self) -> None:
        """Finish what was asked, wait for a save that runs, and close."""
        self._housekeeper.stop()
        if self.http is not None:
            self.http.stop()
        self.server.stop()
        self.face.saver.wait()
        self._close()

    def _recover(self, database: Database, directory: SnapshotDirectory) -> LogWriter | None:
        settings, gate = self._settings, Gate()
        if settings.wal.enabled:
            log_directory.prepare(Path(settings.wal.dir))
            self._log_lock = log_directory.lock(Path(settings.wal.dir))
        path = Path(settings.wal.dir)
        files = log_directory.scan(path) if settings.wal.enabled else []
        logged = max((file.last_sequence for file in files), default=0)
        start = load_newest(database, gate, directory, settings, self._note, logged=logged)
        if not settings.wal.enabled:
            return None
        writer = Writer(database, gate, self._clock, None)
        count = replay_records(database, writer, log_directory.replay(files, start.sequence))
        self._note(f"replayed {count} records of the log in {path}")
        if files and files[-1].is_torn:
            self._note(f"an unfinished record at the end of {files[-1].path} was cut off")
        return LogWriter(path, settings.wal, files, max(start.sequence, logged))

    def _adopt(self, database: Database) -> None:
        """Take a database that lasts by itself."""
        if not database.is_read_only:
            drop_staging(database)
        if self._settings.wal.enabled:
            self._note(
                f"wal.enabled is without effect: this database has a log of its own, and the one in "
                f"{self._settings.wal.dir} is neither read nor written. To move its data here, start "
                "recollect-nvecd with this configuration, DUMP SAVE there, DUMP LOAD here"
            )

    def _decay(self) -> None:
        with self.face.gate.writing:
            if self._log is not None:
                self._log.append_decay(now_us=int(self._clock.now().timestamp() * 1_000_000))
            self.face.database.events.decay()

    def _close(self) -> None:
        try:
            if self._log is not None:
                self._log.close()
        except RecollectError as error:
            self._note(str(error))
        if self._log_lock >= 0:
            os.close(self._log_lock)
            self._log_lock = -1
        if self._volatile is not None:
            self._volatile.close()


def _is_alive(process: int) -> bool:
    """Tell whether another process of this number runs; this one begins, and has written nothing yet."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OverflowError:
        return False
    except PermissionError:
        pass
    return True
