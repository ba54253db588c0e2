"""Which pieces of a stream are joined: so many that few are left, so rarely that little is written twice.

A run is joined when it has `PIECES_MIN` pieces, all adjoining, and is at least `GROWTH` times as large as its
largest piece. So each commit is written again at most once for every `GROWTH`-fold of its piece's size, and
usually once for every `PIECES_MIN`-fold: three times between 300 bytes and the limit.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from recollect.journal.stream import Piece

PIECES_MIN = 64
PIECES_MAX = 256  # how many one pass reads at most: commits of the next seconds wait for it
GROWTH = 4


def run_to_join(
    pieces: Sequence[Piece], byte_size_max: int, *, since: int = 0, barred: Collection[Piece] = ()
) -> slice | None:
    """Return the first run of pieces that is to be joined; None if there is none.

    Args:
        pieces: All pieces of a stream, ascending.
        byte_size_max: How large the joined piece may be.
        since: How many of the first pieces held no such run when they were looked at last.
        barred: Pieces that cannot be joined.
    """
    for begin in range(max(0, since - PIECES_MAX), len(pieces)):
        end = _end_of_run(pieces, begin, byte_size_max, barred)
        if end:
            return slice(begin, end)
    return None


def _end_of_run(pieces: Sequence[Piece], begin: int, byte_size_max: int, barred: Collection[Piece]) -> int:
    """Return the end of the longest run from `begin` on that is to be joined; 0 if there is none."""
    found = total = largest = 0
    for end in range(begin, min(len(pieces), begin + PIECES_MAX)):
        piece = pieces[end]
        total += piece.byte_size
        largest = max(largest, piece.byte_size)
        is_adjoining = end == begin or piece.first == pieces[end - 1].last + 1
        if total > byte_size_max or piece in barred or not is_adjoining:
            break
        if end - begin + 1 >= PIECES_MIN and total >= GROWTH * largest:
            found = end + 1
    return found
