"""Continuous archiving: the log of a database, shipped to a repository piece by piece.

A piece is a complete log segment of its own (header, frames, seal) in the journal stream that is named by
the database's id. Where the journal cannot be replayed from the beginning, or that would take long,
the newest checkpoint is copied beside it. Recovery from the repository reads both like a data
directory, so it needs nothing of the machine that was lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from recollect.catalog.catalog import Catalog
from recollect.clock import Clock
from recollect.database.archive_piece import cut_piece, encode_piece, read_piece
from recollect.database.checkpoint.load import checkpoint_commit, checkpoints_newest_first
from recollect.database.data_directory import CHECKPOINTS, LOG, read_identity
from recollect.database.log import frame
from recollect.database.log.directory import LogDirectory
from recollect.database.log.files import DiskFiles, Files, LogFile
from recollect.database.log.segment import Commit, segment_first_ts, segment_name
from recollect.database.log.tail import LogTail
from recollect.database.recovery import RecoverySource
from recollect.errors import (
    ConflictError,
    IntegrityError,
    NotFoundError,
    RecollectError,
    RepositoryNotFoundError,
    UnsupportedError,
)
from recollect.journal.merging import run_to_join
from recollect.journal.stream import Gap, JournalStream, Piece, gaps_between, only_stream
from recollect.repository.layout import archivers_prefix
from recollect.repository.lease import SoleRight, hold_writer_lease
from recollect.repository.repository import Repository, open_repository
from recollect.storage.local import LocalStore
from recollect.values.snapshot import Snapshot
from recollect.values.ulid import RandomBytes

_LOG = logging.getLogger("recollect.database")

PIECE_BYTES_MAX = 32 << 20
"""Size of a piece, shipped or joined: what a reader holds in memory at once."""
BASE_COMMITS = 100_000
"""Commits after which the newest checkpoint is copied again: about half a second of replay."""


class ArchivePass(NamedTuple):
    """What one pass did.

    Attributes:
        last_ts: Last commit that the archive holds now.
        shipped_count: Commits shipped.
        added_bytes: Bytes added to the repository.
        gaps: Commits that the journal lacks; a copied checkpoint stands in for them, but no commit
            within a gap can be recovered.
        joined_count: Pieces that were replaced by one.
        damage: What is wrong with pieces that could not be joined; they stay as they are.
    """

    last_ts: int
    shipped_count: int
    added_bytes: int
    gaps: list[Gap]
    joined_count: int = 0
    damage: Sequence[str] = ()


class Archiver:
    """Ships one data directory, which may be in use, to one repository. One thread at a time.

    From its first pass until it is closed it is the only writer of its stream, so it lists that once.
    """

    def __init__(
        self,
        data: Path,
        repository: Repository,
        *,
        clock: Clock,
        random_bytes: RandomBytes,
        files: Files | None = None,
        wait_s: float = 0,
    ) -> None:
        files = files or DiskFiles()
        self._data = data
        self._repository = repository
        self._clock = clock
        self._random_bytes = random_bytes
        self._identity = read_identity(files, data)
        self._log = LogDirectory(files, data / LOG)
        self._tail = LogTail(self._log)
        # The checkpoint last weighed as a base; or each pass would read every snapshot of the repository.
        self._weighed = ("", False)
        self.stream = JournalStream(repository.store, self._identity.id)
        self._wait_s = wait_s
        self._right = SoleRight(
            repository.store,
            archivers_prefix(self.stream.name),
            purpose="archive",
            clock=clock,
            random_bytes=random_bytes,
        )
        self._pieces: list[Piece] | None = None
        self._weighed_count = 0  # of the first pieces: they hold no run that is to be joined
        self._damage: dict[Piece, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except RecollectError:
            return  # never hide what stopped the work; what is left of the dead is cleared by the next

    def close(self) -> None:
        """Let others write the stream; a pass after it takes the right again."""
        self._pieces = None
        self._right.release()

    def run_once(self) -> ArchivePass:
        """Ship everything that is not in the repository yet.

        Raises:
            ConflictError: The archive holds other commits than this log under the same numbers.
            LeaseHeldError: Another archiver writes this stream.
            UnavailableError: The repository cannot be written; the next pass goes on where this one began.
        """
        if self._pieces is None:
            self._right.hold(self._wait_s)
            self._weighed_count = 0
        # Forgotten until the pass has come through: one that failed may have written, or not.
        pieces, self._pieces = self._pieces or self._listed(), None
        last_ts = pieces[-1].last if pieces else 0
        if pieces and not self._tail.still_holds(last_ts):
            self._compare(pieces[-1])
        added = self._ensure_base(last_ts)
        shipped, batch, size = 0, list[Commit](), 0
        for commit in self._tail.commits_after(last_ts):
            if batch and (
                size + len(commit.body) > PIECE_BYTES_MAX or commit.commit_ts != batch[-1].commit_ts + 1
            ):
                added += self._put(batch, pieces)
                batch, size = [], 0
            batch.append(commit)
            size += len(commit.body) + frame.FRAME_SIZE
            shipped, last_ts = shipped + 1, commit.commit_ts
        if batch:
            added += self._put(batch, pieces)
        joined, joined_bytes = 0, 0
        try:
            joined, joined_bytes = self._join(pieces)
            self._pieces = pieces
        except NotFoundError:
            # No recovery needed it any more, and a prune dropped it. The next pass lists what there is.
            _LOG.info("A piece of the archive went while it was to be joined")
        damage = list(self._damage.values())
        return ArchivePass(last_ts, shipped, added + joined_bytes, gaps_between(pieces), joined, damage)

    def _listed(self) -> list[Piece]:
        """List the stream, and delete what a writer left that stopped between joining and deleting."""
        listing = self.stream.listing()
        for piece, larger in listing.covered:
            found = {commit.commit_ts: commit for commit in read_piece(self.stream, larger)}
            try:
                commits = read_piece(self.stream, piece)
            except IntegrityError as error:
                _LOG.warning("A piece within another, which is whole, is damaged: %s", error)
                commits = []
            if any(_facts(commit) != _facts(found[commit.commit_ts]) for commit in commits):
                raise ConflictError(
                    f"{self.stream.key(piece)} and {self.stream.key(larger)} in {self._repository.url} hold "
                    "different commits under the same numbers",
                    "see which one is of this database, and move the other away",
                )
            self._right.assert_held()
            self.stream.delete(piece)
        return listing.pieces

    def _join(self, pieces: list[Piece]) -> tuple[int, int]:
        """Join one run of small pieces, and note it among `pieces`; return how many went, and bytes added.

        The joined piece is there before the first of the others goes: a reader always finds every commit.
        """
        run = run_to_join(pieces, PIECE_BYTES_MAX, since=self._weighed_count, barred=self._damage)
        if run is None:
            self._weighed_count = len(pieces)
            return 0, 0
        self._weighed_count = run.start
        parts, commits = pieces[run], list[Commit]()
        for piece in parts:
            try:
                commits += read_piece(self.stream, piece)
            except IntegrityError as error:
                self._damage[piece] = error.message
                return 0, 0
        joined = list[Piece]()
        added = self._put(commits, joined)
        for piece in parts:
            self._right.assert_held()
            self.stream.delete(piece)
        pieces[run] = joined
        return len(parts), added

    def _put(self, commits: Sequence[Commit], pieces: list[Piece]) -> int:
        """Write one piece and note it among `pieces`; return the bytes added."""
        first, last = commits[0], commits[-1]
        data = encode_piece(commits, self._identity.id_bytes)
        self._right.assert_held()
        added = self.stream.put(first.commit_ts, last.commit_ts, data)
        pieces.append(Piece(first.commit_ts, last.commit_ts, len(data)))
        return added

    def _compare(self, piece: Piece) -> None:
        """Make sure that the last archived commit is the one that this log has under that number."""
        local = next(iter(self._log.good_commits_from(piece.last)), None)
        if local is None:
            raise ConflictError(
                f"the log in {self._data} ends before commit {piece.last}, which {self._repository.url} "
                "holds: the database lost commits that had been archived, or its log is damaged",
                "keep the archive; recover from it, or archive this database to another repository",
            )
        if local.commit_ts != piece.last:
            return  # it was dropped, and what follows is a gap
        archive = journal_log(self.stream)
        archived = next(iter(archive.good_commits_from(piece.last)), None)
        if archived is not None and bytes(archived.body) != bytes(local.body):
            raise ConflictError(
                f"commit {piece.last} in {self._repository.url} is another one than in {self._data}: "
                "the database lost commits that had been archived",
                "keep the archive; recover from it, or archive this database to another repository",
            )

    def _ensure_base(self, last_ts: int) -> int:
        """Copy the newest checkpoint if the journal alone would not do, or not soon."""
        firsts = self._log.first_commits()
        begins_whole = bool(firsts) and firsts[0] <= last_ts + 1
        newest = self._newest(LocalStore(self._data / CHECKPOINTS))
        if newest is None or (newest.id, begins_whole) == self._weighed:
            return 0
        known = max((checkpoint_commit(one) for one in self._bases()), default=0)
        ahead = checkpoint_commit(newest) - known
        added = self._copy(newest) if ahead > 0 and (ahead >= BASE_COMMITS or not begins_whole) else 0
        self._weighed = newest.id, begins_whole
        return added

    def _newest(self, store: LocalStore) -> Snapshot | None:
        try:
            return next(checkpoints_newest_first(open_repository(store)), None)
        except RepositoryNotFoundError:
            return None

    def _bases(self) -> list[Snapshot]:
        return list(checkpoints_newest_first(self._repository, database_id=self._identity.id))

    def _copy(self, snapshot: Snapshot) -> int:
        local = open_repository(LocalStore(self._data / CHECKPOINTS))
        added = 0
        with hold_writer_lease(
            self._repository.store, purpose="archive", clock=self._clock, random_bytes=self._random_bytes
        ) as lease:
            for reference in {one.digest: one for one in snapshot.objects()}.values():
                if self._repository.object_size(reference.digest) != reference.byte_size:
                    added += self._repository.put_object(local.get_object(reference)).added_bytes
            added += Catalog(self._repository).commit(snapshot, lease)
        return added


def archived_source(repository: Repository, stream: str = "") -> RecoverySource:
    """Return what a recovery from a repository reads: its journal and the checkpoints copied to it.

    A repository with backups of a database but no journal will do: each backup can be recovered.
    """
    try:
        name = only_stream(repository.store, stream)
    except NotFoundError:
        if stream or next(checkpoints_newest_first(repository), None) is None:
            raise
        empty = LogDirectory(_NoFiles(), Path("journal"))
        return RecoverySource(empty, repository.store, repository.url)
    log = journal_log(JournalStream(repository.store, name))
    return RecoverySource(log, repository.store, repository.url, name)


def journal_log(stream: JournalStream) -> LogDirectory:
    """Return a journal stream as a directory of log segments."""
    return LogDirectory(_JournalFiles(stream), Path("journal") / stream.name, may_have_gaps=True)


class _NoFiles:
    """A file system without files, that cannot be written."""

    def list(self, directory: Path) -> list[str]:
        del directory
        return []

    def read(self, path: Path, byte_size_max: int = -1) -> bytes:
        raise FileNotFoundError(path, byte_size_max)

    create: Callable[[Path], LogFile]
    reopen: Callable[[Path], LogFile]

    def make_directory(self, path: Path) -> None:
        raise _read_only(path)

    def remove(self, path: Path) -> None:
        raise _read_only(path)

    def replace(self, path: Path, parts: Sequence[bytes]) -> None:
        del parts
        raise _read_only(path)

    def sync_directory(self, path: Path) -> None:
        raise _read_only(path)


class _JournalFiles(_NoFiles):
    """Pieces of a journal as log segments."""

    def __init__(self, stream: JournalStream) -> None:
        self._stream = stream
        self._pieces: dict[int, Piece] = {}

    def list(self, directory: Path) -> list[str]:
        del directory
        self._pieces = {piece.first: piece for piece in self._stream.pieces()}
        return [segment_name(first) for first in self._pieces]

    def read(self, path: Path, byte_size_max: int = -1) -> bytes:
        first = segment_first_ts(path.name)
        assert first is not None, "only segments that were listed are read"
        data = self._read(self._pieces[first])
        return data if byte_size_max < 0 else data[:byte_size_max]

    def _read(self, piece: Piece) -> bytes:
        try:
            return self._stream.read(piece)
        except NotFoundError:
            # The archiver joined it with others after it was listed.
            for larger in self._stream.pieces():
                if larger.first <= piece.first and piece.last <= larger.last:
                    return cut_piece(self._stream, larger, piece)
            raise


def _read_only(path: Path) -> UnsupportedError:
    return UnsupportedError(f"a journal is not written through {path}")


def _facts(commit: Commit) -> tuple[int, int, bytes]:
    return commit.commit_ts, commit.time_us, bytes(commit.body)
