"""The server: opens the database, starts its faces and its clockwork, and ends in order.

The end is: take no more requests, wait for those under way, take a checkpoint, ship the rest of the
log, close. Whatever was acknowledged before is safe at every moment of it.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from recollect.clock import Clock
from recollect.compat.nvecd.instance import Instance
from recollect.compat.statehouse.json_snapshot import drop_old_snapshots, write_snapshot
from recollect.compat.statehouse.server import StatehouseServer
from recollect.compat.statehouse.service import StatehouseService
from recollect.database import Database
from recollect.database.archive import Archiver
from recollect.database.tables import FrozenTables
from recollect.errors import RecollectError
from recollect.journal.stream import Gap
from recollect.repository.repository import Repository
from recollect.service.counters import CounterLog
from recollect.service.nvecd_face import database_options, face_settings
from recollect.service.options import ServeOptions
from recollect.values.snapshot import Snapshot
from recollect.values.ulid import RandomBytes

SNAPSHOTS = "snapshots"
"""Directory of the JSON snapshots, in the data directory."""

_LOG = logging.getLogger("recollect.service")

OpenRepository = Callable[[str], Repository]


class Daemon:
    """One server. `start` it; `stop` it from the same thread."""

    def __init__(
        self,
        options: ServeOptions,
        *,
        clock: Clock,
        random_bytes: RandomBytes,
        open_repository: OpenRepository,
    ) -> None:
        self._options = options
        self._clock = clock
        self._random_bytes = random_bytes
        self._open_repository = open_repository
        self._stack = ExitStack()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._archiver: Archiver | None = None
        self._faces: list[StatehouseServer] = []
        self._counters: CounterLog | None = None
        self._told_gaps: set[Gap] = set()
        self._told_damage: set[str] = set()
        self.database: Database | None = None
        self.statehouse: StatehouseServer | None = None
        self.nvecd: Instance | None = None

    def start(self) -> None:
        """Open the database and begin to answer. What fails here leaves nothing running."""
        try:
            self._start()
        except BaseException:
            if self.nvecd is not None:
                self.nvecd.stop()
            self._stop.set()
            for thread in self._threads:
                thread.join()
            if self._archiver is not None:
                self._stack.callback(self._archiver.close)
            self._stack.close()
            raise

    def stop(self) -> None:
        """End in order; returns when everything is done."""
        if self.nvecd is not None:
            self.nvecd.stop()
        for face in self._faces:
            face.stop(self._options.drain_s)
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._counters is not None:
            self._counters.write()
        database = self.database
        # Called in the reverse order, and each whatever became of the others.
        with self._stack as last:
            if self._archiver is not None:
                last.callback(self._archiver.close)
                last.callback(self._archive)
            if database is not None and not database.is_read_only:
                last.callback(database.checkpoint)
        _LOG.info("Stopped")

    def _start(self) -> None:
        options = self._options
        path = self._data_path()
        _LOG.info("Statehouse starting")
        database = Database.open(
            path,
            fsync="off" if options.use_memory else options.fsync,
            options=database_options(options, path),
            clock=self._clock,
            random_bytes=self._random_bytes,
        )
        self._stack.callback(database.close)
        self.database = database
        _LOG.info("Storage: %s", "memory" if options.use_memory else path)
        if database.torn_tail is not None:
            torn = database.torn_tail
            _LOG.warning(
                "Cut off %d bytes of an unfinished write at %s:%d", torn.byte_size, torn.path, torn.offset
            )
        if options.statehouse.json_snapshots and not options.use_memory:
            database.on_checkpoint(self._write_json)
        self._every(self._decay_interval_s(database), self._decay)
        if options.archive.repository:
            repository = self._open_repository(options.archive.repository)
            self._archiver = Archiver(path, repository, clock=self._clock, random_bytes=self._random_bytes)
            self._every(options.archive.interval_s, self._archive)
        if options.statehouse.enabled:
            service = StatehouseService(database)
            self.statehouse = StatehouseServer(service, options.statehouse.address)
            self._faces.append(self.statehouse)
            if options.statehouse.counters_interval_s:
                self._counters = CounterLog(service.measures)
                self._every(options.statehouse.counters_interval_s, self._counters.write)
        if options.nvecd.enabled:
            settings = face_settings(options, path)
            nvecd = Instance(settings, self._clock, _LOG.info, database=database)
            nvecd.start()
            self.nvecd = nvecd
            _LOG.info("nvecd listening on %s:%d", settings.api.tcp.bind, nvecd.server.port)
            if nvecd.http is not None:
                _LOG.info("nvecd HTTP on %s:%d", settings.api.http.bind, nvecd.http.port)
        for face in self._faces:
            face.start()

    def _data_path(self) -> Path:
        if not self._options.use_memory:
            return Path(self._options.data)
        return Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="recollect-memory-")))

    def _decay_interval_s(self, database: Database) -> float:
        return float(database.events.options.decay_interval_sec)

    def _every(self, interval_s: float, work: Callable[[], None]) -> None:
        """Do something again and again in a thread of its own, until the server stops."""
        if interval_s <= 0:
            return

        def run() -> None:
            while not self._stop.wait(interval_s):
                try:
                    work()
                except RecollectError as error:
                    _LOG.error("%s failed and is tried again: %s", work.__name__.strip("_"), error)
                except Exception:  # noqa: BLE001 - a bug must not end archiving for good, unseen
                    _LOG.exception("%s failed and is tried again", work.__name__.strip("_"))

        thread = threading.Thread(target=run, name=work.__name__.strip("_"), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _decay(self) -> None:
        assert self.database is not None, "started"
        if self.database.events.pair_count:
            self.database.events.decay()

    def _archive(self) -> None:
        assert self._archiver is not None, "started"
        done = self._archiver.run_once()
        for message in done.damage:
            if message not in self._told_damage:
                self._told_damage.add(message)
                _LOG.warning("A piece of the archive is damaged: %s", message)
        for gap in done.gaps:
            if gap not in self._told_gaps:
                self._told_gaps.add(gap)
                _LOG.warning("The archive lacks commits %d to %d", gap.first, gap.last)

    def _write_json(self, frozen: FrozenTables, snapshot: Snapshot) -> None:
        """Write Statehouse's JSON snapshot after an automatic checkpoint; a named one is not automatic."""
        if snapshot.name:
            return
        assert self.database is not None, "started"
        directory = self.database.path / SNAPSHOTS
        write_snapshot(frozen.state, frozen.commit_ts, directory, now=self._clock.now())
        drop_old_snapshots(directory, self._options.statehouse.json_keep_last)
