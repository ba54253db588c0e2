"""DUMP: what each verb does, and what went wrong in nvecd's words; how replies read is `dump_reply`'s."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from recollect.clock import Clock
from recollect.compat.nvecd.config.settings import NvecdSettings
from recollect.compat.nvecd.export import SnapshotCounts
from recollect.compat.nvecd.gate import Gate
from recollect.compat.nvecd.load import load_file
from recollect.compat.nvecd.saves import CheckpointLog, Saver, limits_of
from recollect.compat.nvecd.snapshot.decode import Cursor
from recollect.compat.nvecd.snapshot.layout import EDGES, EVENTS, STORES_KNOWN, VECTORS, Header
from recollect.compat.nvecd.snapshot.read import (
    Finding,
    Section,
    check_file,
    raise_finding,
    read_header,
    read_sections,
    read_store,
)
from recollect.compat.nvecd.snapshot.vector_stream import VectorStream
from recollect.compat.nvecd.snapshot.write import Written
from recollect.compat.nvecd.snapshot_directory import SnapshotDirectory, check_private, open_private
from recollect.database import Database
from recollect.errors import ConflictError, FormatVersionError, IntegrityError, RecollectError, RequestError

_WHOLE_FILE_CHECKS = ("size", "checksum")


class Saved(NamedTuple):
    """A save: complete, or started if there is nothing written yet."""

    path: Path
    written: Written | None
    counts: SnapshotCounts | None


class Loaded(NamedTuple):
    """A load."""

    path: Path
    counts: SnapshotCounts


class Verified(NamedTuple):
    """A file that is whole."""

    path: Path
    header: Header


class FileInfo(NamedTuple):
    """What a file says of itself."""

    path: Path
    header: Header
    store_count: int
    counts: SnapshotCounts | None
    """What is in it; None only where replies do not tell it."""


class Refused(NamedTuple):
    """A file that was refused: what to say, and what the whole-file check found, if it was that."""

    message: str
    finding: Finding | None


class Dumps:
    """The verbs of DUMP over one database and one directory. Safe to share between threads."""

    def __init__(
        self,
        database: Database,
        gate: Gate,
        saver: Saver,
        directory: SnapshotDirectory,
        settings: NvecdSettings,
        clock: Clock,
        log: CheckpointLog | None,
    ) -> None:
        self._database = database
        self._log = log
        self._gate = gate
        self._settings = settings
        self._clock = clock
        self.directory = directory
        self.saver = saver

    def save(self, requested: str) -> Saved:
        """Save to the file named, or to one named after the time.

        Raises:
            RequestError, AccessError: The file may not be written there.
            ConflictError: Another save, or a load, is under way.
        """
        path = self.directory.resolve_new(requested or self._default_name())
        style, mode = self._settings.snapshot.reply_style, self._settings.snapshot.mode
        if mode == "fork" and style == "wire":
            check_private(path.parent)
            self.saver.start(path)
            return Saved(path, None, None)
        save = self.saver.save_from_view if mode == "fork" else self.saver.save_locked
        try:
            written, counts = save(path)
        except (ConflictError, RequestError, PermissionError):
            raise
        except RecollectError as error:
            raise type(error)(f"Failed to save snapshot to {path}: {error}", error.next_step) from error
        return Saved(path, written, counts)

    def load(self, requested: str) -> Loaded | Refused:
        """Load a file, in place of what is there; a refused one changed nothing.

        Raises:
            RequestError: The path may not be named.
            ConflictError: Another load, or a save, is under way.
        """
        path = self._existing("LOAD", requested)
        limits = limits_of(self._settings)
        with self._gate.loading():
            finding: Finding | None = None
            try:
                with open_private(path) as descriptor:
                    header = check_file(descriptor, limits)
                    if isinstance(header, Finding):
                        finding = header
                        raise_finding(header)
                    counts = load_file(self._database, self._gate, descriptor, header, limits=limits)
                self._make_base(path, header)
            except RecollectError as error:
                detail = str(error)
                if finding is not None and finding.fault in _WHOLE_FILE_CHECKS:
                    detail = f"{detail} ({detail})"
                return Refused(f"Failed to load snapshot from {path}: {detail}", finding)
        return Loaded(path, counts)

    def verify(self, requested: str) -> Verified | Refused:
        """Check a file without loading it: magic, version, size and the checksum of the whole."""
        path = self._existing("VERIFY", requested)
        finding: Finding | None = None
        try:
            with open_private(path) as descriptor:
                found = check_file(descriptor, limits_of(self._settings))
                if not isinstance(found, Finding):
                    return Verified(path, found)
                finding, problem = found, found.message
        except RecollectError as error:
            problem = str(error)
        return Refused(f"Snapshot verification failed for {path}: {problem} ({problem})", finding)

    def info(self, requested: str) -> FileInfo | Refused:
        """Read what a file says of itself; its checksums are not checked."""
        path = self._existing("INFO", requested)
        finding: Finding | None = None
        try:
            with open_private(path) as descriptor:
                header = read_header(descriptor)
                if not isinstance(header, Finding):
                    return self._info(path, descriptor, header)
                finding, problem = header, header.message
        except RecollectError as error:
            problem = str(error)
        return Refused(f"Failed to read snapshot info from {path}: {problem}", finding)

    def _info(self, path: Path, descriptor: int, header: Header) -> FileInfo:
        try:
            stores = read_sections(descriptor, header).stores
            return FileInfo(path, header, len(stores), _counts(descriptor, stores))
        except (IntegrityError, FormatVersionError):
            if self._settings.snapshot.reply_style == "doc":
                raise  # what the documentation prints are counts, and there are none to be had
            # nvecd's INFO looks at the header alone; what is behind it is VERIFY's and LOAD's business.
            return FileInfo(path, header, len(STORES_KNOWN) - 1, None)

    def _make_base(self, path: Path, header: Header) -> None:
        """Let a restart begin with this file: what the log has before it was rolled back on purpose."""
        if self._log is not None:
            written, sequence = Written(header.file_size, header.checksum), self._log.sequence
            self._log.announce_snapshot(path, written, sequence)
            path.touch()  # the newest by time is what a restart loads
            self._log.note_snapshot(path, written, sequence)

    def _existing(self, verb: str, requested: str) -> Path:
        if not requested:
            raise RequestError(f"DUMP {verb} requires a filepath")
        return self.directory.resolve(requested)

    def _default_name(self) -> str:
        stamp = self._clock.now().astimezone().strftime("%Y%m%d_%H%M%S")
        wire = self._settings.snapshot.reply_style == "wire"
        return f"snapshot_{stamp}.dmp" if wire else f"dump_{stamp}.nvec"


def _counts(descriptor: int, stores: dict[str, Section]) -> SnapshotCounts:
    contexts, events = _groups(read_store(descriptor, stores[EVENTS]), 13)
    _, edges = _groups(read_store(descriptor, stores[EDGES]), 4)
    vectors = VectorStream(descriptor, stores[VECTORS].offset, stores[VECTORS].size)
    return SnapshotCounts(contexts, events, vectors.row_count, (edges + 1) // 2)


def _groups(data: bytes, width: int) -> tuple[int, int]:
    """Count the groups of a store and their rows, without reading names."""
    cursor = Cursor(data)
    groups = cursor.count("count")
    total = 0
    for _ in range(groups):
        cursor.take(cursor.count("name"), "name")
        count = cursor.count("count")
        total += count
        for _ in range(count):
            cursor.take(cursor.count("name") + width, "row")
    return groups, total
