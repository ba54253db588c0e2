"""What a server finds when it starts: the newest good snapshot, and the log behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from recollect.compat.nvecd.config.settings import NvecdSettings
from recollect.compat.nvecd.gate import Gate
from recollect.compat.nvecd.load import load_file
from recollect.compat.nvecd.protocol import command as cmd
from recollect.compat.nvecd.saves import limits_of
from recollect.compat.nvecd.snapshot.read import Finding, check_file, raise_finding
from recollect.compat.nvecd.snapshot_directory import SnapshotDirectory, open_private
from recollect.compat.nvecd.wal.record import Decay, Record
from recollect.compat.nvecd.wal.sidecar import Sidecar, read_sidecars, write_sidecar
from recollect.compat.nvecd.writes import Writer
from recollect.database import Database
from recollect.errors import IntegrityError, RecollectError

SUFFIXES = (".nvec", ".dmp", ".snapshot")
_RECORDS_AT_ONCE = 1000


class Start(NamedTuple):
    """What was loaded: the snapshot, None if there was none, and the last log record that it holds."""

    path: Path | None
    sequence: int


def load_newest(
    database: Database,
    gate: Gate,
    directory: SnapshotDirectory,
    settings: NvecdSettings,
    note: Callable[[str], None],
    *,
    logged: int = 0,
) -> Start:
    """Load the newest snapshot that is whole; with a log, only one whose sidecar belongs to it.

    Args:
        database: Filled.
        gate: Of the database.
        directory: Where the snapshots are.
        settings: With or without a log.
        note: Told what an operator should know.
        logged: The last record of the log. While there is none, any snapshot is before all that will come.

    Raises:
        IntegrityError: There are snapshots, and none of them is whole: an empty server would hide that.
    """
    candidates = directory.candidates(SUFFIXES)
    problems: list[str] = []
    for path in candidates:
        sidecars = read_sidecars(path) if settings.wal.enabled else []
        if logged and not sidecars:
            note(f"{path} is passed over: it has no .walseq file, so its place in the log is unknown")
            continue
        try:
            sequence = _load(database, gate, path, settings, sidecars)
        except RecollectError as error:
            problems.append(f"{path.name}: {error}")
            note(f"{path} is damaged and passed over: {error}")
            continue
        note(f"loaded {path}")
        return Start(path, sequence)
    if problems:
        raise IntegrityError(
            f"no snapshot in {directory.path} can be loaded: {'; '.join(problems)}",
            "restore a good snapshot there, or move the bad ones away to start empty",
        )
    return Start(None, 0)


def replay_records(database: Database, writer: Writer, records: Iterable[Record]) -> int:
    """Apply log records in order; return how many there were.

    Records that change what is not there are passed over: with `wal.include_vectors` off the log
    lacks the vectors that they speak of.
    """
    waiting: list[cmd.Write] = []
    count = 0
    for record in records:
        count += 1
        if isinstance(record.change, Decay):
            _apply(writer, waiting)
            database.events.decay()
            continue
        waiting.append(record.change)
        if len(waiting) == _RECORDS_AT_ONCE:
            _apply(writer, waiting)
    _apply(writer, waiting)
    return count


def _apply(writer: Writer, waiting: list[cmd.Write]) -> None:
    for write, error in zip(waiting, writer.apply(waiting), strict=True):
        if error is not None and not isinstance(write, (cmd.VecDel, cmd.MetaSet)):
            raise IntegrityError(f"a record of the log cannot be applied: {error}") from error
    waiting.clear()


def _load(
    database: Database, gate: Gate, path: Path, settings: NvecdSettings, sidecars: list[Sidecar]
) -> int:
    """Load a snapshot; return the last log record that it holds, 0 without a log."""
    limits = limits_of(settings)
    with open_private(path) as descriptor, gate.loading():
        header = check_file(descriptor, limits)
        if isinstance(header, Finding):
            raise_finding(header)
        own = (header.file_size, header.checksum)
        fitting = [one for one in sidecars if (one.file_size, one.checksum) == own]
        if sidecars and not fitting:
            raise IntegrityError("its .walseq file belongs to another snapshot")
        load_file(database, gate, descriptor, header, limits=limits)
    if not settings.wal.enabled:
        return 0
    # The last one is what was announced when the server was killed; without any, the log begins behind this.
    found = fitting[-1] if fitting else Sidecar(0, *own)
    if [found] != sidecars:
        write_sidecar(path, found)
    return found.sequence
