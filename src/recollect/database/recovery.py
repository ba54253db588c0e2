"""Recovery: a new database as an old one was after any commit, or at any time, that can still be reached.

Reachable is what a checkpoint holds, and every commit after one (or after the beginning) up to
where the log ends or is damaged. The old directory is only read, so recovery can be tried
again, elsewhere, as often as wanted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from recollect import __version__
from recollect.clock import Clock
from recollect.database.checkpoint.load import (
    checkpoint_commit,
    checkpoint_time_us,
    checkpoints_newest_first,
)
from recollect.database.checkpoint.pacing import go_on
from recollect.database.checkpoint.write import Labels, commit_time, microseconds, write_checkpoint
from recollect.database.data_directory import CHECKPOINTS, LOG, open_directory
from recollect.database.log.directory import LogDirectory
from recollect.database.log.files import Files
from recollect.database.start import start
from recollect.database.tables import Tables
from recollect.errors import (
    ConflictError,
    IntegrityError,
    NotFoundError,
    RepositoryNotFoundError,
    RequestError,
)
from recollect.repository.repository import create_repository, open_repository
from recollect.storage.base import ObjectStore
from recollect.storage.local import LocalStore
from recollect.values.ulid import RandomBytes

_LOG = logging.getLogger("recollect.database")


class RecoveryTarget(NamedTuple):
    """The commit, or the time, to come back to. Exactly one is set; neither means the newest commit."""

    commit_ts: int | None = None
    time: datetime | None = None


class Reach(NamedTuple):
    """Commits that can be recovered, without gaps, and the times of the first and last of them."""

    first_ts: int
    last_ts: int
    first_time: datetime | None
    last_time: datetime | None


class Recovered(NamedTuple):
    """What a recovery made: where, and as of which commit and time."""

    path: Path
    commit_ts: int
    time: datetime


class RecoverySource(NamedTuple):
    """What a recovery reads: log segments, and the store that holds checkpoints."""

    log: LogDirectory
    checkpoints: ObjectStore
    name: str
    database_id: str = ""


def parse_target(text: str) -> RecoveryTarget:
    """Read a target: `commit:N`, `latest`, or a time in ISO 8601 with its zone."""
    if text == "latest":
        return RecoveryTarget()
    if text.startswith("commit:"):
        number = text.removeprefix("commit:")
        if number.isascii() and number.isdigit():
            return RecoveryTarget(commit_ts=int(number))
        raise RequestError(f"{text!r} names no commit", "write it like commit:1234")
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise RequestError(
            f"{text!r} is neither commit:N nor a time", "write a time like 2026-11-20T12:00:00Z"
        ) from error
    if time.tzinfo is None:
        raise RequestError(
            f"the time {text!r} has no zone", f"for UTC write {time.isoformat().replace('+00:00', '')}Z"
        )
    return RecoveryTarget(time=time)


def data_directory_source(files: Files, path: Path) -> RecoverySource:
    """Read from a data directory, which may be in use or damaged."""
    if not (path / LOG).is_dir():
        raise NotFoundError(f"there is no database in {path}: it has no {LOG} directory", "check the path")
    return RecoverySource(LogDirectory(files, path / LOG), LocalStore(path / CHECKPOINTS), str(path))


def recovery_window(source: RecoverySource) -> list[Reach]:
    """Return what can be recovered, as ranges of commits, oldest first. Reads the whole log."""
    bases: dict[int, datetime | None] = {}
    try:
        repository = open_repository(source.checkpoints)
    except RepositoryNotFoundError:
        pass
    except IntegrityError as error:
        # The log alone may reach far enough; if it does not, the window says so.
        _LOG.warning("Snapshots cannot be read and are passed over: %s", error)
    else:
        for snapshot in checkpoints_newest_first(repository, database_id=source.database_id):
            bases[checkpoint_commit(snapshot)] = commit_time(checkpoint_time_us(snapshot))
    found = [Reach(ts, ts, time, time) for ts, time in bases.items()]
    for part in source.log.ranges():
        starts = [ts for ts in (0, *bases) if part.first_ts - 1 <= ts <= part.last_ts]
        if starts:
            first_ts = min(starts)
            # From a checkpoint on, its own time counts: it stands until the first commit of the log.
            first_time = bases.get(first_ts) or commit_time(part.first_time_us)
            found.append(Reach(first_ts, part.last_ts, first_time, commit_time(part.last_time_us)))
    return _joined(found)


def recover(
    source: RecoverySource,
    target: RecoveryTarget,
    into: Path,
    *,
    files: Files,
    clock: Clock,
    random_bytes: RandomBytes,
) -> Recovered:
    """Make a new database in `into`, exactly as the source was after the target's commit.

    The new one has an id of its own and numbers its commits on from there. It appears under its name
    when it is complete; a crash leaves a directory `.NAME.recovering` beside it, which the next try removes.

    Raises:
        NotFoundError: The target cannot be reached; the message names the nearest that can.
        ConflictError: `into` exists.
        IntegrityError: What the way to the target needs is damaged.
    """
    into = _free_place(into)
    commit_ts = _resolve(source, target, clock.now())
    started = start(source.log, source.checkpoints, last_ts=commit_ts, database_id=source.database_id)
    found_ts = started.tables.commit_ts
    if found_ts != commit_ts:
        raise IntegrityError(
            f"commit {commit_ts} of {source.name} cannot be recovered: the checkpoint that holds it is "
            f"damaged; up to commit {found_ts} everything is there",
            f"recover with --to commit:{found_ts}, or from another copy",
        )
    origin = f"recovered from {source.name}"
    return make_database(
        started.tables, into, origin=origin, files=files, clock=clock, random_bytes=random_bytes
    )


def make_database(
    tables: Tables, into: Path, *, origin: str, files: Files, clock: Clock, random_bytes: RandomBytes
) -> Recovered:
    """Make a new database that holds exactly what tables hold, as one checkpoint; see `recover`."""
    into = _free_place(into)
    staging = into.with_name(f".{into.name}.recovering")
    _remove_tree(staging)
    directory = open_directory(files, staging, read_only=False, now=clock.now(), random_bytes=random_bytes)
    try:
        store = LocalStore(directory.checkpoints_path)
        repository = create_repository(store, now=clock.now(), random_bytes=random_bytes)
        tables.mark_all_changed()
        write_checkpoint(
            tables.freeze(),
            None,
            repository,
            labels=Labels(f"recollect:{directory.identity.id}", "", origin, __version__),
            clock=clock,
            random_bytes=random_bytes,
            pause=go_on,
        )
    finally:
        directory.release()
    if into.exists():
        into.rmdir()
    staging.rename(into)
    files.sync_directory(into.parent)
    return Recovered(into, tables.commit_ts, commit_time(tables.time_us))


def _free_place(into: Path) -> Path:
    """Return the absolute path if nothing is there."""
    into = into.absolute()
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise ConflictError(
            f"{into} exists and is not empty", "choose another directory, or move this one away"
        )
    return into


def _resolve(source: RecoverySource, target: RecoveryTarget, now: datetime) -> int:
    window = recovery_window(source)
    if not window:
        raise NotFoundError(
            f"nothing can be recovered from {source.name}: no checkpoint, and no log from the beginning",
            "recover from the repository that the database was archived to",
        )
    if target.time is not None:
        return _at_time(source, target.time, window, now)
    wanted = target.commit_ts
    if wanted is None:
        return window[-1].last_ts
    if any(reach.first_ts <= wanted <= reach.last_ts for reach in window):
        return wanted
    edges = [edge for reach in window for edge in (reach.first_ts, reach.last_ts)]
    nearest = min(edges, key=lambda edge: (abs(edge - wanted), edge))
    raise NotFoundError(
        f"commit {wanted} of {source.name} cannot be reached; the nearest commit that can is {nearest}",
        f"recover with --to commit:{nearest}, or see the recovery window with --list",
    )


def _at_time(source: RecoverySource, time: datetime, window: Sequence[Reach], now: datetime) -> int:
    """Return the last commit that had been made by this time, which must not lie in a gap or the future."""
    for reach in reversed(window):
        if reach.first_time is None or reach.last_time is None or time < reach.first_time:
            continue
        if time <= reach.last_time:
            return source.log.commit_at(microseconds(time), reach.first_ts, reach.last_ts)
        if reach is window[-1] and time <= now:
            return reach.last_ts
        break
    moments = [moment for reach in window for moment in (reach.first_time, reach.last_time)]
    known = [moment for moment in moments if moment is not None]
    if not known:
        raise NotFoundError(f"nothing was ever committed to {source.name}", "recover with --to commit:0")
    nearest = min(known, key=lambda moment: abs(moment - time))
    text = nearest.isoformat(timespec="microseconds").replace("+00:00", "Z")
    raise NotFoundError(
        f"the time {time.isoformat()} of {source.name} cannot be reached; the nearest that can is {text}",
        f"recover with --to {text}, or see the recovery window with --list",
    )


def _joined(parts: Sequence[Reach]) -> list[Reach]:
    """Join ranges that overlap or touch."""
    found: list[Reach] = []
    for part in sorted(parts, key=lambda part: (part.first_ts, -part.last_ts)):
        if not found or part.first_ts > found[-1].last_ts + 1:
            found.append(part)
        elif part.last_ts > found[-1].last_ts:
            found[-1] = found[-1]._replace(last_ts=part.last_ts, last_time=part.last_time)
    return found


def _remove_tree(path: Path) -> None:
    if not path.exists():
        return
    for entry in sorted(path.rglob("*"), reverse=True):
        if entry.is_dir():
            entry.rmdir()
        else:
            entry.unlink()
    path.rmdir()
