"""One piece of an archive: a sealed log segment of exactly these commits, to bytes and back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from recollect.database.log import frame
from recollect.database.log.segment import Commit, SegmentReader, damaged
from recollect.journal.stream import JournalStream, Piece


def encode_piece(commits: Sequence[Commit], database_id: bytes) -> bytes:
    """Encode commits, which follow one another, as a piece. Equal commits give equal bytes."""
    first, last = commits[0], commits[-1]
    header = frame.SegmentHeader(frame.LOG_FORMAT, first.commit_ts, database_id, first.time_us)
    parts = [frame.encode_header(header)]
    for commit in commits:
        body = bytes(commit.body)
        parts += [_frame_header(commit, body, last.commit_ts), body]
    data = b"".join(parts)
    seal = frame.Seal(first.commit_ts, last.commit_ts, len(data), hashlib.sha256(data).digest())
    return data + frame.encode_seal(seal)


def read_piece(stream: JournalStream, piece: Piece) -> list[Commit]:
    """Read a piece and check all of it.

    Raises:
        IntegrityError: It is damaged, or holds other commits than its name says.
        NotFoundError: It is gone.
    """
    path = Path(stream.key(piece))
    reader = SegmentReader(path, stream.read(piece), is_newest=False)
    tail = reader.verify()
    found = reader.header.first_ts, tail.last_ts
    if found != (piece.first, piece.last):
        raise damaged(path, 0, f"it holds commits {found[0]} to {found[1]}", 0)
    return list(reader.commits())


def cut_piece(stream: JournalStream, larger: Piece, piece: Piece) -> bytes:
    """Return the bytes of a piece that was joined with others since it was listed."""
    reader = SegmentReader(Path(stream.key(larger)), stream.read(larger), is_newest=False)
    commits = [commit for commit in reader.commits() if piece.first <= commit.commit_ts <= piece.last]
    return encode_piece(commits, reader.header.database_id)


def _frame_header(commit: Commit, body: bytes, synced_ts: int) -> bytes:
    return frame.encode_frame_header(
        body, frame.checksum(body), commit_ts=commit.commit_ts, synced_ts=synced_ts, time_us=commit.time_us
    )
