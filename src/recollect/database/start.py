"""Start-up: the newest checkpoint that can be read, then the commits after it.

A damaged checkpoint is passed over, with a warning, for the one before: the log is kept back to
the oldest checkpoint, so nothing is lost by that. Damage of the log is never passed over.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from recollect.catalog.catalog import Catalog
from recollect.database.checkpoint.load import checkpoint_commit, checkpoints_newest_first, load_checkpoint
from recollect.database.log.directory import LogDirectory, LogEnd
from recollect.database.log.segment import Commit
from recollect.database.operation import decode_body
from recollect.database.tables import Tables
from recollect.errors import IntegrityError, RepositoryNotFoundError
from recollect.repository.repository import open_repository
from recollect.storage.base import ObjectStore
from recollect.values.snapshot import Snapshot

_LOG = logging.getLogger("recollect.database")


class Started(NamedTuple):
    """What start-up found: the tables, where the log ends, and the checkpoint that they began from."""

    tables: Tables
    end: LogEnd
    checkpoint: Snapshot | None
    replayed_count: int


def start(
    log: LogDirectory, checkpoints: ObjectStore, *, last_ts: int | None = None, database_id: str = ""
) -> Started:
    """Bring tables to the last commit of a data directory, or to `last_ts`.

    Raises:
        IntegrityError: The log is damaged, or lacks commits that no readable checkpoint holds.
    """
    tables, checkpoint = _newest_tables(log, checkpoints, last_ts, database_id)
    replayed = 0

    def apply(commit: Commit) -> None:
        nonlocal replayed
        tables.apply(commit.commit_ts, commit.time_us, decode_body(commit.body))
        replayed += 1

    end = log.replay(tables.commit_ts, apply, last_ts=last_ts)
    if checkpoint is not None or replayed:
        _LOG.info("Replaying %d events since snapshot", replayed)
        _LOG.info("Recovery complete, current commit_ts: %d", tables.commit_ts)
    return Started(tables, end, checkpoint, replayed)


def _newest_tables(
    log: LogDirectory, checkpoints: ObjectStore, last_ts: int | None, database_id: str
) -> tuple[Tables, Snapshot | None]:
    try:
        repository = open_repository(checkpoints)
    except RepositoryNotFoundError:
        return Tables(), None
    except IntegrityError as error:
        if not _begins_whole(log):
            raise
        _LOG.warning("Snapshots cannot be read; replaying the whole log instead: %s", error)
        return Tables(), None
    for snapshot in checkpoints_newest_first(repository, last_ts, database_id):
        _LOG.info("Loading snapshot: snapshot-%d.json", checkpoint_commit(snapshot))
        try:
            return load_checkpoint(snapshot, repository), snapshot
        except IntegrityError as error:
            _LOG.warning(
                "Snapshot at commit_ts=%d is damaged; falling back to the one before: %s",
                checkpoint_commit(snapshot),
                error,
            )
    if last_ts is None and not log.first_commits() and Catalog(repository).ids():
        # Without this, a database whose only copy is a damaged checkpoint would open as an empty one.
        raise IntegrityError(
            f"no checkpoint in {checkpoints.url} can be read, and the log holds nothing: what was stored "
            "cannot be told",
            "see what is damaged with recollect verify --read-data -r that directory; restore it from a copy",
        )
    return Tables(), None


def _begins_whole(log: LogDirectory) -> bool:
    return log.first_commits()[:1] == [1]
