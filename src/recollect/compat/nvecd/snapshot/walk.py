"""Where the records of a grouped store stand: found for thousands of places of the store at once.

A store is a row of groups: a head (name, u32 number of rows) and its rows (name, fixed fields). Nothing says
where the next record begins but the length of this one, so one walk costs Python code per record.
Therefore many walks start side by side, each at a place that looks like a head, and step together in
NumPy. A guess costs time only: a walk counts if the one before it ended exactly where it began, and what
is not reached this way is walked one by one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from recollect.compat.nvecd.snapshot.layout import U32
from recollect.compat.nvecd.snapshot.ragged import windows

Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_HEAD_WIDTH = U32.size
_SPAN_BYTES = 8192  # a walk per so many bytes pays; below twice of it, one walk is as quick
_WALK_COUNT_MAX = 4096
_WINDOW_BYTES = 1024  # so far behind its place a walk looks for a head
_PROOF_STEPS = 6
_TOGETHER_MIN = 48  # fewer walks than this are quicker one by one
_NAME_BYTES_LIKELY = 4096
_ROWS_LIKELY = 1 << 20


class Records(NamedTuple):
    """The records of a store, in order. Shapes: (n,) each.

    Attributes:
        places: Where each begins: at the length of its name.
        is_head: Whether it is a group's head.
        end: Behind the last record that is whole.
        rows_missing: Rows that the last group lacks; 0 if the walk ended between groups.
    """

    places: Places
    is_head: Flags
    end: int
    rows_missing: int


class _Walk(NamedTuple):
    """A part of the store: records and where it came to a halt."""

    places: Places
    is_head: Flags
    position: int
    rows_left: int


def walk_groups(data: bytes, begin: int, width: int) -> Records:
    """Find all records from `begin`; rows have `width` bytes behind their names.

    Ends where the data does, or before the first record that is not whole.
    """
    end = len(data)
    starts = _starts(data, begin, width)
    walks = _walk_together(data, starts, width)
    parts: list[_Walk] = []
    position, rows_left = begin, 0
    for number, start in enumerate(starts.tolist()):
        if start < position or rows_left:
            continue  # a guess that was wrong, or a halt of the walk before
        if start > position:
            part = _walk_alone(data, position, rows_left, width=width, stop=start)
            parts.append(part)
            position, rows_left = part.position, part.rows_left
            if position != start or rows_left:
                continue
        part = walks[number]
        parts.append(part)
        stop = int(starts[number + 1]) if number + 1 < len(starts) else end
        position, rows_left = part.position, part.rows_left
        if position < stop or rows_left:
            part = _walk_alone(data, position, rows_left, width=width, stop=stop)
            parts.append(part)
            position, rows_left = part.position, part.rows_left
    if position < end or rows_left:
        part = _walk_alone(data, position, rows_left, width=width, stop=end)
        parts.append(part)
        position, rows_left = part.position, part.rows_left
    nothing = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_)
    return Records(
        np.concatenate([nothing[0], *(part.places for part in parts)]),
        np.concatenate([nothing[1], *(part.is_head for part in parts)]),
        position,
        rows_left,
    )


def words(data: bytes) -> npt.NDArray[np.uint32]:
    """Return the view whose element i is the u32 at byte i. Shapes: (len(data) - 3,)."""
    return np.ndarray((max(0, len(data) - 3),), dtype="<u4", buffer=data, strides=(1,))


def _walk_alone(data: bytes, position: int, rows_left: int, *, width: int, stop: int) -> _Walk:
    """Walk until a group ends at `stop` or behind it, or a record is not whole. Runs once per record."""
    places, is_head = list[int](), bytearray()
    read, end = U32.unpack_from, len(data)
    while position < stop or rows_left:
        behind = position + 4 + (width if rows_left else _HEAD_WIDTH)
        if behind > end:
            break
        behind += read(data, position)[0]
        if behind > end:
            break
        if rows_left:
            rows_left -= 1
            is_head.append(0)
        else:
            rows_left = read(data, behind - _HEAD_WIDTH)[0]
            if rows_left * (4 + width) > end - behind:
                rows_left = 0
                break
            is_head.append(1)
        places.append(position)
        position = behind
    return _Walk(
        np.array(places, dtype=np.int64), np.frombuffer(bytes(is_head), np.bool_), position, rows_left
    )


def _starts(data: bytes, begin: int, width: int) -> Places:
    """Guess heads, about one per span; ascending. The first is `begin`, which is one."""
    count = min(_WALK_COUNT_MAX, (len(data) - begin) // _SPAN_BYTES)
    if count < 2:
        return np.zeros(0, dtype=np.int64)
    span = (len(data) - begin - _WINDOW_BYTES - 4) // count
    corners = begin + np.arange(count, dtype=np.int64) * span
    window = min(span, _WINDOW_BYTES)
    found = windows(np.frombuffer(data, np.uint8), window + 4)[corners]
    low, high = found[:, :-4], found[:, 1:-3]
    # A likely length: two zero bytes above a number of one to `_NAME_BYTES_LIKELY`.
    likely = ((found[:, 2:-2] | found[:, 3:-1]) == 0) & (high < _NAME_BYTES_LIKELY >> 8) & ((low | high) > 0)
    walk, offset = np.divmod(np.flatnonzero(likely), window)
    places = corners[walk] + offset
    state, rows_left = places.copy(), np.zeros(len(places), dtype=np.int64)
    alive = np.arange(len(places))
    for _ in range(_PROOF_STEPS):
        at_end = state[alive] == len(data)
        step = _Step(data, state[alive], rows_left[alive], width)
        good = (step.is_whole & step.is_likely) | at_end
        moved = good & ~at_end
        state[alive[moved]], rows_left[alive[moved]] = step.position[moved], step.rows_left[moved]
        alive = alive[good]
    _, first = np.unique(walk[alive], return_index=True)
    heads = places[alive[first]]
    return np.unique(np.concatenate([[begin], heads[heads > begin]]))


class _Step:
    """One step of many walks. Shapes: (n,) for n walks; where `is_whole` is false, the rest means nothing."""

    def __init__(self, data: bytes, position: Places, rows_left: Places, width: int) -> None:
        read, end = words(data), len(data)
        last = end - 4
        self.is_head = rows_left == 0
        length = read[np.minimum(position, last)].astype(np.int64)
        tail = position + 4 + length
        self.position = tail + np.where(self.is_head, _HEAD_WIDTH, width)
        self.is_whole = self.position <= end
        count = read[np.minimum(tail, last)].astype(np.int64)
        self.rows_left = np.where(self.is_head, count, rows_left - 1)
        self.is_whole &= self.rows_left * (4 + width) <= end - self.position
        self.is_likely = (length > 0) & (length <= _NAME_BYTES_LIKELY) & (self.rows_left <= _ROWS_LIKELY)


def _walk_together(data: bytes, starts: Places, width: int) -> list[_Walk]:
    """Walk from each start to the next one, as far as records are whole."""
    count = len(starts)
    if not count:
        return []
    stops = np.append(starts[1:], len(data))
    position, rows_left = starts.copy(), np.zeros(count, dtype=np.int64)
    active = np.arange(count)
    places, heads = list[Places](), list[Flags]()
    while len(active) >= _TOGETHER_MIN:
        step = _Step(data, position[active], rows_left[active], width)
        row, flags = np.full(count, -1, dtype=np.int64), np.zeros(count, dtype=np.bool_)
        if not step.is_whole.all():
            whole = step.is_whole
            active = active[whole]
            step.position, step.rows_left, step.is_head = (
                step.position[whole],
                step.rows_left[whole],
                step.is_head[whole],
            )
        row[active], flags[active] = position[active], step.is_head
        places.append(row)
        heads.append(flags)
        position[active], rows_left[active] = step.position, step.rows_left
        active = active[(step.position < stops[active]) | (step.rows_left > 0)]
    if not places:
        places, heads = [np.full(count, -1, dtype=np.int64)], [np.zeros(count, dtype=np.bool_)]
    by_walk, head_by_walk = np.stack(places, axis=1), np.stack(heads, axis=1)
    taken = (by_walk >= 0).sum(axis=1).tolist()
    return [
        _Walk(by_walk[walk, :size], head_by_walk[walk, :size], int(position[walk]), int(rows_left[walk]))
        for walk, size in enumerate(taken)
    ]
