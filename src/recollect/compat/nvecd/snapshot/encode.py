"""Columns to the bytes of sections, in pieces of bounded size.

Each function yields buffers that are used again: a piece is valid until the one after the next is asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from recollect.compat.nvecd.snapshot.content import EdgeColumns, EventColumns, Fields, SnapshotConfig
from recollect.compat.nvecd.snapshot.layout import U32
from recollect.compat.nvecd.snapshot.ragged import Bytes, Offsets, PrefixedNames, starts_of, write_fixed
from recollect.errors import UnsupportedError

PIECE_BYTES = 4 << 20
_RECORDS_AT_ONCE = 1024  # of metadata: a piece of about 100 KiB, so that other threads get their turn

Piece: TypeAlias = bytes | memoryview
VectorChunk: TypeAlias = tuple[Sequence[bytes], npt.NDArray[np.float32]]
_RUNS_MAX = 64  # of ids of one length in a piece; with more, rows are copied one by one

_CONFIG_HEAD = struct.Struct("<IIdI")
_CONFIG_TAIL = struct.Struct("<IIdd")
_VECTORS_HEAD = struct.Struct("<QI")
_I64, _F64 = struct.Struct("<Bq"), struct.Struct("<Bd")
TAG_STRING, TAG_INTEGER, TAG_DOUBLE, TAG_BOOL = 1, 2, 3, 4
INTEGER_MAX = 2**63 - 1


def encode_config(config: SnapshotConfig) -> bytes:
    """Encode the config section."""
    head = _CONFIG_HEAD.pack(
        config.ctx_buffer_size, config.decay_interval_sec, config.decay_alpha, config.default_dimension
    )
    tail = _CONFIG_TAIL.pack(config.default_top_k, config.max_top_k, config.fusion_alpha, config.fusion_beta)
    return head + encode_string(config.distance_metric) + tail


def encode_string(text: str) -> bytes:
    """Encode a string with its length."""
    encoded = text.encode("utf-8")
    return U32.pack(len(encoded)) + encoded


def encode_events(events: EventColumns) -> Iterator[Piece]:
    """Encode the events store."""
    contexts = PrefixedNames.of_texts(events.contexts)
    yield U32.pack(len(events.contexts))
    yield from _encode_groups(
        contexts,
        np.arange(len(events.contexts)),
        events.sizes,
        names=PrefixedNames.of_texts(events.names),
        numbers=events.items,
        rows=np.ascontiguousarray(events.rows),
    )


def encode_edges(edges: EdgeColumns) -> Iterator[Piece]:
    """Encode the co-occurrence store."""
    names = PrefixedNames.of_texts(edges.names)
    yield U32.pack(len(edges.sources))
    yield from _encode_groups(
        names,
        edges.sources,
        edges.sizes,
        names=names,
        numbers=edges.targets,
        rows=edges.weights.astype("<f4"),
    )


def encode_vectors(dimension: int, row_count: int, chunks: Iterable[VectorChunk]) -> Iterator[Piece]:
    """Encode the vectors store from chunks of ids in UTF-8 and rows. Shapes: n ids, rows (n, dimension)."""
    yield _VECTORS_HEAD.pack(dimension, row_count)
    buffers = _Buffers()
    for ids, rows in chunks:
        table = PrefixedNames(ids)
        numbers = np.arange(len(ids))
        starts = starts_of(table.sizes + 4 * dimension)
        size = int(table.sizes.sum()) + 4 * dimension * len(ids)
        out = buffers.take(size)
        table.write(out, starts, numbers)
        _write_rows(out, table.sizes, starts, np.ascontiguousarray(rows, dtype="<f4"))
        yield out[:size].data


def _write_rows(out: Bytes, sizes: Offsets, starts: Offsets, rows: npt.NDArray[np.float32]) -> None:
    """Write vectors behind their ids, which take `sizes` bytes from `starts` on."""
    width = 4 * rows.shape[1]
    cuts = [0, *(np.flatnonzero(sizes[1:] != sizes[:-1]) + 1).tolist(), len(sizes)]
    if len(cuts) > _RUNS_MAX:
        write_fixed(out, starts + sizes, rows)
        return
    source = rows.view(np.uint8)
    for first, last in zip(cuts, cuts[1:], strict=False):
        # Ids of one length make a matrix of bytes: one copy, without the interpreter's lock.
        start, size, count = int(starts[first]), int(sizes[first]), last - first
        matrix = out[start : start + count * (size + width)].reshape(count, size + width)
        matrix[:, size:] = source[first:last]


def encode_metadata(record_count: int, records: Iterable[tuple[str, Fields]]) -> Iterator[Piece]:
    """Encode the metadata store.

    Raises:
        UnsupportedError: An integer does not fit 64 bits; such fields belong into the extra store.
    """
    yield U32.pack(record_count)
    parts: list[bytes] = []
    pending = 0
    for item, fields in records:
        parts += [encode_string(item), encode_fields(fields)]
        pending += 1
        if pending >= _RECORDS_AT_ONCE:
            yield b"".join(parts)
            parts, pending = [], 0
    yield b"".join(parts)


def encode_fields(fields: Fields) -> bytes:
    """Encode the number of fields, then key, tag and value of each."""
    parts = [U32.pack(len(fields))]
    for key, value in fields:
        parts.append(encode_string(key))
        if isinstance(value, bool):
            parts.append(bytes((TAG_BOOL, value)))
        elif isinstance(value, int):
            if not -INTEGER_MAX - 1 <= value <= INTEGER_MAX:
                raise UnsupportedError(
                    f"the metadata field {key!r} holds {value}, which does not fit 64 bits"
                )
            parts.append(_I64.pack(TAG_INTEGER, value))
        elif isinstance(value, float):
            parts.append(_F64.pack(TAG_DOUBLE, value))
        else:
            parts.append(bytes((TAG_STRING,)) + encode_string(value))
    return b"".join(parts)


def _encode_groups(
    heads: PrefixedNames,
    head_numbers: npt.NDArray[np.int64] | npt.NDArray[np.uint32],
    sizes: Offsets,
    *,
    names: PrefixedNames,
    numbers: npt.NDArray[np.uint32],
    rows: npt.NDArray[np.void] | npt.NDArray[np.float32],
) -> Iterator[Piece]:
    """Encode groups: a head, how many rows it has, and its rows, each a name and fixed fields."""
    row_sizes = names.sizes[numbers] + rows.itemsize
    row_ends = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(row_sizes, out=row_ends[1:])
    group_rows = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=group_rows[1:])
    group_sizes = heads.sizes[head_numbers] + U32.size + np.diff(row_ends[group_rows])
    buffers = _Buffers()
    for first, last in _pieces(group_sizes):
        rows_first, rows_last = int(group_rows[first]), int(group_rows[last])
        starts = starts_of(group_sizes[first:last])
        size = int(group_sizes[first:last].sum())
        out = buffers.take(size)
        head_ends = starts + heads.sizes[head_numbers[first:last]]
        heads.write(out, starts, head_numbers[first:last])
        write_fixed(out, head_ends, sizes[first:last].astype("<u4"))
        # A row stands behind its group's head by as much as the rows before it in the group take.
        owner = np.repeat(np.arange(last - first), sizes[first:last])
        within = row_ends[rows_first:rows_last] - row_ends[group_rows[first:last]][owner]
        offsets = (head_ends + U32.size)[owner] + within
        chosen = numbers[rows_first:rows_last]
        names.write(out, offsets, chosen)
        write_fixed(out, offsets + names.sizes[chosen], rows[rows_first:rows_last])
        yield out[:size].data


def _pieces(sizes: Offsets) -> Iterator[tuple[int, int]]:
    """Cut groups into runs of about `PIECE_BYTES`."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        base = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, base + PIECE_BYTES, side="right")))
        yield first, last
        first = last


class _Buffers:
    """Two buffers by turns: fresh pages are dear, and one piece is written while the next is made."""

    def __init__(self) -> None:
        self._buffers = [np.empty(0, dtype=np.uint8), np.empty(0, dtype=np.uint8)]

    def take(self, size: int) -> Bytes:
        """Return the buffer that was not taken last, with room for `size` bytes."""
        older, newer = self._buffers
        if len(older) < size:
            older = np.empty(max(size, 2 * len(older)), dtype=np.uint8)
        self._buffers = [newer, older]
        return older
