"""One journal stream: pieces named by the positions that they cover, written once.

`journal/<stream>/<first>-<last>`, both with 20 digits, so that a listing is in order. A piece is
followed by the one that begins one position later; anything else is a gap. A piece within a larger one is
what the stream's writer left when it stopped between joining pieces and deleting them: readers pass it over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from recollect.errors import ConflictError, IntegrityError, NotFoundError, RequestError
from recollect.repository.layout import JOURNAL
from recollect.storage.base import ObjectStore

_STREAM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_PIECE = re.compile(r"([0-9]{20})-([0-9]{20})")


class Piece(NamedTuple):
    """One piece of a stream: its first and last position, and its size."""

    first: int
    last: int
    byte_size: int


class Gap(NamedTuple):
    """Positions that a stream lacks, both included."""

    first: int
    last: int


class Listing(NamedTuple):
    """What a stream has: the pieces that count, ascending; those within one of them, each with that one."""

    pieces: list[Piece]
    covered: list[tuple[Piece, Piece]]


class JournalStream:
    """Reads and writes the pieces of one stream. Safe to share between threads."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        if not _STREAM.fullmatch(name):
            raise RequestError(f"{name!r} is not a name of a journal stream")
        self._store = store
        self.name = name

    def pieces(self) -> list[Piece]:
        """Return the pieces that count, ascending: all but those within a larger one.

        Raises:
            IntegrityError: A foreign file is among them, or two pieces overlap in part.
        """
        return self.listing().pieces

    def listing(self) -> Listing:
        """Return all pieces; errors as of `pieces`."""
        found: list[Piece] = []
        for item in self._store.list(f"{JOURNAL}/{self.name}"):
            match = _PIECE.fullmatch(item.key.rpartition("/")[2])
            if match is None:
                raise IntegrityError(
                    f"{item.key!r} in {self._store.url} is not a piece of a journal",
                    "move the foreign file out of the repository",
                )
            found.append(Piece(int(match[1]), int(match[2]), item.byte_size))
        listing = Listing([], [])
        for piece in sorted(found, key=lambda piece: (piece.first, -piece.last)):
            before = listing.pieces[-1] if listing.pieces else None
            if before is None or piece.first > before.last:
                listing.pieces.append(piece)
            elif piece.last <= before.last:
                listing.covered.append((piece, before))
            else:
                raise IntegrityError(
                    f"the pieces {self.key(before)} and {self.key(piece)} in {self._store.url} overlap, and "
                    "neither holds the other",
                    "two archivers wrote at once: move away the one whose commits other pieces hold as well",
                )
        return listing

    def gaps(self) -> list[Gap]:
        """Return what is missing between the first and the last piece."""
        return gaps_between(self.pieces())

    def put(self, first: int, last: int, data: bytes) -> int:
        """Write a piece, durably; return the bytes that were added, 0 if these very bytes were there.

        Raises:
            ConflictError: A piece of this range is there with other bytes.
        """
        assert first <= last, "a piece covers something"
        key = self.key(Piece(first, last, len(data)))
        try:
            self._store.put_if_absent(key, data)
        except ConflictError:
            if self._store.get(key) != data:
                raise ConflictError(
                    f"{key} in {self._store.url} exists with other bytes: two writers share a stream",
                    "archive each database under its own stream",
                ) from None
            return 0
        return len(data)

    def read(self, piece: Piece) -> bytes:
        """Read a piece; NotFoundError if it is gone."""
        return self._store.get(self.key(piece))

    def delete(self, piece: Piece) -> None:
        """Delete a piece; one that is gone is no error."""
        self._store.delete(self.key(piece))

    def key(self, piece: Piece) -> str:
        """Return where a piece stands."""
        return f"{JOURNAL}/{self.name}/{piece.first:020d}-{piece.last:020d}"


def gaps_between(pieces: Sequence[Piece]) -> list[Gap]:
    """Return what is missing between pieces, which ascend."""
    return [
        Gap(left.last + 1, right.first - 1)
        for left, right in zip(pieces, pieces[1:], strict=False)
        if right.first != left.last + 1
    ]


def stream_names(store: ObjectStore) -> list[str]:
    """Return the names of all streams of a repository, sorted."""
    return sorted({item.key.split("/")[1] for item in store.list(JOURNAL)})


def only_stream(store: ObjectStore, wanted: str = "") -> str:
    """Return the wanted stream, or the only one.

    Raises:
        NotFoundError: There is no such stream, or none at all; RequestError: there are several.
    """
    names = stream_names(store)
    if wanted:
        if wanted not in names:
            raise NotFoundError(
                f"there is no journal {wanted!r} in {store.url}; there are: {', '.join(names) or 'none'}"
            )
        return wanted
    if not names:
        raise NotFoundError(
            f"there is no journal in {store.url}", "archive a database to it: recollect archive"
        )
    if len(names) > 1:
        raise RequestError(f"{store.url} has several journals: {', '.join(names)}", "name one with --stream")
    return names[0]
