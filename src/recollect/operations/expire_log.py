"""Expire archived log: pieces that no recovery can use, or that lie before the oldest base.

A recovery replays from the beginning of a database, or from a base: a checkpoint, or a backup of the whole
database, that the repository holds. What a base needs begins after its commit, so whatever lies wholly up to
the oldest base is needed only by recoveries to a commit before it, from the beginning on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, TypeAlias

import msgspec

from recollect.catalog.catalog import Catalog
from recollect.clock import Clock
from recollect.database.checkpoint.load import checkpoint_commit, is_of_database
from recollect.journal.stream import JournalStream, Listing, Piece, stream_names
from recollect.repository.lease import WAIT_S, hold_fence
from recollect.repository.repository import Repository
from recollect.values.snapshot import Snapshot
from recollect.values.ulid import RandomBytes

Extent: TypeAlias = Literal["unreachable", "before-oldest-base"]
"""What expires: what no recovery can use any more, or all that lies before the oldest base as well."""


class LogPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which pieces would be deleted: stream and piece, in the order in which they go."""

    extent: Extent
    pieces: tuple[tuple[str, Piece], ...]

    @property
    def byte_size(self) -> int:
        """Bytes that are freed."""
        return sum(piece.byte_size for _, piece in self.pieces)


def plan(repository: Repository, *, extent: Extent = "unreachable", without: Collection[str] = ()) -> LogPlan:
    """List what expires of every journal; snapshots in `without` count as forgotten. Reads only.

    Of a database without a base nothing expires, and never the newest piece of a stream.

    Raises:
        IntegrityError: A snapshot or a journal cannot be read; that is never taken for "not needed".
    """
    return _planned(repository, extent, without)


def apply(
    plan: LogPlan, repository: Repository, *, clock: Clock, random_bytes: RandomBytes, wait_s: float = WAIT_S
) -> LogPlan:
    """Delete what the plan lists and is still dispensable, under a fence; return what was deleted.

    Oldest first: a crash leaves the younger pieces, and the next run goes on.

    Raises:
        LeaseHeldError: A writer or a reader did not end within `wait_s`.
        ConflictError: The fence was revoked.
    """
    if not plan.pieces:
        return plan
    with hold_fence(
        repository.store, purpose="prune", clock=clock, random_bytes=random_bytes, wait_s=wait_s
    ) as fence:
        planned = set(plan.pieces)
        # Nobody can bring an older base while the fence stands.
        now = _planned(repository, plan.extent, ())
        deleted = [one for one in now.pieces if one in planned]
        for name, piece in deleted:
            fence.assert_held()
            JournalStream(repository.store, name).delete(piece)
    return LogPlan(extent=plan.extent, pieces=tuple(deleted))


def _planned(repository: Repository, extent: Extent, without: Collection[str]) -> LogPlan:
    streams = stream_names(repository.store)
    listings = [(name, JournalStream(repository.store, name).listing()) for name in streams]
    found = list[tuple[str, Piece]]()
    if listings:
        # After the pieces: a base that comes meanwhile makes nothing that was listed more dispensable.
        catalog = Catalog(repository)
        snapshots = [catalog.read_committed(one) for one in catalog.ids() if one not in without]
        for name, listing in listings:
            found += [(name, piece) for piece in _expired(listing, _bases(snapshots, name), extent)]
    return LogPlan(extent=extent, pieces=tuple(found))


def _bases(snapshots: Sequence[Snapshot], database_id: str) -> list[int]:
    """Return the commits that a recovery of this database can begin from, but for its beginning."""
    commits = [checkpoint_commit(one) for one in snapshots if is_of_database(one, database_id)]
    return [commit_ts for commit_ts in commits if commit_ts >= 0]


def _expired(listing: Listing, bases: Sequence[int], extent: Extent) -> list[Piece]:
    if not bases:
        return []
    oldest = min(bases)
    from_beginning = 0 if extent == "before-oldest-base" else _end_of_beginning(listing.pieces)
    gone = {piece for piece in listing.pieces[:-1] if from_beginning < piece.last <= oldest}
    # What a larger piece holds goes before it, or it would count again.
    within = [piece for piece, larger in listing.covered if larger in gone]
    return within + [piece for piece in listing.pieces if piece in gone]


def _end_of_beginning(pieces: Sequence[Piece]) -> int:
    """Return the last commit that can be reached from the beginning of the database."""
    end = 0
    for piece in pieces:
        if piece.first != end + 1:
            break
        end = piece.last
    return end
